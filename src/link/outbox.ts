// What waits to be sent on the control stream, by urgency: signs of life, then receipts, progress and results in the
// order they happened, then facts, state reports, checkpoints and events. Memory is bounded without the controller's help:
// progress and reports coalesce (latest wins), events are dropped oldest first and counted, replies are bounded by the journal.
import { create } from '@bufbuild/protobuf';
import { type AgentMessage, AgentMessageSchema, type StateReport } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import type { SessionStatus } from '#gen/longline/v1/session_pb.js';
import { SessionReports } from './session-reports.ts';
import { Wakeup } from './wakeup.ts';

/** From this many waiting command messages on, a newer progress of a command takes the place of its older one. */
const COALESCE_FROM = 64;

interface CommandItem {
  readonly commandId: string;
  readonly progress: boolean;
  message: AgentMessage;
}

/** Bounds of an outbox. */
export interface OutboxLimits {
  readonly maxEvents: number;
}

/** One per link; filled at any time, emptied by the session that is open. */
export class Outbox {
  readonly #maxEvents: number;
  #heartbeat: AgentMessage | undefined;
  #commands: CommandItem[] = [];
  readonly #queuedProgress = new Map<string, CommandItem>();
  /** Facts, state reports and refusals by kind, checkpoint: the latest of each, in the order they were put. */
  readonly #latest = new Map<string, AgentMessage>();
  readonly #sessions = new SessionReports();
  #events: AgentMessage[] = [];
  #droppedEvents = 0;
  readonly #filled = new Wakeup();
  #whenEmpty: (() => void)[] = [];

  constructor(limits: OutboxLimits) {
    this.#maxEvents = limits.maxEvents;
  }

  /** Events dropped since the start because too many waited. */
  get droppedEvents(): number {
    return this.#droppedEvents;
  }

  get empty(): boolean {
    return (
      this.#heartbeat === undefined &&
      this.#commands.length === 0 &&
      this.#latest.size === 0 &&
      this.#sessions.empty &&
      this.#events.length === 0
    );
  }

  /** Messages that wait, by what they are. */
  get queued(): { readonly commands: number; readonly reports: number; readonly events: number } {
    const reports = this.#latest.size + (this.#sessions.empty ? 0 : 1);
    return { commands: this.#commands.length, reports, events: this.#events.length };
  }

  putHeartbeat(message: AgentMessage): void {
    this.#heartbeat = message;
    this.#filled.ring();
  }

  /** A receipt, rejection or result: never coalesced. */
  putReply(commandId: string, message: AgentMessage): void {
    // The order within a command must stay: progress that comes later must not slip before this.
    this.#queuedProgress.delete(commandId);
    this.#commands.push({ commandId, progress: false, message });
    this.#filled.ring();
  }

  putProgress(commandId: string, message: AgentMessage): void {
    const queued = this.#queuedProgress.get(commandId);
    if (queued !== undefined && this.#commands.length >= COALESCE_FROM) {
      queued.message = message;
    } else {
      const item: CommandItem = { commandId, progress: true, message };
      this.#commands.push(item);
      this.#queuedProgress.set(commandId, item);
    }
    this.#filled.ring();
  }

  /** Replaces what waits under the same key. */
  putLatest(key: string, message: AgentMessage): void {
    this.#latest.set(key, message);
    this.#filled.ring();
  }

  /**
   * What became of a desired state. Of each kind the latest report waits, and the latest refusal beside it. A report takes back
   * a refusal of what it reports, unless that was refused for being another state of the same generation.
   */
  putState(report: StateReport): void {
    const message = create(AgentMessageSchema, { message: { case: 'stateReport', value: report } });
    const key = stateKey(report);
    const waiting = this.#latest.get(refusalKey(report))?.message;
    const refusal = waiting?.case === 'stateReport' ? waiting.value : undefined;
    const over = refusal?.generation === report.generation && refusal.error?.reason !== ErrorReason.STALE;
    if (report.error === undefined && over) this.#latest.delete(refusalKey(report));
    this.#latest.delete(key);
    this.putLatest(key, message);
  }

  /** Statuses of sessions that changed; undefined asks for a full report. `all` gives every session at any time. */
  putSessions(changed: Iterable<SessionStatus> | undefined, all: () => readonly SessionStatus[]): void {
    if (changed === undefined) this.#sessions.putAll(all);
    else this.#sessions.put(changed, all);
    this.#filled.ring();
  }

  putEvent(message: AgentMessage): void {
    if (this.#events.length >= this.#maxEvents) {
      this.#events.shift();
      this.#droppedEvents += 1;
    }
    this.#events.push(message);
    this.#filled.ring();
  }

  /** Forgets what belongs to one session; a new one fills it in again from the journal. */
  startSession(): void {
    this.#heartbeat = undefined;
    this.#commands = [];
    this.#queuedProgress.clear();
  }

  /** Messages of commands that wait. */
  get waitingReplies(): number {
    return this.#commands.length;
  }

  /** The most urgent message, taken out; undefined if nothing waits. */
  take(): AgentMessage | undefined {
    const message = this.#take();
    if (this.empty) for (const wake of this.#whenEmpty.splice(0)) wake();
    return message;
  }

  /** Resolves when nothing waits or the signal aborts. */
  async whenEmpty(signal: AbortSignal): Promise<void> {
    while (!this.empty && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const wake = () => resolve();
      this.#whenEmpty.push(wake);
      signal.addEventListener('abort', wake, { once: true });
      await promise;
      signal.removeEventListener('abort', wake);
    }
  }

  #take(): AgentMessage | undefined {
    if (this.#heartbeat !== undefined) {
      const heartbeat = this.#heartbeat;
      this.#heartbeat = undefined;
      return heartbeat;
    }
    const command = this.#commands.shift();
    if (command !== undefined) {
      if (this.#queuedProgress.get(command.commandId) === command) this.#queuedProgress.delete(command.commandId);
      return command.message;
    }
    for (const [key, message] of this.#latest) {
      this.#latest.delete(key);
      return message;
    }
    return this.#sessions.take() ?? this.#events.shift();
  }

  /** Puts back what could not be sent, unless newer news of it came or the journal holds it anyway. */
  giveBack(message: AgentMessage): void {
    if (message.message.case === 'event') this.#events.unshift(message);
    if (this.#events.length > this.#maxEvents) {
      this.#events.shift();
      this.#droppedEvents += 1;
    }
    const report = message.message.case === 'stateReport' ? message.message.value : undefined;
    if (report?.detail.case === 'sessions') {
      this.#sessions.giveBack(report);
      return;
    }
    // What was refused is sent again by the next controller, and refused again.
    if (report?.error !== undefined) return;
    const key = latestKey(message);
    if (key !== undefined && !this.#latest.has(key)) this.#latest.set(key, message);
  }

  /** Resolves when something waits or the signal aborts. One waiter at a time. */
  async whenFilled(signal: AbortSignal): Promise<void> {
    while (this.empty && !signal.aborted) await this.#filled.wait(signal);
  }
}

/** Under which key a message waits as "latest wins"; undefined if it doesn't. */
export function latestKey(message: AgentMessage): string | undefined {
  switch (message.message.case) {
    case 'facts':
      return 'facts';
    case 'auditCheckpoint':
      return `checkpoint ${message.message.value.chainId}`;
    case 'stateReport':
      return stateKey(message.message.value);
    default:
      return undefined;
  }
}

function stateKey(report: StateReport): string {
  return report.error === undefined ? `state ${report.kind}` : refusalKey(report);
}

function refusalKey({ kind }: StateReport): string {
  return `refused state ${kind}`;
}
