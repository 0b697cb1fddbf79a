// Sends what waits in the outbox over one connection. The library keeps what a slow server doesn't take in memory, without a bound:
// so the next batch is written only when the server has answered behind the one before.
import type { NatsConnection } from '@nats-io/transport-node';
import { LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { Outbox, OutboxMessage } from './outbox.ts';

const BATCH = 64;

/** Bounds of waits. */
export interface SenderLimits {
  /** For the server to answer behind a batch. */
  readonly flushMs: number;
  /** For what still waits when it is to end. */
  readonly closeMs: number;
}

/** One per connection, which stays the caller's. */
export class BatchSender {
  readonly #connection: NatsConnection;
  readonly #outbox: Outbox;
  readonly #subject: string;
  readonly #log: Logger;
  #ended: LonglineError | undefined;
  #breakOff: ((error: LonglineError) => void) | undefined;

  constructor(connection: NatsConnection, outbox: Outbox, subject: string, log: Logger) {
    this.#connection = connection;
    this.#outbox = outbox;
    this.#subject = subject;
    this.#log = log;
    connection.closed().then((error) => {
      this.#ended = new LonglineError('unavailable', 'the connection to NATS ended', { cause: error ?? undefined });
      this.#breakOff?.(this.#ended);
      outbox.wake();
    });
  }

  /** Sends until the signal aborts, then what still waits, for a moment. Throws when the connection ends or the server is too slow. */
  async run({ flushMs, closeMs }: SenderLimits, signal: AbortSignal): Promise<void> {
    const onAbort = () => this.#outbox.wake();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!signal.aborted) {
        await this.#sendBatch(flushMs);
        if (!signal.aborted) await this.#outbox.filled();
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    const endMs = performance.now() + closeMs;
    while (this.#outbox.size > 0 && performance.now() < endMs) await this.#sendBatch(endMs - performance.now());
  }

  /** Resolves once the server has taken all that was written. Throws when the connection ends, or when it takes too long. */
  async flush(limitMs: number): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended;
    // The library leaves its promise open when the connection ends.
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#breakOff = reject;
    const late = () => reject(new LonglineError('late', `NATS did not answer in ${Math.round(limitMs)} ms`));
    const timer = setTimeout(late, limitMs);
    this.#connection.flush().then(resolve, reject);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#breakOff = undefined;
    }
  }

  async #sendBatch(limitMs: number): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended;
    const batch = this.#outbox.take(BATCH);
    this.#tellDropped();
    if (batch.length === 0) return;
    try {
      for (const message of batch) this.#publish(message);
      await this.flush(limitMs);
    } catch (error) {
      this.#outbox.putBack(batch);
      throw error;
    }
  }

  #publish({ kind, payload }: OutboxMessage): void {
    const most = this.#connection.info?.max_payload ?? Number.POSITIVE_INFINITY;
    if (payload.length <= most) {
      this.#connection.publish(this.#subject, payload);
      return;
    }
    this.#outbox.drop();
    this.#log.warn('a message is larger than NATS takes', { kind, bytes: payload.length, most });
  }

  #tellDropped(): void {
    const { dropped, toldDropped } = this.#outbox;
    if (dropped === toldDropped) return;
    this.#outbox.toldDropped = dropped;
    this.#log.warn('messages to NATS were dropped', { since: dropped - toldDropped, ever: dropped });
  }
}
