import { DockerEngine } from '../../src/platform/docker/docker-engine.ts';
import { parseEngineAddress } from '../../src/platform/docker/engine-address.ts';
import { DeafProxy } from '../fixtures/deaf-proxy.ts';
import { dockerMissing, podmanMissing, startDocker, startPodman, type TestEngine } from '../fixtures/engines.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';
import { type EngineSubject, engineContract } from './engine-contract.ts';

async function subject(start: () => Promise<TestEngine>): Promise<EngineSubject> {
  const daemon = await start();
  await loadTestImages(daemon);
  const engine = new DockerEngine(parseEngineAddress(daemon.host));
  const proxy = await DeafProxy.start(daemon.socketPath);
  const address = parseEngineAddress(`tcp://127.0.0.1:${proxy.port}`);
  const deaf = new DockerEngine(address, { exitWatch: { everyMs: 300, afterOutputMs: 100 } });
  return {
    engine,
    deaf,
    image: TEST_IMAGE,
    daemon: { lose: () => daemon.kill9(), recover: () => daemon.restart() },
    [Symbol.asyncDispose]: async () => {
      await engine[Symbol.asyncDispose]();
      await deaf[Symbol.asyncDispose]();
      await proxy[Symbol.asyncDispose]();
      await daemon.dispose();
    },
  };
}

engineContract(
  'Docker',
  // Without live restore a restarted dockerd gives each container ten seconds to end.
  () => subject(() => startDocker({ liveRestore: true })),
  { kind: 'docker', reportsOutOfMemory: true, exactLog: true },
  dockerMissing() ?? testImageMissing(),
);

engineContract(
  'Podman',
  () => subject(startPodman),
  { kind: 'podman', reportsOutOfMemory: false, exactLog: true },
  podmanMissing() ?? testImageMissing(),
);
