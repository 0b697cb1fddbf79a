import { FakeEngine } from '../fixtures/fake-engine.ts';
import { engineContract } from './engine-contract.ts';
import { contractProgram } from './engine-programs.ts';

const IMAGE = 'longline-test/busybox:1';

engineContract(
  'fake',
  async () => {
    const engine = new FakeEngine({ images: [IMAGE], program: contractProgram });
    const daemon = { lose: async () => engine.lose(), recover: async () => engine.recover() };
    return { engine, deaf: engine, image: IMAGE, daemon, [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose]() };
  },
  { kind: 'docker', reportsOutOfMemory: true, exactLog: true },
);
