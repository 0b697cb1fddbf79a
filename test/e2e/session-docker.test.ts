import { dockerMissing, startDocker } from '../fixtures/engines.ts';
import { testImageMissing } from '../fixtures/test-image.ts';
import { sessionSuite } from './session-suite.ts';

sessionSuite('Docker', startDocker, dockerMissing() ?? testImageMissing());
