import { podmanMissing, startPodman } from '../fixtures/engines.ts';
import { testImageMissing } from '../fixtures/test-image.ts';
import { jobSuite } from './job-suite.ts';

jobSuite('Podman', startPodman, podmanMissing() ?? testImageMissing());
