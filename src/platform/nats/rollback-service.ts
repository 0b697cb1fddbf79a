// Carries out rollbacks that come over NATS, one after the other, and answers those who wait for it. What is wrong with a request is
// logged and answered. Who may ask is up to NATS: whoever may publish on the subject.
import type { Msg, NatsConnection } from '@nats-io/transport-node';
import type { AnnouncedRollback, RollbackHandler, RollbackRequest } from '../../capabilities/programs/ports.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { parseRollbackRequest, refusalReply, rollbackReply } from './rollback-message.ts';

const MAX_WAITING = 16;
const LIMIT_MS = 60_000;

/** One per announcer; subscribes on each connection anew. Dispose to break off what is under way. */
export class RollbackService implements AsyncDisposable {
  readonly #subject: string;
  readonly #hostId: string;
  readonly #log: Logger;
  #breakOff: ((reason: LonglineError) => void) | undefined;
  #over = false;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;
  handler: RollbackHandler | undefined;

  constructor(subject: string, hostId: string, log: Logger) {
    this.#subject = subject;
    this.#hostId = hostId;
    this.#log = log.child({ subject });
  }

  /** Takes requests until the connection ends. */
  subscribe(connection: NatsConnection): void {
    connection.subscribe(this.#subject, {
      callback: (error, message) => {
        if (error === null) this.#take(message);
        else this.#log.warn('rollbacks can not be asked for over NATS', { err: describeError(error) });
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    this.#breakOff?.(new LonglineError('cancelled', 'the agent ends'));
    await this.#last;
  }

  #take(message: Msg): void {
    if (this.#waiting >= MAX_WAITING) {
      const busy = new LonglineError('limit', `${MAX_WAITING} rollbacks wait already; ask again later`);
      this.#answer(message, refusalReply(busy));
      return;
    }
    this.#waiting += 1;
    this.#last = this.#last.then(async () => {
      this.#answer(message, await this.#carryOut(message));
      this.#waiting -= 1;
    });
  }

  /** Never throws. */
  async #carryOut(message: Msg): Promise<Uint8Array> {
    try {
      const request = parseRollbackRequest(message.data, this.#hostId);
      this.#log.info('a rollback was asked for over NATS', { ...request });
      if (this.handler === undefined || this.#over) {
        throw new LonglineError('unavailable', 'programs are not to be had now; ask again later');
      }
      return rollbackReply(await this.#within(this.handler, request));
    } catch (error) {
      const refusal = toLonglineError(error);
      this.#log.warn('a rollback over NATS was refused', { reason: refusal.reason, err: describeError(error) });
      return refusalReply(refusal);
    }
  }

  /** Ends with its limit and with the service, whatever the handler does. */
  async #within(handler: RollbackHandler, request: RollbackRequest): Promise<AnnouncedRollback> {
    const limit = new AbortController();
    const { promise, resolve, reject } = Promise.withResolvers<AnnouncedRollback>();
    const end = (reason: LonglineError) => {
      limit.abort(reason);
      reject(reason);
    };
    this.#breakOff = end;
    const late = () =>
      end(new LonglineError('late', `the rollback was not over in ${LIMIT_MS / 1000} s; it may go on`));
    const timer = setTimeout(late, LIMIT_MS);
    handler(request, limit.signal).then(resolve, reject);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#breakOff = undefined;
    }
  }

  #answer(message: Msg, reply: Uint8Array): void {
    try {
      // False without a reply subject: then nobody waits.
      message.respond(reply);
    } catch (error) {
      this.#log.warn('an answer could not be sent over NATS', { err: describeError(error) });
    }
  }
}
