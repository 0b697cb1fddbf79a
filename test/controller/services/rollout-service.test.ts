import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs, durationMs } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import {
  type ProgramAssignmentSchema,
  ProgramDelivery,
  type Rollout,
  RolloutAgentState,
  RolloutState,
  type RolloutStrategySchema,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { type ProgramSpec, ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import type { LonglineError } from '../../../src/core/errors.ts';
import { newId } from '../../../src/core/ids.ts';
import { fromConnectError } from '../front/received-errors.ts';
import { FleetUnderTest, until } from '../link/fleet-fixture.ts';
import { ProgramAgent } from '../rollouts/program-agent.ts';
import type { Fate } from '../rollouts/rollout-model.ts';
import { connection } from '../store/store-contract.ts';
import { artifactOf, piecesOf } from './program-fixture.ts';

type AssignmentInit = MessageInitShape<typeof ProgramAssignmentSchema> & { readonly $typeName?: never };
type StrategyInit = MessageInitShape<typeof RolloutStrategySchema> & { readonly $typeName?: never };

const IDS = ['a', 'b', 'c', 'd'];
const UNDER_WAY: ReadonlySet<RolloutState> = new Set([RolloutState.RUNNING, RolloutState.WATCHING]);
const NO_PAUSE = { pause: durationFromMs(0) };

const refusal = async (call: Promise<unknown>): Promise<LonglineError> => {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ConnectError, `expected a ConnectError, got ${error}`);
  return fromConnectError(error);
};

describe('assignments and rollouts', () => {
  let fleet: FleetUnderTest;
  let agents: Map<string, ProgramAgent>;
  let digests: string[];
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
    agents = new Map();
    for (const id of IDS) {
      await fleet.store.agents.connect(connection(id, { nowMs: Date.now() }));
      agents.set(id, new ProgramAgent(id, fleet.store, fleet.services.bus));
    }
    digests = [];
    for (let version = 1; version <= 3; version++) {
      const { bytes, digest } = await artifactOf({ version: `${version}.0.0` });
      await fleet.programs.uploadArtifact(piecesOf(bytes));
      digests.push(digest);
    }
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());

  const put = async (version: number, strategy: StrategyInit = NO_PAUSE, patch: AssignmentInit = {}) => {
    const spec = { artifact: digests[version - 1]! };
    return await fleet.programs.putAssignment({ assignment: { name: 'drop', spec, strategy, ...patch } });
  };
  const find = async () => (await fleet.programs.getAssignment({ name: 'drop' })).assignment!;
  const rollout = async (id: string) => (await fleet.programs.getRollout({ id })).rollout!;
  const fates = (fate: Fate, version: number, ...ids: readonly string[]) => {
    for (const id of ids) agents.get(id)!.fate = (artifact) => (artifact === digests[version - 1] ? fate : 'well');
  };
  /** Agents do what there is to do, until the rollout is like this. */
  const reached = async (id: string, ...states: readonly RolloutState[]): Promise<Rollout> =>
    await until(`state ${states}`, async () => {
      for (const agent of agents.values()) await agent.apply();
      const found = await rollout(id);
      return states.includes(found.state) && found;
    });
  const having = (version: number) => {
    const runs = ({ artifact, name }: ProgramSpec) => name === 'drop' && artifact === digests[version - 1];
    return [...agents.values()]
      .filter(({ polled, programs }) => [...programs, ...polled].some(runs))
      .map(({ id }) => id);
  };

  it('are complete when they are stored, and told with what agents have of them', async () => {
    const { assignment, rollout: begun } = await put(1, {}, { selector: { agentIds: ['b', 'a', 'a'] } });
    const asked = assignment!.assignment!;
    assert.deepEqual(
      [asked.spec!.name, asked.delivery, asked.selector!.agentIds],
      ['drop', ProgramDelivery.PUSH, ['a', 'b']],
    );
    const { pause, waves, waveTimeout } = asked.strategy!;
    assert.deepEqual([waves, durationMs(pause!), durationMs(waveTimeout!)], [[100], 60_000, 600_000]);
    assert.deepEqual([assignment!.agents, assignment!.rolloutId], [2, begun!.id]);
    assert.deepEqual([begun!.agentCount, begun!.waves, begun!.previousSpec], [2, 1, undefined]);
    // Agents may be quicker than the answer.
    assert.ok(UNDER_WAY.has(begun!.state), RolloutState[begun!.state]);
    const watched = await reached(begun!.id, RolloutState.WATCHING);
    assert.deepEqual([watched.currentCount, watched.nextWaveTime], [2, undefined], 'it is the last');
    assert.equal((await find()).agentsCurrent, 2);
    const again = await put(1, {}, { selector: { agentIds: ['a', 'b'] } });
    assert.deepEqual([again.rollout, again.assignment!.rolloutId], [undefined, begun!.id]);
    const widened = await put(1, { waves: [25] });
    assert.deepEqual([widened.assignment!.assignment!.strategy!.waves, widened.rollout!.waves], [[25, 100], 2]);
    const { rollouts } = await fleet.programs.listRollouts({ assignment: 'drop' });
    assert.deepEqual(
      rollouts.map(({ agents: listed, id }) => [id, listed.length]),
      [
        [widened.rollout!.id, 0],
        [begun!.id, 0],
      ],
    );
    assert.ok(UNDER_WAY.has(rollouts[0]!.state), RolloutState[rollouts[0]!.state]);
    assert.equal(rollouts[1]!.state, RolloutState.SUPERSEDED);
  });

  it('are refused with every wrong field, and checked only if that is all that was asked for', async () => {
    const strategy = {
      waves: [0, 50, 50, 101],
      pause: durationFromMs(-1),
      waveTimeout: durationFromMs(10),
      maxFailedPercent: 101,
    };
    const spec = { name: 'other', artifact: 'x', attach: ['nowhere'] };
    const selector = { matchLabels: { 'a b': 'c' } };
    const wrong = { name: '9', spec, strategy, selector, delivery: 9 as 0 };
    const { reason, violations } = await refusal(fleet.programs.putAssignment({ assignment: wrong }));
    assert.equal(reason, 'invalid');
    assert.deepEqual([...new Set(violations.map(({ field }) => field))].sort(), [
      'assignment.delivery',
      'assignment.name',
      'assignment.selector.match_labels["a b"]',
      'assignment.spec.artifact',
      'assignment.spec.attach[0]',
      'assignment.spec.name',
      'assignment.strategy.max_failed_percent',
      'assignment.strategy.pause',
      'assignment.strategy.wave_timeout',
      'assignment.strategy.waves[0]',
      'assignment.strategy.waves[2]',
      'assignment.strategy.waves[3]',
    ]);
    const parameters = { nothing: '1' };
    const unfit = put(1, NO_PAUSE, { spec: { artifact: digests[0]!, parameters } });
    assert.equal((await refusal(unfit)).violations[0]?.field, 'assignment.spec.parameters.nothing');
    assert.equal((await refusal(fleet.programs.putAssignment({}))).violations[0]?.field, 'assignment');
    const missing = fleet.programs.putAssignment({ assignment: { name: 'drop' } });
    assert.equal((await refusal(missing)).violations[0]?.field, 'assignment.spec');
    const unknown = { name: 'drop', spec: { artifact: `sha256:${'0'.repeat(64)}` } };
    assert.equal((await refusal(fleet.programs.putAssignment({ assignment: unknown }))).reason, 'wrong_state');
    const checked = { name: 'drop', spec: { artifact: digests[0]! } };
    const only = await fleet.programs.putAssignment({ assignment: checked, validateOnly: true });
    assert.deepEqual([only.assignment!.agents, only.rollout], [4, undefined]);
    assert.equal((await refusal(find())).reason, 'not_found');
    assert.equal((await refusal(fleet.programs.getAssignment({ name: '9' }))).violations[0]?.field, 'name');
  });

  it('and programs that were put by themselves do not take each other away', async () => {
    const spec = create(ProgramSpecSchema, { name: 'drop', artifact: digests[0]! });
    await fleet.programs.putProgram({ agentId: 'b', spec });
    const own = await refusal(put(1));
    assert.deepEqual([own.reason, /agent b has a program drop/.test(own.message)], ['wrong_state', true]);
    await fleet.programs.deleteProgram({ agentId: 'b', name: 'drop' });
    await put(1, NO_PAUSE, { selector: { agentIds: ['a'] } });
    const ruled = await refusal(fleet.programs.putProgram({ agentId: 'b', spec }));
    assert.deepEqual([ruled.reason, /assignment drop/.test(ruled.message)], ['wrong_state', true]);
    const wanted = await refusal(fleet.programs.deleteArtifact({ digest: digests[0]! }));
    assert.match(wanted.message, /assignment drop|program drop of agent a/);
  });

  it('go over the fleet, and are followed until they end', async () => {
    const first = (await put(1)).rollout!;
    const seen: Rollout[] = [];
    const watching = (async () => {
      for await (const told of fleet.programs.watchRollout({ id: first.id })) seen.push(told.rollout!);
    })();
    await reached(first.id, RolloutState.DONE);
    await watching;
    const last = seen.at(-1)!;
    assert.deepEqual([last.state, last.currentCount, last.endTime !== undefined], [RolloutState.DONE, 4, true]);
    for (const [place, told] of seen.entries()) assert.notDeepEqual(told, seen[place - 1], 'each is a change');
    const { programs } = await fleet.programs.listPrograms({ filter: { assignment: 'drop' } });
    assert.deepEqual(
      programs.map(({ agentId }) => agentId),
      IDS,
    );
    const second = (await put(2, { ...NO_PAUSE, waves: [25, 50, 100], manual: true })).rollout!;
    assert.equal(second.previousSpec!.artifact, digests[0]);
    for (const wave of [1, 2]) {
      const waiting = await reached(second.id, RolloutState.PAUSED);
      assert.deepEqual([waiting.wave, having(2).length], [wave, wave]);
      assert.match(waiting.reason, /resumed/);
      await fleet.programs.resumeRollout({ id: second.id });
    }
    await reached(second.id, RolloutState.DONE);
    assert.equal(having(2).length, 4);
    const over = await refusal(fleet.programs.pauseRollout({ id: second.id }));
    assert.deepEqual([over.reason, /is over/.test(over.message)], ['wrong_state', true]);
  });

  it('are halted when too many fail, and go back or stay as is asked for', async () => {
    await reached((await put(1)).rollout!.id, RolloutState.DONE);
    fates('fails', 2, ...IDS);
    const back = (await put(2, { ...NO_PAUSE, waves: [50, 100], maxFailedPercent: 40 })).rollout!;
    const ended = await reached(back.id, RolloutState.ROLLED_BACK);
    assert.match(ended.reason, /agents reached so far failed/);
    assert.deepEqual([having(1).length, ended.failedCount], [4, 2]);
    const reverted = ended.agents.filter(({ state }) => state === RolloutAgentState.REVERTED);
    assert.equal(reverted.length, 4);
    assert.deepEqual(
      reverted.map(({ reason }) => reason !== ''),
      [true, true, false, false],
      'failed ones first',
    );
    assert.equal((await find()).agentsCurrent, 0);
    const keep = (await put(2, { ...NO_PAUSE, waves: [50, 100], keepOnHalt: true })).rollout!;
    const halted = await reached(keep.id, RolloutState.HALTED);
    assert.deepEqual([halted.endTime, having(2).length], [undefined, 2]);
    assert.match((await refusal(fleet.programs.resumeRollout({ id: keep.id }))).message, /abort it, or put/);
    const aborted = (await fleet.programs.abortRollout({ id: keep.id, reason: 'no good' })).rollout!;
    assert.deepEqual([aborted.state, aborted.reason], [RolloutState.ROLLING_BACK, 'it was aborted: no good']);
    await reached(keep.id, RolloutState.ROLLED_BACK);
    assert.equal(having(1).length, 4);
    const again = await fleet.programs.putAssignment({ assignment: { ...(await find()).assignment! } });
    assert.notEqual(again.rollout, undefined, 'what was rolled back is tried again');
  });

  it('go on although the latest rollout is of a later time: the clock was put back, or is that of another controller', async () => {
    const first = (await put(1)).rollout!;
    await reached(first.id, RolloutState.DONE);
    const { assignment } = (await fleet.store.assignments.get('drop'))!;
    const ended = (await fleet.store.assignments.rollout(first.id))!.rollout;
    const ahead = (Date.now() + 3_600_000).toString(16).padStart(12, '0');
    const id = `${ahead.slice(0, 8)}-${ahead.slice(8)}${first.id.slice(13)}`;
    const change = {
      name: 'drop',
      baseRevision: assignment.revision,
      nowMs: Date.now(),
      putRollouts: [{ ...ended, id }],
    };
    assert.equal((await fleet.store.assignments.commit(change)).kind, 'stored');
    const second = (await put(2)).rollout!;
    assert.ok(second.id > id, `${second.id} after ${id}`);
    await reached(second.id, RolloutState.DONE);
    assert.deepEqual([having(2), (await find()).rolloutId], [IDS, second.id]);
  });

  it('are paused and go on', async () => {
    const { id } = (await put(1, { ...NO_PAUSE, waves: [25, 100] })).rollout!;
    await fleet.programs.pauseRollout({ id });
    assert.equal((await fleet.programs.pauseRollout({ id })).rollout!.state, RolloutState.PAUSED);
    await until('the wave to be through', async () => {
      for (const agent of agents.values()) await agent.apply();
      return (await rollout(id)).currentCount === 1;
    });
    const held = await rollout(id);
    assert.deepEqual([held.state, held.wave, held.nextWaveTime], [RolloutState.PAUSED, 1, undefined]);
    await fleet.programs.resumeRollout({ id });
    await reached(id, RolloutState.DONE);
    assert.equal(having(1).length, 4);
    for (const wrong of ['', 'x']) {
      assert.equal((await refusal(fleet.programs.getRollout({ id: wrong }))).violations[0]?.field, 'id');
    }
    assert.equal((await refusal(fleet.programs.abortRollout({ id: newId() }))).reason, 'not_found');
    const long = fleet.programs.abortRollout({ id, reason: 'x'.repeat(1025) });
    assert.equal((await refusal(long)).violations[0]?.field, 'reason');
  });

  it('are found by polling, and by agents that come later', async () => {
    const { id } = (await put(1, NO_PAUSE, { delivery: ProgramDelivery.POLL })).rollout!;
    await reached(id, RolloutState.DONE);
    assert.deepEqual([agents.get('a')!.programs, agents.get('a')!.polled.length], [[], 1]);
    const { programs } = await fleet.programs.listPrograms({ filter: { agentId: 'a' } });
    assert.deepEqual([programs[0]!.spec!.name, programs[0]!.assignment], ['drop', 'drop']);
    await fleet.store.agents.connect(connection('e'));
    fleet.services.bus.publish({ name: 'fleet' }, { agentId: 'e' });
    const late = new ProgramAgent('e', fleet.store, fleet.services.bus);
    await until('the late one to find it', async () => {
      await late.apply();
      return late.polled.length === 1;
    });
    await until('it to count', async () => (await find()).agentsCurrent === 5);
  });

  it('are listed in pages, and gone once every agent has let go', async () => {
    const spec = { artifact: digests[0]! };
    const selector = { agentIds: ['a'] };
    for (const name of ['x', 'y']) await fleet.programs.putAssignment({ assignment: { name, spec, selector } });
    const { id } = (await put(1)).rollout!;
    const first = await fleet.programs.listAssignments({ pageSize: 2 });
    const rest = await fleet.programs.listAssignments({ pageToken: first.nextPageToken });
    const names = [...first.assignments, ...rest.assignments].map(({ assignment }) => assignment!.name);
    assert.deepEqual([names, rest.nextPageToken], [['drop', 'x', 'y'], '']);
    await reached(id, RolloutState.DONE);
    const { assignment } = await fleet.programs.deleteAssignment({ name: 'drop' });
    assert.deepEqual([assignment!.removing, assignment!.agents], [true, 4]);
    assert.match((await refusal(put(2))).message, /is being removed/);
    await until('it to be gone', async () => {
      for (const agent of agents.values()) await agent.apply();
      return (await fleet.store.assignments.get('drop')) === undefined;
    });
    assert.deepEqual(
      agents
        .get('a')!
        .runs()
        .map((one) => one[0]),
      ['x', 'y'],
      'the others stay',
    );
    assert.equal((await refusal(fleet.programs.getRollout({ id }))).reason, 'not_found');
    const other = (await fleet.programs.getAssignment({ name: 'x' })).assignment!.rolloutId;
    let told = 0;
    const watching = (async () => {
      for await (const _ of fleet.programs.watchRollout({ id: other })) told += 1;
    })();
    await until('the watch to begin', () => told > 0);
    await fleet.programs.deleteAssignment({ name: 'x' });
    await watching;
  });
});
