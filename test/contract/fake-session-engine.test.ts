import { FakeSessionEngine } from '../fixtures/fake-session-engine.ts';
import { sessionEngineContract } from './session-engine-contract.ts';

sessionEngineContract(
  'fake',
  async () => {
    const engine = new FakeSessionEngine({
      program: async ({ run, write, stopped }) => {
        write(`run ${run}\n`);
        return await stopped;
      },
    });
    const daemon = { lose: async () => engine.lose(), recover: async () => engine.recover() };
    return { engine, image: 'desktop:1', daemon, [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose]() };
  },
  { kind: 'docker', real: false },
);
