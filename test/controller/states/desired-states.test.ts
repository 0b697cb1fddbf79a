import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason, ErrorSchema } from '#gen/longline/v1/error_pb.js';
import { type NetworkDesiredState, NetworkDesiredStateSchema, NetworkSpecSchema } from '#gen/longline/v1/network_pb.js';
import { MemoryBus } from '../../../src/controller/bus/memory/memory-bus.ts';
import { DesiredStates } from '../../../src/controller/states/desired-states.ts';
import { NETWORK_STATE } from '../../../src/controller/states/network-state-body.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { connection } from '../store/store-contract.ts';

const NAMES = Array.from({ length: 12 }, (_, place) => `n${String(place).padStart(2, '0')}`);

function adding(name: string): (current: NetworkDesiredState) => NetworkDesiredState {
  return ({ networks }) =>
    create(NetworkDesiredStateSchema, { networks: [...networks, create(NetworkSpecSchema, { name })] });
}

describe('desired states of services', () => {
  let folder: string;
  let store: Store;
  let bus: MemoryBus;
  let states: DesiredStates;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-states-'));
    store = openSqliteStore(join(folder, 'store.db'));
    bus = new MemoryBus(silentLogger);
    states = new DesiredStates({ store, bus, clock: systemClock });
    await store.agents.connect(connection('a'));
  });
  afterEach(async () => {
    await bus[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  it('loses no change of several that are made at once, each a generation of its own', async () => {
    const made = await Promise.all(NAMES.map((name) => states.put('a', NETWORK_STATE, adding(name))));
    assert.ok(made.every(({ changed }) => changed));
    const { generation, state } = await states.get('a', NETWORK_STATE);
    assert.equal(generation, BigInt(NAMES.length));
    assert.deepEqual(
      state.networks.map(({ name }) => name),
      NAMES,
    );
  });

  it('makes no generation of what is so already, and tells of those it makes', async () => {
    using changes = await states.watch(10);
    const nothing = await states.put('a', NETWORK_STATE, (current) => current);
    assert.deepEqual([nothing.changed, nothing.generation], [false, 0n]);
    assert.equal((await states.put('a', NETWORK_STATE, adding('n'))).generation, 1n);
    const same = await states.put('a', NETWORK_STATE, (current) => current);
    assert.deepEqual([same.changed, same.generation], [false, 1n]);
    const told = await changes.next();
    assert.deepEqual(told, { kind: 'message', message: { agentId: 'a', stateKind: NETWORK_STATE.kind } });
    assert.equal(await changes.next(AbortSignal.abort()), undefined);
    assert.deepEqual(
      (await states.list(NETWORK_STATE, '', 10)).map(({ agentId, generation }) => [agentId, generation]),
      [['a', 1n]],
    );
  });

  it('stores nothing for an unknown agent, for what no message holds, or if the change throws', async () => {
    const failing = (agentId: string, change: (current: NetworkDesiredState) => NetworkDesiredState, reason: string) =>
      assert.rejects(
        states.put(agentId, NETWORK_STATE, change),
        (error) => error instanceof LonglineError && error.reason === reason,
      );
    await failing('nobody', adding('n'), 'not_found');
    await failing('a', adding('n'.repeat(16 * 1024 * 1024)), 'limit');
    const refusing = () => {
      throw new LonglineError('invalid', 'no');
    };
    await failing('a', refusing, 'invalid');
    assert.equal((await states.get('a', NETWORK_STATE)).generation, 0n);
  });

  it('gives what the agent last said, and what it refused', async () => {
    assert.equal(await states.latestReport('a', NETWORK_STATE), undefined);
    await states.put('a', NETWORK_STATE, adding('n'));
    const { kind } = NETWORK_STATE;
    const report = create(StateReportSchema, { kind, generation: 1n });
    const stored = { agentId: 'a', kind, generation: 1n, report: toBinary(StateReportSchema, report), storedAtMs: 5 };
    await store.stateReports.put(stored);
    assert.deepEqual(await states.latestReport('a', NETWORK_STATE), { report, storedAtMs: 5 });
    const error = create(ErrorSchema, { reason: ErrorReason.INVALID, message: 'no' });
    await store.desiredStates.refused('a', kind, { generation: 1n, error: toBinary(ErrorSchema, error), atMs: 6 });
    const { refusal } = await states.get('a', NETWORK_STATE);
    assert.deepEqual(refusal, { generation: 1n, error, atMs: 6 });
  });
});
