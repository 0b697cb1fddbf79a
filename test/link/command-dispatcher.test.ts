import assert from 'node:assert/strict';
import { open as openOnDisk } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { type AgentMessage, type Command, CommandSchema, Outcome } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { LonglineError } from '../../src/core/errors.ts';
import { CommandDispatcher, type DispatcherOptions } from '../../src/link/command-dispatcher.ts';
import { Journal } from '../../src/link/journal.ts';
import { Outbox } from '../../src/link/outbox.ts';
import { wireTime } from '../../src/link/wire.ts';
import { OpenAdmission, PROGRESS, RESULT, ScriptedExecutor, untilCancelled } from './agent-side.ts';
import { RecordedLog, SetClock, scratchFolder, until } from './scratch.ts';

type Bounds = Pick<DispatcherOptions, 'maxUnfinished' | 'maxReplies' | 'maxReplyBytes'>;
const BOUNDS: Bounds = { maxUnfinished: 100, maxReplies: 100_000, maxReplyBytes: 2 ** 30 };

class Stage implements AsyncDisposable {
  readonly clock = new SetClock();
  readonly log = new RecordedLog();
  readonly admission = new OpenAdmission();
  readonly executor = new ScriptedExecutor();
  readonly outbox = new Outbox({ maxEvents: 10 });
  readonly sent: AgentMessage['message'][] = [];
  readonly journal: Journal;
  readonly dispatcher: CommandDispatcher;
  leaderEpoch = 0n;
  /** Times that it is asked whether it leads before it no longer does. */
  turns = Number.POSITIVE_INFINITY;
  skewMs: number | undefined;

  private constructor(journal: Journal, bounds: Bounds) {
    this.journal = journal;
    const own = {
      leaderEpoch: () => this.leaderEpoch,
      clockSkewMs: () => this.skewMs,
      mayAct: () => this.turns-- > 0,
    };
    this.dispatcher = new CommandDispatcher({ ...this, ...bounds, ...own });
  }

  static async open(folder: string, bounds: Partial<Bounds> = {}, openFile = openOnDisk): Promise<Stage> {
    const journal = await Journal.open({ folder, clock: new SetClock(), log: new RecordedLog(), openFile });
    return new Stage(journal, { ...BOUNDS, ...bounds });
  }

  command(id: string, init: Partial<Pick<Command, 'leaderEpoch' | 'expireTime'>> = {}): Command {
    const expireTime = wireTime(this.clock.nowMs + 1000);
    return Object.assign(create(CommandSchema, { seq: 1n, id, expireTime }), init);
  }

  /** What was put into the outbox since the start, as "kind id". */
  told(): string[] {
    for (let message = this.outbox.take(); message !== undefined; message = this.outbox.take()) {
      this.sent.push(message.message);
    }
    return this.sent.map(({ case: kind, value }) => `${kind} ${(value as { commandId: string }).commandId}`);
  }

  async tells(expected: readonly string[]): Promise<void> {
    await until(
      `it tells ${expected.join(', ')}; it told ${this.told().join(', ')}`,
      () => this.told().length >= expected.length,
    );
    assert.deepEqual(this.told(), expected);
  }

  last<K extends 'result' | 'rejected'>(kind: K) {
    const message = this.sent.findLast((one) => one.case === kind);
    return message?.value as Extract<AgentMessage['message'], { case: K }>['value'] | undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispatcher[Symbol.asyncDispose]();
    await this.journal[Symbol.asyncDispose]();
  }
}

describe('command dispatcher', () => {
  it('tells receipt, progress and result in order, and runs racing copies once', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    for (let copy = 0; copy < 5; copy++) stage.dispatcher.take(stage.command('a'));
    await stage.tells(['received a', 'progress a', 'result a']);
    assert.equal(stage.executor.starts.length, 1);
    assert.equal(stage.last('result')?.detail.case, 'job');
  });

  it('answers a repeat with the stored result, before and after its acknowledgement and a restart', async () => {
    await using folder = await scratchFolder();
    {
      await using stage = await Stage.open(folder.path);
      stage.dispatcher.take(stage.command('a'));
      await stage.tells(['received a', 'progress a', 'result a']);
      stage.dispatcher.take(stage.command('a'));
      await stage.tells(['received a', 'progress a', 'result a', 'result a']);
      stage.dispatcher.acknowledge(['a', 'unknown']);
    }
    await using stage = await Stage.open(folder.path);
    stage.dispatcher.repeat();
    assert.deepEqual(stage.told(), [], 'what is acknowledged is not repeated by itself');
    stage.dispatcher.take(stage.command('a'));
    await stage.tells(['result a']);
    assert.equal(stage.last('result')?.outcome, Outcome.SUCCEEDED);
    assert.equal(stage.executor.starts.length, 0);
  });

  it('says so if a command may be late because the clocks differ', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    for (const [skewMs, told] of [
      [-3_600_000, /here, where the clock is 1h ahead of the controller's: set both right$/],
      [90_000, /the clock is 1m30s behind the controller's/],
      [1000, /here$/],
    ] as const) {
      stage.skewMs = skewMs;
      const before = stage.told().length;
      stage.dispatcher.take(stage.command(`c${skewMs}`.replace('-', 'm'), { expireTime: wireTime(stage.clock.nowMs) }));
      await until('it was refused', () => stage.told().length > before);
      assert.match(stage.last('rejected')?.error?.message ?? '', told);
    }
  });

  it('refuses late, expired-meanwhile, undated and nameless commands, and keeps refusals like results', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    const reason = async (command: Command) => {
      const before = stage.told().length;
      stage.dispatcher.take(command);
      await until('it was refused', () => stage.told().length > before);
      return stage.last('rejected')?.error?.reason;
    };
    assert.equal(await reason(stage.command('a', { expireTime: wireTime(stage.clock.nowMs) })), ErrorReason.LATE);
    const undated = create(CommandSchema, { seq: 2n, id: 'b' });
    assert.equal(await reason(undated), ErrorReason.INVALID);
    assert.equal(stage.last('rejected')?.error?.violations[0]?.field, 'command.expire_time');
    stage.admission.before = async () => {
      stage.clock.nowMs += 5000;
    };
    assert.equal(await reason(stage.command('c')), ErrorReason.LATE);
    assert.equal(await reason(stage.command('../etc')), ErrorReason.INVALID);
    assert.deepEqual(
      stage.journal.pendingReplies().map(({ id }) => id),
      ['a', 'b', 'c'],
    );
    assert.deepEqual(stage.admission.refusals, ['a late', 'b invalid', 'c late', '../etc invalid']);
    assert.equal(stage.executor.starts.length, 0);
  });

  it('is fenced by the leader epoch', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    stage.leaderEpoch = 5n;
    stage.dispatcher.take(stage.command('old', { leaderEpoch: 4n }));
    await stage.tells(['rejected old']);
    assert.equal(stage.last('rejected')?.error?.reason, ErrorReason.STALE);
    stage.dispatcher.take(stage.command('any', { leaderEpoch: 0n }));
    await until('it ran', () => stage.executor.starts.length === 1);
  });

  it('leaves a command to the next leader, untold, at whichever step it stops leading', async () => {
    await using folder = await scratchFolder();
    const told: string[] = [];
    for (let turns = 0; turns < 4; turns++) {
      await using stage = await Stage.open(`${folder.path}/${turns}`);
      stage.turns = turns;
      stage.dispatcher.take(stage.command('c'));
      await until('it was asked once too often', () => stage.turns < 0);
      await stage.dispatcher[Symbol.asyncDispose]();
      told.push(...stage.told());
      assert.deepEqual(stage.admission.refusals, [], 'nothing is refused for good');
    }
    assert.deepEqual(told, []);
  });

  it('lets a nonce be used by one of two commands that race for it', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    stage.admission.nonce = Uint8Array.from([1, 2, 3]);
    stage.dispatcher.take(stage.command('a'));
    stage.dispatcher.take(stage.command('b'));
    await until('both were answered', () => stage.told().filter((line) => /received|rejected/.test(line)).length === 2);
    assert.equal(stage.executor.starts.length, 1);
    assert.equal(stage.last('rejected')?.error?.reason, ErrorReason.IDENTITY);
  });

  it('lets the executor prepare, and tells nothing, before journal and audit are durable', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    const audited = Promise.withResolvers<void>();
    stage.admission.recorded = () => audited.promise;
    stage.dispatcher.take(stage.command('a'));
    await until('it is in the journal', () => stage.journal.find('a') !== undefined);
    await stage.journal.putLinkMemory(stage.journal.linkMemory);
    stage.dispatcher.repeat();
    assert.deepEqual(stage.executor.prepared, ['a']);
    assert.deepEqual([stage.executor.starts, stage.told()], [[], []]);
    audited.resolve();
    await stage.tells(['received a', 'progress a', 'result a']);
  });

  it('refuses for good what can not be audited, although the journal has it already', async () => {
    await using folder = await scratchFolder();
    {
      await using stage = await Stage.open(folder.path);
      const audited = Promise.withResolvers<void>();
      stage.admission.recorded = () => audited.promise;
      stage.dispatcher.take(stage.command('a'));
      await until('it is in the journal', () => stage.journal.find('a') !== undefined);
      await stage.journal.putLinkMemory(stage.journal.linkMemory);
      audited.reject(new LonglineError('limit', 'no room for the audit log'));
      await stage.tells(['rejected a']);
      assert.equal(stage.last('rejected')?.error?.reason, ErrorReason.LIMIT);
      assert.deepEqual(stage.admission.refusals, [], 'the audit log has refused it itself');
    }
    await using stage = await Stage.open(folder.path);
    assert.deepEqual([...stage.dispatcher.unfinishedIds], []);
    stage.dispatcher.take(stage.command('a'));
    await stage.tells(['rejected a']);
    assert.deepEqual(stage.executor.starts, []);
  });

  it('tells no end and no refusal before the disk has it, since a restart would carry the command out', async () => {
    await using folder = await scratchFolder();
    let full = false;
    const openFile: typeof openOnDisk = async (name, flags, mode) => {
      const handle = await openOnDisk(name, flags, mode);
      const writev = handle.writev.bind(handle);
      handle.writev = ((frames: Uint8Array[]) =>
        full ? Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })) : writev(frames)) as typeof writev;
      return handle;
    };
    await using stage = await Stage.open(folder.path, { maxUnfinished: 100 }, openFile);
    const retries = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const waiting: PromiseWithResolvers<void>[] = [];
    stage.clock.sleep = (ms, signal) => {
      if (ms !== 5000 || signal?.aborted || waiting.length === retries.length) return Promise.resolve();
      waiting.push(retries[waiting.length]!);
      return waiting.at(-1)!.promise;
    };
    const gate = Promise.withResolvers<void>();
    stage.executor.run = async function* () {
      await gate.promise;
      yield { kind: 'result', outcome: 'succeeded', detail: RESULT };
    };
    stage.dispatcher.take(stage.command('a'));
    await stage.tells(['received a']);
    full = true;
    gate.resolve();
    stage.dispatcher.take(stage.command('b'));
    await until('both wait for the disk', () => waiting.length === 2);
    stage.dispatcher.repeat();
    assert.deepEqual(stage.told(), ['received a', 'received a']);
    full = false;
    for (const { resolve } of retries) resolve();
    await until('both are told', () => stage.told().length === 4);
    assert.deepEqual(stage.told().slice(2).sort(), ['rejected b', 'result a']);
    assert.equal(stage.journal.pendingReplyCount, 2);
  });

  it('vouches for no seq above one that it has not decided about', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    const gate = Promise.withResolvers<void>();
    stage.admission.before = (id) => (id === 'slow' ? gate.promise : Promise.resolve());
    stage.dispatcher.take(Object.assign(stage.command('slow'), { seq: 4n }));
    stage.dispatcher.take(Object.assign(stage.command('quick'), { seq: 5n }));
    await until('the quick one ran', () => stage.told().includes('result quick'));
    assert.equal(stage.dispatcher.settledSeq, 3n);
    gate.resolve();
    await until('the slow one ran', () => stage.told().includes('result slow'));
    assert.equal(stage.dispatcher.settledSeq, 5n);
  });

  it('passes a refusal of the admission on, and hides what it did not expect', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    stage.admission.before = async (id) => {
      throw id === 'a' ? new LonglineError('policy', 'rule 7 forbids it', { rule: '7' }) : new Error('secret cause');
    };
    stage.dispatcher.take(stage.command('a'));
    await stage.tells(['rejected a']);
    assert.equal(stage.last('rejected')?.error?.rule, '7');
    stage.dispatcher.take(stage.command('b'));
    await stage.tells(['rejected a', 'rejected b']);
    assert.equal(stage.last('rejected')?.error?.reason, ErrorReason.INTERNAL);
    assert.doesNotMatch(stage.last('rejected')?.error?.message ?? '', /secret/);
    assert.ok(stage.log.has('error', 'rejected because of a fault'));
  });

  it('cancels before the receipt, while running, and does nothing after the end', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    stage.executor.run = untilCancelled;
    const gate = Promise.withResolvers<void>();
    stage.admission.before = () => gate.promise;
    stage.dispatcher.take(stage.command('early'));
    stage.dispatcher.cancel('early', 'not needed');
    stage.dispatcher.cancel('unknown', '');
    gate.resolve();
    await stage.tells(['received early', 'result early']);
    assert.equal(stage.last('result')?.outcome, Outcome.CANCELLED);
    stage.dispatcher.take(stage.command('running'));
    await until('it runs', () => stage.executor.starts.length === 2);
    stage.dispatcher.cancel('running', '');
    await until('it ended', () => stage.told().includes('result running'));
    stage.dispatcher.cancel('running', '');
    assert.equal(stage.told().length, 4);
  });

  it('makes a failed result when the executor throws, ends without one, or gives bytes that are none', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    stage.executor.run = async function* ({ id }) {
      if (id === 'throws') throw new Error('secret cause');
      if (id === 'garbage') yield { kind: 'result', outcome: 'succeeded', detail: Uint8Array.from([255, 255]) };
    };
    for (const id of ['throws', 'ends', 'garbage']) {
      stage.dispatcher.take(stage.command(id));
      await until(`${id} was answered`, () => stage.told().includes(`result ${id}`));
      assert.equal(stage.last('result')?.outcome, Outcome.FAILED);
      assert.equal(stage.last('result')?.error?.reason, ErrorReason.INTERNAL);
      assert.doesNotMatch(stage.last('result')?.error?.message ?? '', /secret/);
    }
    assert.equal(stage.log.lines.filter(({ level }) => level === 'error').length, 3);
  });

  it('refuses commands beyond its bound as retryable', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path, { maxUnfinished: 2 });
    stage.executor.run = untilCancelled;
    for (const id of ['a', 'b']) stage.dispatcher.take(stage.command(id));
    await until('two run', () => stage.executor.starts.length === 2);
    stage.dispatcher.take(stage.command('c'));
    await until('it was refused', () => stage.told().includes('rejected c'));
    assert.equal(stage.last('rejected')?.error?.reason, ErrorReason.LIMIT);
    assert.ok(stage.last('rejected')?.error?.retryable);
  });

  for (const bounds of [
    { maxReplies: 3, maxReplyBytes: 2 ** 20 },
    { maxReplies: 1000, maxReplyBytes: 1 },
  ]) {
    const what = bounds.maxReplyBytes === 1 ? 'bytes' : 'replies';
    it(`takes no command while too many ${what} wait for an acknowledgement, and loses none`, async () => {
      await using folder = await scratchFolder();
      await using stage = await Stage.open(folder.path, bounds);
      const ended = what === 'bytes' ? ['a'] : ['a', 'b', 'c'];
      for (const id of ended) {
        stage.dispatcher.take(stage.command(id));
        await until(`${id} ended`, () => stage.told().includes(`result ${id}`));
      }
      stage.dispatcher.take(stage.command('refused'));
      await until('it is refused', () => stage.told().includes('rejected refused'));
      assert.equal(stage.last('rejected')?.error?.reason, ErrorReason.LIMIT);
      assert.match(stage.last('rejected')!.error!.message, /has not acknowledged; .*acknowledge them/);
      assert.deepEqual(
        stage.journal.pendingReplies().map(({ id }) => id),
        [...ended, 'refused'],
      );
      stage.dispatcher.acknowledge([...ended, 'refused']);
      await until('there is room again', () => stage.journal.pendingReplyBytes === 0);
      stage.dispatcher.take(stage.command('later'));
      await until('it runs', () => stage.told().includes('result later'));
    });
  }

  it('keeps no refusals for a controller that goes on without acknowledging, and no answers for one that does not read', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path, { maxReplies: 4 });
    for (let index = 0; index < 200; index++) stage.dispatcher.take(stage.command(`c${index}`));
    await until('all are answered or dropped', () => stage.admission.refusals.length >= 196);
    assert.ok(stage.journal.pendingReplyCount <= 2 * 4 + 1, `${stage.journal.pendingReplyCount} are kept`);
    assert.ok(stage.outbox.waitingReplies <= 40, `${stage.outbox.waitingReplies} wait`);
  });

  it('coalesces progress for a controller that does not listen, and drops none of the results', async () => {
    await using folder = await scratchFolder();
    await using stage = await Stage.open(folder.path);
    stage.executor.run = async function* () {
      for (let step = 0; step < 10_000; step++) yield { kind: 'progress', detail: PROGRESS };
      yield { kind: 'result', outcome: 'succeeded', detail: RESULT };
    };
    stage.dispatcher.take(stage.command('a'));
    await until('it ended', () => stage.journal.pendingReplyCount === 1);
    await until('the result waits', () => stage.told().includes('result a'));
    const numbers = stage.sent.flatMap((one) => (one.case === 'progress' ? [one.value.number] : []));
    assert.ok(numbers.length <= 65, `${numbers.length} steps waited`);
    assert.equal(numbers.at(-1), 10_000n, 'the latest is among them');
    assert.equal(stage.told().at(-1), 'result a');
  });

  it('leaves what runs to a later process when it is disposed, and goes on with it there', async () => {
    await using folder = await scratchFolder();
    {
      await using stage = await Stage.open(folder.path);
      stage.executor.run = untilCancelled;
      stage.dispatcher.take(stage.command('a'));
      await until('it runs', () => stage.executor.starts.length === 1);
    }
    await using stage = await Stage.open(folder.path);
    assert.deepEqual([...stage.dispatcher.unfinishedIds], ['a']);
    stage.dispatcher.take(stage.command('a'));
    await stage.tells(['received a']);
    stage.dispatcher.resume();
    stage.dispatcher.resume();
    await stage.tells(['received a', 'progress a', 'result a']);
    assert.deepEqual(stage.executor.starts, [{ id: 'a', resumed: true }]);
  });

  it('after it let go, an end without a result leaves the command, and a result still counts', async () => {
    await using folder = await scratchFolder();
    {
      await using stage = await Stage.open(folder.path);
      const closing = Promise.withResolvers<void>();
      stage.executor.run = async function* ({ id }) {
        await closing.promise;
        if (id === 'ended') yield { kind: 'result', outcome: 'succeeded', detail: RESULT };
      };
      stage.dispatcher.take(stage.command('ended'));
      stage.dispatcher.take(stage.command('left'));
      await until('they run', () => stage.executor.starts.length === 2);
      stage.dispatcher.letGo();
      closing.resolve();
      await until('the result is kept', () => stage.told().includes('result ended'));
    }
    await using stage = await Stage.open(folder.path);
    assert.deepEqual([...stage.dispatcher.unfinishedIds], ['left']);
    assert.deepEqual(
      stage.journal.pendingReplies().map(({ id }) => id),
      ['ended'],
    );
  });
});
