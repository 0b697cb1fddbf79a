import { dockerMissing, sharedDocker } from '../fixtures/engines.ts';
import { testImageMissing } from '../fixtures/test-image.ts';
import { jobSuite } from './job-suite.ts';

jobSuite('Docker', sharedDocker, dockerMissing() ?? testImageMissing());
