// Rollouts over agents as they are, each with a kernel in memory: what the controller takes from what they say of programs is what
// they mean by it.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { ProgramAssignmentSchema, ProgramDelivery } from '#gen/longline/fleet/v1/program_service_pb.js';
import { StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import type { ProgramsCapability } from '../../../src/capabilities/programs/capability.ts';
import { MemoryBus } from '../../../src/controller/bus/memory/memory-bus.ts';
import { putAssignment, removeAssignment } from '../../../src/controller/rollouts/assignment-change.ts';
import { pollProgramsOf } from '../../../src/controller/rollouts/polled-programs.ts';
import { RolloutDriver } from '../../../src/controller/rollouts/rollout-driver.ts';
import { targetOf } from '../../../src/controller/rollouts/target.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { newId } from '../../../src/core/ids.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { observedReport } from '../../../src/link/state-wire.ts';
import { type ArtifactDraft, ProgramsWorld, until } from '../../capabilities/programs/programs-fixture.ts';
import { connection } from '../store/store-contract.ts';
import { type AskedInit, assignmentOf, NAME, PAUSE_MS } from './rollout-model.ts';

const IDS = ['a', 'b', 'c'];
const KIND = 2;
const NOW = Date.UTC(2030, 0, 1);
const COUNTERS = { counters: { errors: { map: 'counters', key: '0', offset: 16 } } };

interface Host {
  readonly id: string;
  readonly world: ProgramsWorld;
  readonly capability: ProgramsCapability;
  applied: bigint;
  told: number;
}

describe('rollouts over agents', () => {
  let folder: string;
  let store: Store;
  let bus: MemoryBus;
  let hosts: Host[];
  let driver: RolloutDriver;
  let nowMs: number;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-rollout-agents-'));
    store = openSqliteStore(join(folder, 'store.db'));
    bus = new MemoryBus(silentLogger);
    hosts = [];
    nowMs = NOW;
    for (const id of IDS) {
      const world = new ProgramsWorld({ defaultTtlMs: 0 });
      world.registryAnswer = { kind: 'unchanged' };
      await store.agents.connect(connection(id, { nowMs }));
      hosts.push({ id, world, capability: await world.start(), applied: 0n, told: 0 });
    }
    const clock = { ...systemClock, now: () => nowMs, monotonic: () => nowMs };
    driver = new RolloutDriver({ store, bus, clock, log: silentLogger, recheckMs: 50 });
  });
  afterEach(async () => {
    for (const { world } of hosts) await world[Symbol.asyncDispose]();
    await bus[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  /** The same artifact on all hosts and at the controller. */
  async function artifact(draft: ArtifactDraft): Promise<string> {
    const [digest] = await Promise.all(hosts.map(({ world }) => world.artifact({ more: COUNTERS, ...draft })));
    const record = {
      digest: digest!,
      size: 1,
      name: 'counter',
      metadata: new Uint8Array(),
      signers: [],
      createdAtMs: 1,
    };
    await store.artifacts.put(record, Uint8Array.of(1), 1024);
    return digest!;
  }

  async function put(init: AskedInit): Promise<string> {
    const asked = toBinary(ProgramAssignmentSchema, assignmentOf(init));
    const state = await store.assignments.get(NAME);
    const records = await store.assignments.agents(NAME, [targetOf(asked).selector]);
    const { change, rollout } = putAssignment(NAME, state, asked, records, newId(), nowMs);
    await store.assignments.commit({ name: NAME, baseRevision: state?.assignment.revision ?? 0, nowMs, ...change! });
    return rollout!.id;
  }

  /** What the link carries: what is wanted to the agent, and what it says back. */
  async function carry(host: Host): Promise<boolean> {
    const wanted = await store.desiredStates.get(host.id, KIND);
    const isNew = wanted !== undefined && wanted.generation > host.applied;
    if (isNew) {
      host.applied = wanted.generation;
      const { body, generation } = wanted;
      await host.capability.applyState({ generation, baseGeneration: 0n, body });
    }
    await host.world.settle();
    const observation = host.world.observations.at(-1);
    if (observation === undefined || host.told === host.world.observations.length) return isNew;
    host.told = host.world.observations.length;
    const report = toBinary(StateReportSchema, create(StateReportSchema, observedReport('programs', observation)));
    const { generation } = observation;
    await store.stateReports.put({ agentId: host.id, kind: KIND, generation, report, storedAtMs: nowMs });
    const names = (await store.programs.ofAgent(host.id)).map(({ name }) => name);
    const there = host.capability.look().filter(({ source }) => source === 'controller');
    const gone = names.filter((name) => !there.some((one) => one.name === name));
    await store.programs.forget(host.id, gone, generation);
    return true;
  }

  async function settle(): Promise<void> {
    for (let still = 0; still < 3; ) {
      await driver.drive(NAME);
      let said = false;
      for (const host of hosts) said = (await carry(host)) || said;
      still = said ? 0 : still + 1;
    }
  }

  async function pass(ms: number, meanwhile: () => void = () => undefined): Promise<void> {
    for (const host of hosts) {
      const specs = (await pollProgramsOf(store, host.id)).map((spec) => toBinary(ProgramSpecSchema, spec));
      host.world.registryAnswer = { kind: 'programs', specs, refused: [] };
      meanwhile();
      await host.world.pass(ms);
    }
    nowMs += ms;
    await settle();
  }

  /** As long as it takes for hosts to find a program good, and the controller a wave. */
  const passed = async (id: string, ...phases: readonly string[]) =>
    await until(`the rollout is ${phases}`, async () => {
      await pass(PAUSE_MS + 1000);
      const found = (await store.assignments.rollout(id))!;
      return phases.includes(found.rollout.phase) ? found : undefined;
    });
  const runs = () =>
    hosts.map(({ capability }) => {
      const view = capability.look().find(({ name }) => name === NAME);
      return view?.current === undefined ? '' : `${view.life.kind} ${view.current.version}`;
    });

  it('are through when programs are active, and halted by the kernel and by thresholds', async () => {
    const good = await artifact({ version: '1.0.0' });
    const first = await put({ artifact: good, waves: [30, 100] });
    await settle();
    assert.equal((await store.assignments.rollout(first))!.rollout.phase, 'running', 'they are on probation');
    await passed(first, 'done');
    assert.deepEqual(runs(), ['active 1.0.0', 'active 1.0.0', 'active 1.0.0']);

    const refused = await artifact({ version: '2.0.0', verifierLog: 'R1 is a mystery' });
    const second = await passed(await put({ artifact: refused, waves: [30, 100] }), 'rolled_back');
    assert.match(second.rollout.reason, /1 of 1 agents reached so far failed/);
    assert.deepEqual(runs(), ['active 1.0.0', 'active 1.0.0', 'active 1.0.0']);

    const faulty = await artifact({ version: '3.0.0' });
    const third = await put({ artifact: faulty, waves: [30, 100] });
    const burden = () => {
      for (const { world, capability } of hosts) {
        const current = capability.look()[0]?.current;
        if (current?.version !== '3.0.0') continue;
        world.host.count({ program: NAME, revision: current.number }, 50, 'counters', '0', 16);
      }
    };
    const ended = await until('it is halted', async () => {
      await pass(5_000, burden);
      const found = (await store.assignments.rollout(third))!;
      return found.rollout.endedAtMs === undefined ? undefined : found;
    });
    assert.equal(ended.rollout.phase, 'rolled_back');
    assert.match(ended.rollout.reason, /it was rolled back/);
    await pass(PAUSE_MS + 1000);
    assert.deepEqual(runs(), ['active 1.0.0', 'active 1.0.0', 'active 1.0.0']);
  });

  it('follow a change of parameters alone, and take the program away in the end', async () => {
    const good = await artifact({ version: '1.0.0' });
    await passed(await put({ artifact: good }), 'done');
    const tuned = await put({ artifact: good, parameters: { limit: '7' }, waves: [30, 100] });
    await settle();
    assert.equal((await store.assignments.rollout(tuned))!.counts.current, 0);
    await passed(tuned, 'done');
    const revisions = hosts.map(({ capability }) => capability.look()[0]!.current!.number);
    assert.deepEqual(revisions, [2, 2, 2]);
    const wrong = await passed(await put({ artifact: good, parameters: { lmit: '7' } }), 'rolled_back');
    assert.match(wrong.rollout.reason, /limit/);
    assert.deepEqual(runs(), ['active 1.0.0', 'active 1.0.0', 'active 1.0.0']);
    const state = (await store.assignments.get(NAME))!;
    const baseRevision = state.assignment.revision;
    await store.assignments.commit({ name: NAME, baseRevision, nowMs, ...removeAssignment(state, nowMs)! });
    await settle();
    assert.deepEqual([await store.assignments.get(NAME), runs()], [undefined, ['', '', '']]);
  });

  it('reach agents that poll', async () => {
    const good = await artifact({ version: '1.0.0' });
    const id = await put({ artifact: good, waves: [30, 100], delivery: ProgramDelivery.POLL });
    await passed(id, 'done');
    assert.deepEqual(runs(), ['active 1.0.0', 'active 1.0.0', 'active 1.0.0']);
    assert.deepEqual(
      hosts.map(({ capability }) => capability.look()[0]!.source),
      ['registry', 'registry', 'registry'],
    );
    const tuned = await passed(
      await put({ artifact: good, parameters: { limit: '7' }, delivery: ProgramDelivery.POLL }),
      'done',
    );
    assert.equal(tuned.counts.current, 3);
    const refused = await artifact({ version: '2.0.0', verifierLog: 'R1 is a mystery' });
    await passed(await put({ artifact: refused, delivery: ProgramDelivery.POLL }), 'rolled_back');
    assert.deepEqual(runs(), ['active 1.0.0', 'active 1.0.0', 'active 1.0.0']);
  });
});
