import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { desiredStatesTopic, programsTopic } from '../../../src/controller/bus/topics.ts';
import { runProgramUpkeep } from '../../../src/controller/programs/program-upkeep.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { Progress } from '../../../src/core/progress.ts';
import { FleetUnderTest, until } from '../link/fleet-fixture.ts';
import { artifactOf, piecesOf } from '../services/program-fixture.ts';
import { connection } from '../store/store-contract.ts';

const PROGRAMS = 2;

describe('programs that were taken away', () => {
  let fleet: FleetUnderTest;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start({ services: { recheckMs: 50 } });
    await fleet.store.agents.connect(connection('a'));
    const { bytes, digest } = await artifactOf();
    await fleet.programs.uploadArtifact(piecesOf(bytes));
    await fleet.programs.putProgram({ agentId: 'a', spec: { name: 'p', artifact: digest } });
    await fleet.programs.deleteProgram({ agentId: 'a', name: 'p' });
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());

  const tell = async (generation: bigint, sources: readonly string[]) => {
    const programs = sources.map((source) => ({ name: 'p', source }));
    const report = create(StateReportSchema, {
      kind: PROGRAMS,
      generation,
      detail: { case: 'programs', value: { programs } },
    });
    const stored = { agentId: 'a', kind: PROGRAMS, generation, storedAtMs: 1 };
    await fleet.store.stateReports.put({ ...stored, report: toBinary(StateReportSchema, report) });
  };
  const left = async () => (await fleet.store.programs.ofAgent('a')).length;
  const gone = async () => await until('the program to be gone', async () => (await left()) === 0);

  it('stay until their agent says of that generation that they are gone', async () => {
    using _ = await fleet.services.bus.listen(programsTopic, (event) => {
      if (event.kind === 'message') told.push(event.message.name);
    });
    const told: string[] = [];
    for (const [generation, sources] of [
      [1n, []],
      [2n, ['controller']],
    ] as const) {
      await tell(generation, sources);
      fleet.services.bus.publish(desiredStatesTopic, { agentId: 'a', stateKind: PROGRAMS });
      // What was published is handled before what comes after it.
      await fleet.programs.listPrograms({});
      assert.equal(await left(), 1, `after generation ${generation}`);
    }
    await tell(2n, ['registry']);
    fleet.services.bus.publish(desiredStatesTopic, { agentId: 'a', stateKind: PROGRAMS });
    await gone();
    await until('it to be told', () => told.includes('p'));
  });

  it('go although others before them stay, more than are read at once', async () => {
    const { bus, store } = { bus: fleet.services.bus, store: fleet.store };
    await store.agents.connect(connection('b'));
    const { artifact } = (await store.programs.ofAgent('a'))[0]!;
    await fleet.programs.putProgram({ agentId: 'b', spec: { name: 'q', artifact } });
    await fleet.programs.deleteProgram({ agentId: 'b', name: 'q' });
    const looked: string[] = [];
    const programs = new Proxy(store.programs, {
      get: (target, method) => {
        if (method === 'agentsRemoving') return async (after: string) => await target.agentsRemoving(after, 1);
        if (method !== 'ofAgent') return (Reflect.get(target, method) as () => unknown).bind(target);
        return async (agentId: string) => {
          looked.push(agentId);
          return await target.ofAgent(agentId);
        };
      },
    });
    const stop = new AbortController();
    const progress = new Progress('programs', systemClock);
    const base = { bus, clock: systemClock, log: silentLogger, progress, recheckMs: 3_600_000 };
    const parts = { ...base, store: { ...store, programs } };
    const running = runProgramUpkeep(parts, stop.signal);
    await until('a look at each', () => looked.length === 2);
    stop.abort();
    await running;
    assert.deepEqual(looked, ['a', 'b']);
  });

  it('go though nobody said that there was a report', async () => {
    await tell(2n, []);
    await gone();
  });

  it('go with an agent that will say nothing any more', async () => {
    await fleet.store.agents.revoke('a', 'lost');
    await gone();
  });
});
