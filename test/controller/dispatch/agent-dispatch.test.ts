import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AgentDispatch, type CommandSink } from '../../../src/controller/dispatch/agent-dispatch.ts';
import type { ClaimedCommand, ClaimQuery, PendingCancel } from '../../../src/controller/store/command.ts';
import { systemClock } from '../../../src/core/clock.ts';

class RecordingSink implements CommandSink {
  writable = true;
  readonly sent: string[] = [];
  error: unknown;
  /** Number of messages after which the stream is full. */
  roomFor = Number.POSITIVE_INFINITY;

  sendCommand(command: ClaimedCommand): void {
    this.#send(command.id);
  }

  sendCancel(commandId: string): void {
    this.#send(`cancel ${commandId}`);
  }

  failed(error: unknown): void {
    this.error = error;
  }

  #send(what: string): void {
    assert.ok(this.writable, `${what} was written past drain`);
    this.sent.push(what);
    this.roomFor -= 1;
    if (this.roomFor <= 0) this.writable = false;
  }
}

function storeOf(count: number, cancels: PendingCancel[] = []) {
  const claims: ClaimQuery[] = [];
  const claim = async (query: ClaimQuery): Promise<readonly ClaimedCommand[]> => {
    claims.push(query);
    const seqs = Array.from({ length: count }, (_, index) => index + 1).filter((seq) => seq > query.afterSeq);
    const base = { statement: new Uint8Array(), createdAtMs: 0, expiresAtMs: 0, traceparent: '', tracestate: '' };
    return seqs.slice(0, query.limit).map((seq) => ({ ...base, id: `c${seq}`, seq }));
  };
  const asked = { forCancels: 0 };
  const pendingCancels = async () => {
    asked.forCancels += 1;
    return cancels;
  };
  return { claims, asked, commands: { claim, pendingCancels } };
}

const settled = async () => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
};

describe('agent dispatch', () => {
  it('never has more than a window out, nor writes past drain', async () => {
    const { commands, claims } = storeOf(20);
    const sink = new RecordingSink();
    const dispatch = new AgentDispatch({ commands, clock: systemClock, options: { windowCommands: 10 } }, 'a', sink);
    sink.roomFor = 4;
    dispatch.wake();
    await settled();
    assert.deepEqual(sink.sent, ['c1', 'c2', 'c3', 'c4']);
    sink.writable = true;
    sink.roomFor = Number.POSITIVE_INFINITY;
    dispatch.roomAgain();
    await settled();
    assert.equal(sink.sent.length, 10);
    dispatch.confirmed('c3');
    dispatch.confirmed('c3');
    await settled();
    assert.equal(sink.sent.at(-1), 'c11');
    assert.ok(claims.every((query) => query.limit <= 8));
  });

  it('sends a cancel after its command, and once', async () => {
    const cancels: PendingCancel[] = [{ commandId: 'c2', seq: 2, received: false, reason: 'r' }];
    const { commands } = storeOf(2, cancels);
    const sink = new RecordingSink();
    const dispatch = new AgentDispatch({ commands, clock: systemClock, options: { windowCommands: 1 } }, 'a', sink);
    dispatch.wake();
    await settled();
    assert.deepEqual(sink.sent, ['c1']);
    dispatch.confirmed('c1');
    await settled();
    dispatch.wake();
    await settled();
    assert.deepEqual(sink.sent, ['c1', 'c2', 'cancel c2']);
  });

  it('looks for cancels once and when told of them, not with every command', async () => {
    const cancels: PendingCancel[] = [];
    const { commands, asked } = storeOf(3, cancels);
    const sink = new RecordingSink();
    const dispatch = new AgentDispatch({ commands, clock: systemClock, options: { windowCommands: 9 } }, 'a', sink);
    for (let round = 0; round < 3; round++) {
      dispatch.wake();
      await settled();
    }
    assert.equal(asked.forCancels, 1);
    cancels.push({ commandId: 'c2', seq: 2, received: true, reason: 'r' });
    sink.writable = false;
    dispatch.wakeForCancels();
    await settled();
    sink.writable = true;
    dispatch.roomAgain();
    await settled();
    dispatch.wake();
    await settled();
    assert.deepEqual(sink.sent, ['c1', 'c2', 'c3', 'cancel c2']);
    assert.equal(asked.forCancels, 3);
  });

  it('hands failures of the store to the stream, and is silent once closed', async () => {
    const sink = new RecordingSink();
    const failing = { claim: async () => Promise.reject(new Error('disk')), pendingCancels: async () => [] };
    const dispatch = new AgentDispatch(
      { commands: failing, clock: systemClock, options: { windowCommands: 1 } },
      'a',
      sink,
    );
    dispatch.wake();
    await settled();
    assert.match(String(sink.error), /disk/);
    const { commands } = storeOf(5);
    const closed = new RecordingSink();
    const other = new AgentDispatch({ commands, clock: systemClock, options: { windowCommands: 9 } }, 'a', closed);
    other.wake();
    other.close();
    other.wake();
    await settled();
    assert.deepEqual(closed.sent, []);
  });
});
