import { parseEngineAddress } from '../../src/platform/docker/engine-address.ts';
import { DockerSessionEngine } from '../../src/platform/docker/session-engine.ts';
import { dockerMissing, podmanMissing, startDocker, startPodman, type TestEngine } from '../fixtures/engines.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';
import { type SessionEngineSubject, sessionEngineContract } from './session-engine-contract.ts';

async function subject(start: () => Promise<TestEngine>): Promise<SessionEngineSubject> {
  const daemon = await start();
  await loadTestImages(daemon);
  const engine = new DockerSessionEngine(parseEngineAddress(daemon.host));
  return {
    engine,
    image: TEST_IMAGE,
    daemon: { lose: () => daemon.kill9(), recover: () => daemon.restart() },
    [Symbol.asyncDispose]: async () => {
      await engine[Symbol.asyncDispose]();
      await daemon.dispose();
    },
  };
}

sessionEngineContract(
  'Docker',
  () => subject(() => startDocker({ liveRestore: true })),
  { kind: 'docker', real: true },
  dockerMissing() ?? testImageMissing(),
);

sessionEngineContract(
  'Podman',
  () => subject(startPodman),
  { kind: 'podman', real: true },
  podmanMissing() ?? testImageMissing(),
);
