// Tells of programs over NATS, and takes rollbacks that an orchestrator asks for. Knows NATS and the JSON of its messages, not how
// programs are brought about. NATS being down, slow or wrong is no failure of the agent: messages wait in a bounded outbox, what is
// too much is dropped and counted, and the next connection is tried for ever with growing waits. A message counts as sent once the
// server has answered behind it, so that a slow server holds back a batch and not the agent; a batch that broke off is sent again,
// with the same message ids.
import type { NatsConnection } from '@nats-io/transport-node';
import type {
  AnnouncedChange,
  AnnouncedFigures,
  Announcements,
  RollbackHandler,
} from '../../capabilities/programs/ports.ts';
import { Backoff } from '../../core/backoff.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import type { Logger } from '../../core/logger.ts';
import { BatchSender } from './batch-sender.ts';
import { type NatsCredentials, type NatsTarget, natsTarget, openConnection } from './connection.ts';
import { changeMessage, figuresMessage, heartbeatMessage, type MessageSource } from './message.ts';
import { Outbox, type OutboxKind } from './outbox.ts';
import { RollbackService } from './rollback-service.ts';
import { rollbackSubject, telemetrySubject } from './subject.ts';

/** Bounds of time and space. */
export interface NatsLimits {
  readonly connectMs: number;
  /** For the server to answer behind a batch; then the connection is given up. */
  readonly flushMs: number;
  readonly backoff: { readonly baseMs: number; readonly capMs: number };
  readonly maxMessages: number;
  readonly maxBytes: number;
  /** For what still waits when it ends. */
  readonly closeMs: number;
}

export const DEFAULT_NATS_LIMITS: NatsLimits = {
  connectMs: 10_000,
  flushMs: 10_000,
  backoff: { baseMs: 500, capMs: 30_000 },
  maxMessages: 1_000,
  maxBytes: 2 * 1024 ** 2,
  closeMs: 2_000,
};

/** What an announcer is made from. */
export interface NatsOptions {
  /** "nats://host:4222" or "tls://…"; may hold user and password, or a token. */
  readonly urls: readonly string[];
  readonly credentials: NatsCredentials;
  /** Everything is published on it: "agent.telemetry". */
  readonly telemetrySubject: string;
  /** In messages, and in the subject of rollbacks. */
  readonly hostId: string;
  readonly agentVersion: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits?: Partial<NatsLimits>;
}

/** One per agent. `start` it; dispose to send what still waits, for a moment, and to hang up. */
export class NatsAnnouncer implements Announcements, AsyncDisposable {
  readonly #options: NatsOptions;
  readonly #limits: NatsLimits;
  readonly #source: MessageSource;
  readonly #subject: string;
  readonly #target: NatsTarget;
  readonly #outbox: Outbox;
  readonly #rollbacks: RollbackService;
  readonly #stop = new AbortController();
  #connected = false;
  #running: Promise<void> | undefined;

  /** Connects to nothing yet. Throws `invalid` for a URL, a subject or a host id that NATS can't take. */
  constructor(options: NatsOptions) {
    const { urls, credentials, hostId, agentVersion, log } = options;
    this.#options = options;
    this.#limits = { ...DEFAULT_NATS_LIMITS, ...options.limits };
    this.#source = { hostId, agentVersion };
    this.#subject = telemetrySubject(options.telemetrySubject);
    this.#target = natsTarget(urls, credentials, `longline agent ${hostId}`);
    this.#outbox = new Outbox(this.#limits);
    this.#rollbacks = new RollbackService(rollbackSubject(hostId), hostId, log);
  }

  /** True while there is a connection. */
  get connected(): boolean {
    return this.#connected;
  }

  /** Messages that were dropped so far, and those that wait. */
  get counts(): { readonly dropped: number; readonly waiting: number } {
    return { dropped: this.#outbox.dropped, waiting: this.#outbox.size };
  }

  /** Connects in the background, and again whenever it has to. Rollbacks are refused as `unavailable` until there is a handler. */
  start(): void {
    this.#running ??= this.#run(this.#stop.signal);
  }

  /** Who carries out rollbacks from now on. */
  serveRollbacks(handler: RollbackHandler): void {
    this.#rollbacks.handler = handler;
  }

  measured(telemetry: readonly AnnouncedFigures[]): void {
    for (const told of telemetry) this.#put('figures', (id) => figuresMessage(this.#source, id, told));
  }

  changed(change: AnnouncedChange): void {
    this.#put('change', (id, atMs) => changeMessage(this.#source, { id, atMs }, change));
  }

  heartbeat(loaded: number): void {
    this.#put('heartbeat', (id, atMs) => heartbeatMessage(this.#source, { id, atMs }, loaded));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new LonglineError('cancelled', 'the agent ends'));
    await this.#running;
    if (this.#outbox.size > 0) this.#options.log.warn('messages to NATS were not sent', { waiting: this.#outbox.size });
    await this.#rollbacks[Symbol.asyncDispose]();
  }

  #put(kind: OutboxKind, write: (id: string, atMs: number) => Uint8Array): void {
    if (this.#stop.signal.aborted) return;
    try {
      const nowMs = this.#options.clock.now();
      this.#outbox.put({ kind, payload: write(newId(nowMs), nowMs) });
    } catch (error) {
      this.#outbox.drop();
      this.#options.log.warn('a message to NATS could not be written', { kind, err: describeError(error) });
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { log, clock } = this.#options;
    const backoff = new Backoff(this.#limits.backoff);
    while (!signal.aborted) {
      try {
        await this.#connectOnce(signal, () => backoff.reset());
      } catch (error) {
        if (signal.aborted) return;
        const waitMs = backoff.next(Math.min(100, this.#limits.backoff.baseMs));
        // Said at once, and then as seldom as somebody who reads it can bear.
        const tell = backoff.attempt <= 1 || backoff.attempt % 10 === 0 ? log.warn : log.debug;
        const facts = { err: describeError(error), retryMs: Math.round(waitMs), waiting: this.#outbox.size };
        tell.call(log, 'NATS is not there', facts);
        await clock.sleep(waitMs, signal).catch(() => undefined);
      }
    }
  }

  /** Connects and sends until that ends, which throws unless the signal has aborted. */
  async #connectOnce(signal: AbortSignal, onConnected: () => void): Promise<void> {
    const connection = await openConnection(this.#target, this.#limits.connectMs, signal);
    const logging = this.#logStatus(connection);
    try {
      this.#rollbacks.subscribe(connection);
      const sender = new BatchSender(connection, this.#outbox, this.#subject, this.#options.log);
      await sender.flush(this.#limits.flushMs);
      this.#connected = true;
      onConnected();
      this.#options.log.info('connected to NATS', { server: connection.getServer() });
      await sender.run(this.#limits, signal);
    } finally {
      this.#connected = false;
      await connection.close();
      await logging;
    }
  }

  /** What the server objects to; ends with the connection. */
  async #logStatus(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === 'error') {
        this.#options.log.warn('NATS refused something', { err: describeError(status.error) });
      }
    }
  }
}
