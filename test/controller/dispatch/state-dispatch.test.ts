import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, fromBinary } from '@bufbuild/protobuf';
import {
  type DesiredState,
  DesiredStateKind,
  type DesiredStateRef,
  DesiredStateRefSchema,
  StateReportSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { type NetworkDesiredState, NetworkDesiredStateSchema } from '#gen/longline/v1/network_pb.js';
import { StatementSchema } from '#gen/longline/v1/signature_pb.js';
import { MemoryBus } from '../../../src/controller/bus/memory/memory-bus.ts';
import { StateDispatch, type StateSink } from '../../../src/controller/dispatch/state-dispatch.ts';
import { StatementSigner } from '../../../src/controller/signer/statement-signer.ts';
import { DesiredStates } from '../../../src/controller/states/desired-states.ts';
import { NETWORK_STATE } from '../../../src/controller/states/network-state-body.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { RecordedLog } from '../../link/scratch.ts';
import { connection } from '../store/store-contract.ts';

const KIND = DesiredStateKind.NETWORK;
const UNKNOWN = 99 as DesiredStateKind;
const signer = new StatementSigner({ keyId: 'k', sign: () => new Uint8Array(64) }, 'c');

class RecordingSink implements StateSink {
  writable = true;
  readonly sent: DesiredState[] = [];
  error: unknown;

  sendDesiredState(state: DesiredState): void {
    assert.ok(this.writable, 'written past drain');
    this.sent.push(state);
  }

  failed(error: unknown): void {
    this.error = error;
  }
}

/** "generation<base: networks", with the peers that a delta names in brackets. */
function said({ generation, baseGeneration, body }: DesiredState): string {
  assert.equal(body.case, 'network');
  const { networks, removedNetworks, peerDeltas } = body.value as NetworkDesiredState;
  const parts = [
    ...networks.map(({ name }) => name),
    ...removedNetworks.map((name) => `-${name}`),
    ...peerDeltas.map(({ network, put, removed }) => `${network}[${put.length},${removed.length}]`),
  ];
  return `${generation}<${baseGeneration}: ${parts.join()}`;
}

describe('dispatch of desired states', () => {
  let folder: string;
  let store: Store;
  let states: DesiredStates;
  let sink: RecordingSink;
  let log: RecordedLog;
  let dispatch: StateDispatch | undefined;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-dispatch-'));
    store = openSqliteStore(join(folder, 'store.db'));
    states = new DesiredStates({ store, bus: new MemoryBus(silentLogger), clock: systemClock });
    log = new RecordedLog();
    await store.agents.connect(connection('a'));
    dispatch = undefined;
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  /** A stream of the agent, or another one. */
  function begin(refs: readonly DesiredStateRef[]): void {
    sink = new RecordingSink();
    dispatch = new StateDispatch({ states: store.desiredStates, signer, clock: systemClock, log }, 'a', sink);
    dispatch.start(refs);
  }

  /** Enough turns for anything that is due. Writes of the store take some. */
  const settled = async () => {
    await store.desiredStates.raise('nobody', KIND, { generation: 1n, digest: new Uint8Array() });
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(sink.error, undefined);
  };

  const news = async () => {
    await settled();
    return sink.sent.splice(0).map(said);
  };

  const want = async (...names: readonly string[]) => {
    const networks = names.map((name) => ({ name, interface: name.repeat(20) }));
    await states.put('a', NETWORK_STATE, () => create(NetworkDesiredStateSchema, { networks }));
    dispatch?.wake();
  };

  const refOf = async () => {
    const { kind, generation, digest } = (await store.desiredStates.get('a', KIND))!;
    return create(DesiredStateRefSchema, { kind, generation, digest });
  };

  const report = (generation: bigint, digest: Uint8Array, reason?: ErrorReason) =>
    dispatch?.reported(
      create(StateReportSchema, { kind: KIND, generation, digest, ...(reason !== undefined && { error: { reason } }) }),
    );

  const refuse = (generation: bigint, reason: ErrorReason) => report(generation, new Uint8Array(), reason);

  it('sends nothing where nothing is wanted, or just that is held', async () => {
    begin([]);
    assert.deepEqual(await news(), []);
    await want('x');
    begin([await refOf()]);
    assert.deepEqual(await news(), []);
  });

  it('sends a full state to who holds none, and deltas from then on', async () => {
    begin([]);
    await want('x');
    assert.deepEqual(await news(), ['1<0: x']);
    await want('x', 'y');
    assert.deepEqual(await news(), ['2<1: y']);
    const { generation, digest } = await refOf();
    report(generation, digest);
    assert.deepEqual(await news(), []);
    await want('y');
    assert.deepEqual(await news(), ['3<2: -x']);
  });

  it('sends a delta to who comes with an older generation, if that is known, is the same, and the delta is smaller', async () => {
    await want('x', 'y');
    const ref = await refOf();
    await want('x', 'y', 'z');
    await want('x', 'z');
    begin([ref]);
    assert.deepEqual(await news(), ['3<1: z,-y']);
    begin([{ ...ref, digest: new Uint8Array(16) }]);
    assert.deepEqual(await news(), ['3<0: x,z']);
    await want('q');
    assert.deepEqual(await news(), ['4<0: q']);
    for (let round = 0; round < 70; round++) await want(`${round}`);
    begin([ref]);
    assert.deepEqual(await news(), ['74<0: 69']);
  });

  it('signs what it sends: generation, base and the bytes themselves', async () => {
    begin([]);
    await want('x');
    await settled();
    const [state] = sink.sent;
    const { payload, signatures } = state!.statement!;
    assert.equal(signatures[0]?.keyId, 'k');
    const { action, audience } = fromBinary(StatementSchema, payload);
    assert.deepEqual(audience?.agentIds, ['a']);
    const value = action?.action.case === 'network' ? action.action.value.action : undefined;
    const permit = value?.case === 'permit' ? value.value : undefined;
    assert.deepEqual([permit?.generation, permit?.baseGeneration], [1n, 0n]);
    const body = NETWORK_STATE.encodeDelta(state!.body.value as NetworkDesiredState);
    assert.equal(Buffer.from(permit!.bodySha256).toString('hex'), hash('sha256', body));
  });

  it('sends the full state when a delta is refused as stale', async () => {
    begin([]);
    await want('x', 'y');
    await want('x', 'y', 'z');
    await news();
    refuse(1n, ErrorReason.STALE);
    assert.deepEqual(await news(), [], 'what was sent after it is not answered yet');
    refuse(2n, ErrorReason.STALE);
    assert.deepEqual(await news(), ['2<0: x,y,z']);
    refuse(2n, ErrorReason.STALE);
    assert.deepEqual(await news(), []);
  });

  it('outdoes a state that the agent has from elsewhere', async () => {
    await want('x');
    const other = { kind: KIND, generation: 7n, digest: new Uint8Array(16) };
    begin([create(DesiredStateRefSchema, other)]);
    assert.deepEqual(await news(), ['8<0: x']);
    report(12n, other.digest);
    assert.deepEqual(await news(), ['13<0: x']);
    await want('x', 'y');
    assert.deepEqual(await news(), ['14<13: y']);
    const { generation } = await refOf();
    begin([create(DesiredStateRefSchema, { ...other, generation })]);
    assert.deepEqual(await news(), ['15<0: x,y']);
  });

  it('outdoes another state of the same generation, in whatever order the agent says that it has one', async () => {
    const other = new Uint8Array(16);
    begin([]);
    await want('x', 'y');
    await news();
    refuse(1n, ErrorReason.STALE);
    report(1n, other);
    assert.deepEqual(await news(), ['2<0: x,y']);
    report(2n, other);
    refuse(2n, ErrorReason.STALE);
    assert.deepEqual(await news(), ['3<0: x,y']);
  });

  it('does not try for ever with an agent that names states otherwise, or holds the last that there can be', async () => {
    begin([]);
    await want('x', 'y');
    await news();
    report(1n, new Uint8Array(16));
    assert.deepEqual(await news(), []);
    assert.ok(log.has('error', 'by another digest'));
    await want('x', 'y', 'z');
    assert.deepEqual(await news(), ['2<0: x,y,z']);
    report(2n, new Uint8Array(16));
    assert.deepEqual(await news(), []);
    const last = { kind: KIND, generation: 2n ** 64n - 1n, digest: new Uint8Array(16) };
    begin([create(DesiredStateRefSchema, last)]);
    assert.deepEqual(await news(), []);
    assert.ok(log.has('error', 'none can follow'));
  });

  it('does not send again what was refused for what it is, and makes the next from what is held', async () => {
    begin([]);
    await want('x', 'y');
    await news();
    const { generation, digest } = await refOf();
    report(generation, digest);
    await want('x', 'y', 'bad');
    await news();
    refuse(2n, ErrorReason.INVALID);
    report(generation, digest);
    dispatch?.wake();
    assert.deepEqual(await news(), []);
    await want('x', 'y', 'good');
    assert.deepEqual(await news(), ['3<1: good']);
  });

  it('sends again what could not be had, once the agent says so', async () => {
    begin([]);
    await want('x');
    await news();
    refuse(1n, ErrorReason.UNSUPPORTED);
    dispatch?.wake();
    assert.deepEqual(await news(), []);
    report(0n, new Uint8Array());
    assert.deepEqual(await news(), ['1<0: x']);
    report(0n, new Uint8Array());
    assert.deepEqual(await news(), [], 'it is under way');
  });

  it('holds nothing while the stream is slow, and sends only the last then', async () => {
    begin([]);
    await want('x');
    await news();
    sink.writable = false;
    await want('x', 'y');
    await want('x', 'y', 'z');
    assert.deepEqual(await news(), []);
    sink.writable = true;
    dispatch?.wake();
    assert.deepEqual(await news(), ['3<1: y,z']);
    dispatch?.close();
    await want('w');
    assert.deepEqual(await news(), []);
  });

  it('ignores kinds that are never sent, and fails the stream if the store fails', async () => {
    begin([create(DesiredStateRefSchema, { kind: UNKNOWN, generation: 1n })]);
    dispatch?.reported(create(StateReportSchema, { kind: UNKNOWN, generation: 2n }));
    assert.deepEqual(await news(), []);
    const failing = {
      ...{ get: store.desiredStates.get, raise: store.desiredStates.raise, undos: store.desiredStates.undos },
      heads: () => Promise.reject(new Error('no disk')),
    };
    const failed = new StateDispatch({ states: failing, signer, clock: systemClock, log }, 'a', sink);
    failed.start([]);
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.match(String(sink.error), /no disk/);
  });
});
