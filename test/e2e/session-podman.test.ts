import { podmanMissing, startPodman } from '../fixtures/engines.ts';
import { testImageMissing } from '../fixtures/test-image.ts';
import { sessionSuite } from './session-suite.ts';

sessionSuite('Podman', startPodman, podmanMissing() ?? testImageMissing());
