// Takes commands from any session and sees each through exactly once: known? → expiry → epoch → admission → journal and
// audit → Received → effect → journal → Result, repeated until acknowledged. The executor prepares while both are written. It doesn't know transports, signatures or
// capabilities. A refusal travels as Rejected, a failure as Result; nothing that a controller sends makes it throw.
import type { Command } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../core/clock.ts';
import { invalid, LonglineError, toLonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { SPAN } from '../core/span-names.ts';
import { noTracer, type Tracer } from '../core/tracer.ts';
import { checkExpiry } from './command-expiry.ts';
import { CommandRun, receivedMessage } from './command-run.ts';
import { CommandTraces } from './command-traces.ts';
import type { Journal } from './journal.ts';
import type { CommandReply, ReceivedCommand } from './journal-record.ts';
import type { Outbox } from './outbox.ts';
import type { AdmittedCommand, CommandAdmission, CommandExecutor } from './ports.ts';
import { decodeAgentMessage, encodeAgentMessage, hex, rejectedMessage, resultMessage, timeMs } from './wire.ts';

/** What a dispatcher works with. */
export interface DispatcherOptions {
  readonly journal: Journal;
  readonly outbox: Outbox;
  readonly admission: CommandAdmission;
  readonly executor: CommandExecutor;
  readonly clock: Clock;
  /** The controller's clock minus this host's, if it is known. */
  clockSkewMs?(): number | undefined;
  readonly log: Logger;
  readonly tracer?: Tracer | undefined;
  /** Commands that may be unfinished at once; more are rejected with `limit`. */
  readonly maxUnfinished: number;
  /** Replies that may wait for the controller's acknowledgement, with those of unfinished commands, and their bytes. */
  readonly maxReplies: number;
  readonly maxReplyBytes: number;
  /** Epoch of this replica; 0 where there is no leader election. */
  readonly leaderEpoch: () => bigint;
  /** False once another replica may lead: commands are left to it, untold. */
  readonly mayAct?: () => boolean;
}

const COMMAND_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const BACKLOG_RETRY_MS = 5000;
/** Longest wait for an admission that is under way when the agent stops. */
const DISPOSE_LIMIT_MS = 5000;
/** How long a rejected command is remembered when it names no expiry. */
const DEFAULT_MEMORY_MS = 24 * 3600 * 1000;

/** A command between its first sight and the journal. */
interface InAdmission {
  readonly seq: bigint;
  cancelReason: string | undefined;
  refusedByAdmission: boolean;
}

interface AdmittedAndRecorded {
  readonly received: ReceivedCommand;
  readonly recorded: Promise<void>;
}

/** One per link. The owner calls `resume` once, then hands in commands; disposing leaves running ones to a later process. */
export class CommandDispatcher implements AsyncDisposable {
  readonly #options: DispatcherOptions;
  readonly #traces: CommandTraces;
  readonly #inAdmission = new Map<string, InAdmission>();
  readonly #runs = new Map<string, CommandRun>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #retrying = false;
  #resumed = false;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#traces = new CommandTraces(options.tracer ?? noTracer);
  }

  /** Commands received and not ended, for adoption. */
  get unfinishedIds(): ReadonlySet<string> {
    return new Set(this.#options.journal.unfinished().map((command) => command.id));
  }

  /** Every command up to this seq is durable here, or refused and that durable. */
  get settledSeq(): bigint {
    let settled = this.#options.journal.lastSeq;
    for (const { seq } of this.#inAdmission.values()) if (seq <= settled) settled = seq - 1n;
    return settled;
  }

  /** Continues what an earlier process left unfinished. Does nothing the second time. */
  resume(): void {
    if (this.#resumed) return;
    this.#resumed = true;
    for (const command of this.#options.journal.unfinished()) {
      this.#traces.begin(command, true).run(() => this.#start(command, undefined));
    }
  }

  /** Takes a command; everything that becomes of it goes to the outbox. */
  take(command: Command): void {
    if (this.#closing.signal.aborted || this.#superseded()) return;
    this.#track(this.#take(command));
  }

  /** Stops a command in whatever phase it is. Unknown and ended ones are left alone. */
  cancel(id: string, reason: string): void {
    const admission = this.#inAdmission.get(id);
    if (admission !== undefined) admission.cancelReason ??= reason;
    this.#runs.get(id)?.cancel(reason);
  }

  /** The controller has stored these replies. */
  acknowledge(ids: readonly string[]): void {
    this.#traces.acknowledged(ids);
    this.#track(this.#keep(this.#options.journal.acknowledge(ids)));
  }

  /** Puts into the outbox what a newly connected controller must hear. */
  repeat(): void {
    const { journal, outbox } = this.#options;
    for (const reply of journal.pendingReplies()) outbox.putReply(reply.id, decodeAgentMessage(reply.message));
    for (const { command, durable, latestProgress } of this.#runs.values()) {
      if (!durable || journal.find(command.id)?.phase !== 'received') continue;
      outbox.putReply(command.id, receivedMessage(command));
      if (latestProgress !== undefined) outbox.putProgress(command.id, latestProgress);
    }
  }

  /** Starts nothing more; commands that end without a result from now on stay unfinished, for a later process. */
  letGo(): void {
    this.#closing.abort();
    for (const run of this.#runs.values()) run.letGo();
  }

  /** Leaves running commands as they are and waits for what is being written. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.letGo();
    for (const run of this.#runs.values()) run.abandon();
    const waiting = new AbortController();
    const limit = this.#options.clock.sleep(DISPOSE_LIMIT_MS, waiting.signal).catch(() => undefined);
    await Promise.race([Promise.allSettled(this.#tasks), limit]);
    waiting.abort();
    this.#traces.leave();
  }

  async #take(command: Command): Promise<void> {
    const { id } = command;
    if (!COMMAND_ID.test(id)) {
      const error = invalid([{ field: 'command.id', description: `"${id.slice(0, 64)}" is no id; give a UUIDv7` }]);
      this.#options.admission.refused(command, error);
      this.#options.outbox.putReply(id, rejectedMessage({ commandId: id, seq: command.seq }, error));
      return;
    }
    if (this.#inAdmission.has(id) || this.#answerKnown(id, command.seq)) return;
    const full = this.#lackOfRoom();
    const kept = this.#options.journal.pendingReplyCount + this.#inAdmission.size;
    if (full !== undefined && kept >= 2 * this.#options.maxReplies) {
      return this.#refuseWithoutKeeping(command, full);
    }
    await this.#traces.begin(command, false).run(() => this.#takeNew(command, full));
  }

  async #takeNew(command: Command, full: LonglineError | undefined): Promise<void> {
    const { id, seq } = command;
    const admission: InAdmission = { seq, cancelReason: undefined, refusedByAdmission: false };
    this.#inAdmission.set(id, admission);
    try {
      if (full !== undefined) throw full;
      await this.#begin(await this.#admit(command, admission), admission);
    } catch (error) {
      // Not refused, only left: the next leader gets it, or has it in its journal.
      if (this.#superseded()) return;
      if (!admission.refusedByAdmission) this.#options.admission.refused(command, toLonglineError(error));
      await this.#reject(command, error);
    } finally {
      this.#inAdmission.delete(id);
    }
  }

  /** Why there would be no room for the reply of one more command; undefined if there is. */
  #lackOfRoom(): LonglineError | undefined {
    const { journal, maxReplies, maxReplyBytes } = this.#options;
    const { pendingReplyCount: count, pendingReplyBytes: bytes } = journal;
    if (count + journal.unfinishedCount + this.#inAdmission.size < maxReplies && bytes < maxReplyBytes)
      return undefined;
    return new LonglineError(
      'limit',
      `this host holds ${count} replies (${bytes} bytes) that the controller has not acknowledged; it keeps ${maxReplies}, ` +
        `with those of running commands, and ${maxReplyBytes} bytes; acknowledge them and send the command again`,
    );
  }

  /**
   * Refusals for lack of room take room themselves. From twice the bound on they aren't kept, nor told to a controller that
   * doesn't read either: one that didn't hear sends the command again.
   */
  #refuseWithoutKeeping(command: Command, error: LonglineError): void {
    const { outbox, admission, maxReplies } = this.#options;
    admission.refused(command, error);
    if (outbox.waitingReplies >= 2 * maxReplies) return;
    outbox.putReply(command.id, rejectedMessage({ commandId: command.id, seq: command.seq }, error));
  }

  /** A command that is known gets the answer it had before, and never runs again. */
  #answerKnown(id: string, seq: bigint): boolean {
    const { journal, outbox, clock } = this.#options;
    const entry = journal.find(id);
    if (entry === undefined) return false;
    // Asked again and again by a controller that doesn't read: it has been told, or is told after the next connect.
    if (outbox.waitingReplies >= 2 * this.#options.maxReplies) return true;
    if (entry.phase === 'received') {
      outbox.putReply(id, receivedMessage(entry.command));
      return true;
    }
    if (entry.reply.message.length > 0) {
      outbox.putReply(id, decodeAgentMessage(entry.reply.message));
      return true;
    }
    const error = new LonglineError(
      'already_exists',
      'this command ended, its result was acknowledged, and this host no longer keeps it',
    );
    const head = { commandId: id, seq, nowMs: clock.now() };
    outbox.putReply(id, resultMessage(head, '', 'indeterminate', new Uint8Array(), error));
    return true;
  }

  /** Resolves when the command is durable and its receipt on its way; rejects if it was not taken. */
  async #begin({ received, recorded }: AdmittedAndRecorded, admission: InAdmission): Promise<void> {
    this.#demandTurn();
    const { journal, outbox } = this.#options;
    const written = this.#traces.step(SPAN.journal, () =>
      Promise.all([
        journal.receive(received),
        recorded.catch((error: unknown) => {
          admission.refusedByAdmission = true;
          throw error;
        }),
      ]),
    );
    const durable = written.then(() => {
      // Effects wait for this, and writing took time.
      this.#demandTurn();
      outbox.putReply(received.id, receivedMessage(received));
    });
    const run = this.#start(received, durable);
    if (admission.cancelReason !== undefined) run.cancel(admission.cancelReason);
    try {
      await durable;
    } catch (error) {
      this.#runs.delete(received.id);
      throw error;
    }
  }

  async #admit(command: Command, progress: InAdmission): Promise<AdmittedAndRecorded> {
    const { journal, admission, clock, maxUnfinished, clockSkewMs } = this.#options;
    const expiresAtMs = checkExpiry(command, clock.now(), clockSkewMs?.());
    this.#checkEpoch(command.leaderEpoch);
    if (journal.unfinishedCount + this.#inAdmission.size > maxUnfinished) {
      throw new LonglineError(
        'limit',
        `this host has ${maxUnfinished} unfinished commands, the most it takes; try later`,
      );
    }
    const seen = (nonce: Uint8Array) => journal.nonceSeen(hex(nonce), command.id);
    const verified = this.#traces.step(SPAN.verify, () => admission.admit(command, seen));
    const admitted: AdmittedCommand = await verified.catch((error: unknown) => {
      progress.refusedByAdmission = true;
      throw error;
    });
    // Admission took time: the command may have expired meanwhile.
    checkExpiry(command, clock.now(), clockSkewMs?.());
    const received = {
      id: command.id,
      seq: String(command.seq),
      capability: admitted.capability,
      action: admitted.action,
      receivedAtMs: clock.now(),
      expiresAtMs,
      traceparent: command.traceparent,
      nonce: hex(admitted.nonce),
      nonceExpiresAtMs: admitted.nonceExpiresAtMs,
    };
    return { received, recorded: admitted.recorded };
  }

  #superseded(): boolean {
    return this.#options.mayAct?.() === false;
  }

  #demandTurn(): void {
    if (this.#superseded()) throw new LonglineError('stale', 'this replica no longer leads');
  }

  #checkEpoch(epoch: bigint): void {
    const own = this.#options.leaderEpoch();
    if (epoch === 0n || epoch === own) return;
    throw new LonglineError('stale', `the command is for leader epoch ${epoch}; this replica has epoch ${own}`);
  }

  /** @param durable undefined for a command that an earlier process took. */
  #start(command: ReceivedCommand, durable: Promise<void> | undefined): CommandRun {
    const { outbox, executor, clock, log, tracer } = this.#options;
    const progress = outbox.putProgress.bind(outbox);
    const run = new CommandRun(command, { executor, clock, log, tracer, progress }, durable);
    this.#runs.set(command.id, run);
    if (!this.#closing.signal.aborted && !this.#superseded()) this.#track(this.#finish(run, durable === undefined));
    return run;
  }

  async #finish(run: CommandRun, resumed: boolean): Promise<void> {
    const { outbox } = this.#options;
    const { id, seq, expiresAtMs } = run.command;
    const message = await run.execute(resumed);
    if (message === undefined) return;
    if (message.message.case === 'result') this.#traces.replying(message.message.value);
    const reply: CommandReply = { id, seq, expiresAtMs, message: encodeAgentMessage(message) };
    if (!(await this.#traces.step(SPAN.journalResult, () => this.#keepReply(reply)))) return;
    this.#traces.replied(id);
    this.#runs.delete(id);
    outbox.putReply(id, message);
  }

  async #reject(command: Command, error: unknown): Promise<void> {
    const { outbox, clock, log } = this.#options;
    const message = rejectedMessage({ commandId: command.id, seq: command.seq }, error);
    if (!(error instanceof LonglineError) || error.reason === 'internal') {
      log.error('command rejected because of a fault on this host', { commandId: command.id, err: error });
    }
    if (message.message.case === 'rejected') this.#traces.replying(message.message.value);
    const expiresAtMs = Math.max(timeMs(command.expireTime) || 0, clock.now() + DEFAULT_MEMORY_MS);
    const reply = { id: command.id, seq: String(command.seq), expiresAtMs, message: encodeAgentMessage(message) };
    if (!(await this.#traces.step(SPAN.journalResult, () => this.#keepReply(reply)))) return;
    this.#traces.replied(command.id);
    outbox.putReply(command.id, message);
  }

  /**
   * Resolves once a reply is durable: told earlier, it could be followed by the command being carried out, by a process that
   * starts on this disk. False if this process ends before.
   */
  async #keepReply(reply: CommandReply): Promise<boolean> {
    const { journal, clock, log } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const last = this.#closing.signal.aborted;
      try {
        await journal.reply(reply);
        return true;
      } catch (error) {
        const facts = { commandId: reply.id, err: error };
        if (attempt === 1) log.error('the journal cannot be written; a reply waits for the disk', facts);
        if (last) return false;
      }
      await clock.sleep(BACKLOG_RETRY_MS, this.#closing.signal).catch(() => undefined);
    }
  }

  /** What the disk refuses stays in memory; it is written as soon as the disk takes it. */
  async #keep(written: Promise<void>): Promise<void> {
    try {
      await written;
    } catch (error) {
      this.#options.log.error('the journal cannot be written; the fact is held in memory', { err: error });
      if (!this.#retrying) this.#track(this.#retryBacklog());
    }
  }

  async #retryBacklog(): Promise<void> {
    const { journal, clock } = this.#options;
    this.#retrying = true;
    try {
      while (journal.hasBacklog && !this.#closing.signal.aborted) {
        await clock.sleep(BACKLOG_RETRY_MS, this.#closing.signal);
        await journal.writeBacklog().catch((error: unknown) => {
          this.#options.log.debug('the journal still cannot be written', { err: error });
        });
      }
    } catch (error) {
      if (!this.#closing.signal.aborted) throw error;
    } finally {
      this.#retrying = false;
    }
  }

  #track(task: Promise<void>): void {
    const tracked = task
      .catch((error: unknown) => this.#options.log.error('command handling failed', { err: error }))
      .finally(() => this.#tasks.delete(tracked));
    this.#tasks.add(tracked);
  }
}
