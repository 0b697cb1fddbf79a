// Rollouts on a real store: what agents are asked for as waves go over the fleet, and that a driver which is killed before or
// after any of its writes leaves nothing that the next can't take up.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { ProgramAssignmentSchema, ProgramDelivery } from '#gen/longline/fleet/v1/program_service_pb.js';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { MemoryBus } from '../../../src/controller/bus/memory/memory-bus.ts';
import { assignmentsTopic } from '../../../src/controller/bus/topics.ts';
import { ProgramChanges, programHash } from '../../../src/controller/programs/program-changes.ts';
import { tellAgent } from '../../../src/controller/rollouts/agent-telling.ts';
import { tellings } from '../../../src/controller/rollouts/assigned-agents.ts';
import {
  type AskedChange,
  abortRollout,
  putAssignment,
  removeAssignment,
  resumeRollout,
} from '../../../src/controller/rollouts/assignment-change.ts';
import { RolloutDriver } from '../../../src/controller/rollouts/rollout-driver.ts';
import { AssignmentPlan, targetOf } from '../../../src/controller/rollouts/target.ts';
import type { RolloutRecord } from '../../../src/controller/store/rollout.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { newId } from '../../../src/core/ids.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { until } from '../link/fleet-fixture.ts';
import { connection } from '../store/store-contract.ts';
import { artifactOf, ProgramAgent, storeArtifacts } from './program-agent.ts';
import { type AskedInit, assignmentOf, type Fate, NAME, PAUSE_MS, TIMEOUT_MS } from './rollout-model.ts';

const NOW = Date.UTC(2030, 0, 1);
const IDS = ['a', 'b', 'c', 'd', 'e'];

class Killed extends Error {}

/** The store as a driver sees it that is killed before or after its write of this number. */
function mortal(store: Store, killAt: { writes: number; readonly after: boolean }): Store {
  const writes = ['commit', 'tell', 'forget', 'delete'];
  const assignments = new Proxy(store.assignments, {
    get: (target, name) => {
      const method = Reflect.get(target, name) as (...parameters: unknown[]) => Promise<unknown>;
      if (typeof name !== 'string' || !writes.includes(name)) return method.bind(target);
      return async (...parameters: unknown[]) => {
        killAt.writes--;
        if (killAt.writes < 0 || (killAt.writes === 0 && !killAt.after)) throw new Killed();
        const result = await method.apply(target, parameters);
        if (killAt.writes === 0) throw new Killed();
        return result;
      };
    },
  });
  return { ...store, assignments };
}

describe('rollout driver', () => {
  let folder: string;
  let store: Store;
  let bus: MemoryBus;
  let agents: Map<string, ProgramAgent>;
  let nowMs = NOW;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-rollout-'));
    store = openSqliteStore(join(folder, 'store.db'));
    bus = new MemoryBus(silentLogger);
    agents = new Map();
    nowMs = NOW;
    await storeArtifacts(store, 1, 2, 3);
    await connect(...IDS);
  });
  afterEach(async () => {
    await bus[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const clock = { ...systemClock, now: () => nowMs, monotonic: () => systemClock.monotonic() + nowMs - NOW };
  const driver = (on: Store = store) => new RolloutDriver({ store: on, bus, clock, log: silentLogger, recheckMs: 50 });
  const state = async () => (await store.assignments.get(NAME))!;

  async function connect(...ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      await store.agents.connect(connection(id, { nowMs }));
      if (!agents.has(id)) agents.set(id, new ProgramAgent(id, store, bus));
    }
  }

  async function disconnect(id: string): Promise<void> {
    await store.agents.disconnect(id, (await store.agents.get(id))!.connectionId, nowMs);
  }

  async function commit(change: AskedChange | undefined): Promise<void> {
    if (change === undefined) return;
    const before = await store.assignments.get(NAME);
    const baseRevision = before?.assignment.revision ?? 0;
    assert.equal((await store.assignments.commit({ name: NAME, baseRevision, nowMs, ...change })).kind, 'stored');
    bus.publish(assignmentsTopic, { assignment: NAME });
  }

  async function put(init: Omit<AskedInit, 'artifact'> & { readonly artifact: number }): Promise<RolloutRecord> {
    const asked = toBinary(ProgramAssignmentSchema, assignmentOf({ ...init, artifact: artifactOf(init.artifact) }));
    const before = await store.assignments.get(NAME);
    const selectors = [targetOf(asked), ...(before?.assignment.settled ? [targetOf(before.assignment.settled)] : [])];
    const records = await store.assignments.agents(
      NAME,
      selectors.map(({ selector }) => selector),
    );
    const { change, rollout } = putAssignment(NAME, before, asked, records, newId(), nowMs);
    await commit(change);
    return rollout!;
  }

  /** The driver and all agents but those that are away do what there is to do, at this instant. */
  async function settle(driving = driver(), away: readonly string[] = []): Promise<void> {
    for (let turn = 0; turn < 60; turn++) {
      await driving.drive(NAME);
      let said = false;
      for (const agent of agents.values()) if (!away.includes(agent.id)) said = (await agent.apply()) || said;
      if (!said) return;
    }
    throw new Error('the rollout does not come to rest');
  }

  async function pass(ms: number, driving = driver(), away: readonly string[] = []): Promise<void> {
    nowMs += ms;
    await settle(driving, away);
  }

  const having = (artifact: number) =>
    [...agents.values()].filter((agent) => agent.runs().includes(`${NAME} ${artifact}`)).map(({ id }) => id);
  const rollout = async (id: string) => (await store.assignments.rollout(id))!;
  const fateOf = (artifact: number, fate: Fate) => (digest: string) =>
    digest === artifactOf(artifact) ? fate : 'well';

  it('goes over the fleet in waves, each watched before the next', async () => {
    const driving = driver();
    const { id, waves } = await put({ artifact: 1, waves: [20, 60, 100] });
    assert.equal(waves, 3);
    await settle(driving);
    const [first] = having(1);
    assert.equal(having(1).length, 1);
    await pass(PAUSE_MS - 1, driving);
    assert.equal(having(1).length, 1, 'it is watched');
    await pass(1, driving);
    assert.deepEqual([having(1).length, having(1).includes(first!)], [3, true]);
    await pass(PAUSE_MS, driving);
    assert.equal(having(1).length, 5);
    assert.equal((await rollout(id)).rollout.phase, 'watching');
    await pass(PAUSE_MS, driving);
    const done = await rollout(id);
    assert.deepEqual([done.rollout.phase, done.rollout.endedAtMs], ['done', nowMs]);
    assert.deepEqual(done.counts, { all: 5, current: 5, failed: 0, offline: 0 });
    await put({ artifact: 2, waves: [20, 100] });
    await settle(driving);
    assert.deepEqual(having(2), [first], 'the same come first');
    assert.equal(having(1).length, 4);
  });

  it('gives everybody back what was there when too many fail, or takes it away if nothing was', async () => {
    agents.get('c')!.fate = fateOf(1, 'fails');
    const first = await put({ artifact: 1 });
    await settle();
    const nothing = await rollout(first.id);
    assert.equal(nothing.rollout.phase, 'rolled_back');
    assert.match(nothing.rollout.reason, /1 of 5 agents reached so far failed.*; c: too many steps/);
    assert.deepEqual([nothing.counts.failed, having(1)], [1, []]);
    await put({ artifact: 2 });
    await settle();
    await pass(PAUSE_MS);
    assert.equal(having(2).length, 5);
    for (const fate of ['rolls_back', 'refuses'] as const) {
      agents.get('c')!.fate = fateOf(3, fate);
      const { id } = await put({ artifact: 3, waves: [40, 100], maxFailedPercent: 20 });
      await settle();
      await pass(PAUSE_MS);
      await settle();
      const after = await rollout(id);
      if (after.rollout.phase === 'running' || after.rollout.phase === 'watching') {
        // One of five may fail; two may not.
        agents.get('d')!.fate = fateOf(3, fate);
        await settle();
      }
      assert.deepEqual([fate, (await rollout(id)).rollout.phase], [fate, 'rolled_back']);
      assert.equal(having(2).length, 5);
      agents.get('d')!.fate = () => 'well';
    }
  });

  it('waits for who is late, not for who is away, and has that catch up', async () => {
    const away = ['a', 'b'];
    for (const id of away) await disconnect(id);
    agents.get('c')!.fate = fateOf(1, 'hangs');
    const { id } = await put({ artifact: 1, waves: [60, 100], maxFailedPercent: 50 });
    const driving = driver();
    await settle(driving, away);
    assert.equal(having(1).length, 3, 'who is there comes first');
    await pass(TIMEOUT_MS - 1, driving, away);
    assert.equal((await rollout(id)).rollout.phase, 'running');
    await pass(1, driving, away);
    assert.deepEqual((await rollout(id)).counts, { all: 5, current: 2, failed: 1, offline: 0 });
    await pass(PAUSE_MS, driving, away);
    assert.equal((await rollout(id)).rollout.wave, 2);
    await pass(TIMEOUT_MS, driving, away);
    assert.equal((await rollout(id)).counts.offline, 2);
    await connect('a');
    await settle(driving, ['b']);
    assert.equal((await rollout(id)).counts.offline, 1);
    await pass(PAUSE_MS, driving, ['b']);
    assert.equal((await rollout(id)).rollout.phase, 'done');
    await connect('b');
    await settle(driving);
    assert.equal(having(1).length, 5);
  });

  it('does not count the time in which nobody could be heard', async () => {
    const { id } = await put({ artifact: 1, waves: [40, 100] });
    await driver().drive(NAME);
    for (const one of IDS) await disconnect(one);
    nowMs += 10 * TIMEOUT_MS;
    const driving = driver();
    await driving.drive(NAME);
    assert.deepEqual([(await rollout(id)).counts.offline, (await rollout(id)).rollout.wave], [0, 1]);
    await connect(...IDS);
    await settle(driving);
    assert.equal((await rollout(id)).counts.current, 2);
  });

  it('follows selectors: who comes later gets what holds, who leaves loses it', async () => {
    await store.agents.assignLabels('a', { tier: 'web' }, []);
    await store.agents.assignLabels('b', { tier: 'web' }, []);
    await put({ artifact: 1, labels: { tier: 'web' } });
    await settle();
    await pass(PAUSE_MS);
    assert.deepEqual(having(1), ['a', 'b']);
    await store.agents.assignLabels('c', { tier: 'web' }, []);
    await store.agents.assignLabels('a', {}, ['tier']);
    await settle();
    assert.deepEqual(having(1), ['b', 'c']);
    assert.deepEqual(await store.assignments.ofAgent('a'), [], 'nothing is kept of it');
    const { id } = await put({ artifact: 2, labels: { tier: 'web' }, waves: [50, 100] });
    await settle();
    await store.agents.assignLabels('d', { tier: 'web' }, []);
    await settle();
    assert.deepEqual([having(1).includes('d'), having(2).length], [true, 1], 'what was there before, until it is over');
    for (let turn = 0; turn < 2; turn++) await pass(PAUSE_MS);
    assert.equal((await rollout(id)).rollout.phase, 'done');
    assert.deepEqual(having(2), ['b', 'c', 'd']);
    await store.agents.revoke('b', 'lost');
    await settle(driver(), ['b']);
    assert.deepEqual(await store.assignments.ofAgent('b'), []);
  });

  it('widens in waves too, and takes the program from those that are picked no more', async () => {
    await store.agents.assignLabels('a', { tier: 'web' }, []);
    await put({ artifact: 1, labels: { tier: 'web' } });
    await settle();
    await pass(PAUSE_MS);
    const wide = await put({ artifact: 1, waves: [50, 100] });
    await settle();
    assert.equal(having(1).length, 3, 'a has it, and two of the four others');
    await commit(abortRollout((await state()).rollout!, (await state()).agents, 'enough', nowMs));
    await settle();
    assert.deepEqual([having(1), (await rollout(wide.id)).rollout.phase], [['a'], 'rolled_back']);
    const narrow = await put({ artifact: 1, labels: { tier: 'db' } });
    await settle();
    await pass(PAUSE_MS);
    assert.deepEqual([having(1), (await rollout(narrow.id)).rollout.phase], [[], 'done']);
  });

  it('has agents find it in their registry, and moves them between the ways of delivery', async () => {
    const { id } = await put({ artifact: 1, waves: [40, 100], delivery: ProgramDelivery.POLL });
    await settle();
    assert.equal(having(1).length, 2);
    await pass(PAUSE_MS);
    await pass(PAUSE_MS);
    assert.equal((await rollout(id)).rollout.phase, 'done');
    assert.equal(await store.desiredStates.get('a', 2), undefined, 'nothing is pushed');
    const tuned = await put({ artifact: 1, parameters: { limit: '2' }, delivery: ProgramDelivery.POLL });
    await driver().drive(NAME);
    assert.equal((await rollout(tuned.id)).counts.current, 0, 'it has the artifact, and not yet the parameters');
    await settle();
    await pass(PAUSE_MS);
    assert.equal((await rollout(tuned.id)).rollout.phase, 'done');
    await put({ artifact: 1, delivery: ProgramDelivery.PUSH });
    await settle();
    assert.deepEqual([agents.get('a')!.programs.length, agents.get('a')!.polled.length], [1, 0]);
    await pass(PAUSE_MS);
    agents.get('b')!.fate = fateOf(2, 'fails');
    await put({ artifact: 2, delivery: ProgramDelivery.POLL });
    await settle();
    assert.deepEqual([having(1).length, agents.get('b')!.polled], [5, []], 'it went back to what is pushed');
  });

  it('is superseded by what is asked for meanwhile', async () => {
    await put({ artifact: 1 });
    await settle();
    await pass(PAUSE_MS);
    const second = await put({ artifact: 2, waves: [60, 100], manual: true });
    await settle();
    const third = await put({ artifact: 3, waves: [20, 100], manual: true });
    await settle();
    assert.deepEqual([having(3).length, having(2), having(1).length], [1, [], 4]);
    const { rollout: over } = await rollout(second.id);
    assert.deepEqual([over.phase, over.reason.includes(third.id)], ['superseded', true]);
    await pass(10 * PAUSE_MS);
    const waiting = await state();
    assert.equal(waiting.rollout!.phase, 'waiting');
    await commit(resumeRollout(waiting.rollout!, waiting.agents, [], nowMs));
    await settle();
    await pass(PAUSE_MS);
    assert.deepEqual([having(3).length, (await state()).rollout], [5, undefined]);
  });

  it('takes nothing that an agent has by itself', async () => {
    const spec = create(ProgramSpecSchema, { name: NAME, artifact: artifactOf(3) });
    const own = { kind: 'put' as const, assignment: '', spec, hash: programHash(spec) };
    await new ProgramChanges({ store, bus, clock }).apply('b', () => [own]);
    assert.equal(await store.assignments.agentWithOwn(NAME), 'b');
    const { id } = await put({ artifact: 1, maxFailedPercent: 50 });
    await settle();
    await pass(PAUSE_MS);
    const [failed] = await store.assignments.rolloutAgents(id, 1);
    assert.equal(failed!.agentId, 'b');
    assert.match(failed!.reason, /of its own/);
    assert.deepEqual([having(3), having(1).length], [['b'], 4]);
    await commit(removeAssignment(await state(), nowMs));
    await settle();
    assert.deepEqual([having(3), having(1), await store.assignments.get(NAME)], [['b'], [], undefined]);
  });

  it('tells nobody what was decided before the last change', async () => {
    await put({ artifact: 1 });
    const plan = new AssignmentPlan(await state());
    const records = await store.assignments.agents(NAME, [plan.asked.selector]);
    await put({ artifact: 2 });
    const outcome = await tellAgent({ store, bus, clock }, plan.state.assignment, tellings(plan, records)[0]!);
    assert.deepEqual([outcome.kind, await store.desiredStates.get('a', 2)], ['overtaken', undefined]);
  });

  it('looks again when agents say something, and when time is over, without being asked', async () => {
    const stop = new AbortController();
    const running = driver().run(stop.signal);
    try {
      const { id } = await put({ artifact: 1, waves: [40, 100] });
      const wave = async (number: number) =>
        until(`wave ${number}`, async () => {
          for (const agent of agents.values()) await agent.apply();
          return having(1).length >= number && (await rollout(id)).rollout.phase === 'watching';
        });
      await wave(2);
      nowMs += PAUSE_MS;
      await wave(5);
      nowMs += PAUSE_MS;
      await until('the end', async () => (await rollout(id)).rollout.phase === 'done');
      await connect('f');
      await until('what came later', async () => (await store.assignments.ofAgent('f')).length === 1);
    } finally {
      stop.abort();
      await running;
    }
  });

  it('leaves the process to others while one is due and has to wait for its turn', async () => {
    const { id } = await put({ artifact: 1 });
    await settle();
    const gate = Promise.withResolvers<undefined>();
    let held = 0;
    const assignments = new Proxy(store.assignments, {
      get: (target, method) => {
        if (method !== 'get') return (Reflect.get(target, method) as () => unknown).bind(target);
        return async (name: string) => {
          if (name === NAME) return await target.get(name);
          held++;
          return await gate.promise;
        };
      },
    });
    const stop = new AbortController();
    let looks = 0;
    // One that goes round and round lets nobody else tell it to stop.
    const now = () => {
      if (++looks > 20_000) stop.abort();
      return nowMs;
    };
    const parts = { store: { ...store, assignments }, bus, log: silentLogger, recheckMs: 3_600_000 };
    const running = new RolloutDriver({ ...parts, clock: { ...clock, now } }).run(stop.signal);
    try {
      await until('a first look', () => looks > 2);
      for (const assignment of ['b', 'c', 'd', 'e']) bus.publish(assignmentsTopic, { assignment });
      await until('four that are busy', () => held === 4);
      nowMs += PAUSE_MS;
      bus.publish(assignmentsTopic, { assignment: 'f' });
      await new Promise((resolve) => setImmediate(resolve));
      assert.ok(!stop.signal.aborted, 'the driver went round and round');
      gate.resolve(undefined);
      await until('the end', async () => (await rollout(id)).rollout.phase === 'done');
    } finally {
      gate.resolve(undefined);
      stop.abort();
      await running;
    }
  });

  it('takes up what a killed one left, wherever that was', async () => {
    const story = async (killAt: { writes: number; readonly after: boolean }): Promise<boolean> => {
      let killed = false;
      const settled = async () => {
        const driving = driver(mortal(store, killAt));
        for (const ms of [0, PAUSE_MS, PAUSE_MS]) {
          await pass(ms, driving).catch((error: unknown) => {
            assert.ok(error instanceof Killed, String(error));
            killed = true;
          });
        }
        // Who comes next watches for the whole time.
        const next = driver();
        for (const ms of [0, PAUSE_MS, PAUSE_MS]) await pass(ms, next);
      };
      await put({ artifact: 1, waves: [40, 100] });
      await settled();
      assert.deepEqual([having(1).length, (await state()).rollout], [5, undefined]);
      for (const agent of agents.values()) agent.fate = fateOf(2, 'fails');
      const { id } = await put({ artifact: 2, waves: [40, 100] });
      await settled();
      assert.deepEqual([having(1).length, (await rollout(id)).rollout.phase], [5, 'rolled_back']);
      await commit(removeAssignment(await state(), nowMs));
      await settled();
      assert.deepEqual([having(1), await store.assignments.get(NAME)], [[], undefined]);
      for (const one of IDS) assert.deepEqual(await store.assignments.ofAgent(one), []);
      return killed;
    };
    let point = 1;
    for (; await story({ writes: point, after: point % 2 === 0 }); point++);
    assert.ok(point > 20, `${point} writes were interrupted`);
  });
});
