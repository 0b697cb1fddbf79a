// Standard input on its way from the controller into a running command: in order per command, acknowledged once taken.
import { create } from '@bufbuild/protobuf';
import { type Input, type InputAck, InputAckSchema } from '#gen/longline/link/v1/link_pb.js';
import { LonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { CommandExecutor } from './ports.ts';

/** As InputAck documents: bytes that a controller may send past what was taken; one piece of slack on top. */
const MAX_WAITING_BYTES = 256 * 1024 + 64 * 1024;

interface Feed {
  tail: Promise<void>;
  waitingBytes: number;
}

/** One per link; outlives sessions. */
export class InputRelay {
  readonly #executor: CommandExecutor;
  readonly #log: Logger;
  readonly #feeds = new Map<string, Feed>();
  readonly #acks = new Map<string, InputAck>();
  readonly #onAck: () => void;

  /** @param onAck called when `takeAck` has something to give. */
  constructor(executor: CommandExecutor, log: Logger, onAck: () => void) {
    this.#executor = executor;
    this.#log = log;
    this.#onAck = onAck;
  }

  /** Queues input. Throws `limit` if the controller sent more than the window allows. */
  take(input: Input): void {
    const id = input.logId;
    const feed = this.#feeds.get(id) ?? { tail: Promise.resolve(), waitingBytes: 0 };
    if (feed.waitingBytes + input.data.length > MAX_WAITING_BYTES) {
      throw new LonglineError('limit', `input for ${id} exceeds the window of ${MAX_WAITING_BYTES} bytes`, {
        retryable: false,
      });
    }
    feed.waitingBytes += input.data.length;
    this.#feeds.set(id, feed);
    const mine = feed.tail.then(() => this.#write(input));
    feed.tail = mine.finally(() => {
      feed.waitingBytes -= input.data.length;
      if (feed.waitingBytes === 0 && feed.tail === last) this.#feeds.delete(id);
    });
    const last = feed.tail;
  }

  /** The next acknowledgement to send, latest per command; undefined if there is none. */
  takeAck(): InputAck | undefined {
    for (const [id, ack] of this.#acks) {
      this.#acks.delete(id);
      return ack;
    }
    return undefined;
  }

  async #write(input: Input): Promise<void> {
    const { logId, offset, data, end } = input;
    try {
      const { taken, closed } = await this.#executor.writeInput(logId, Number(offset), data, end);
      this.#acks.set(logId, create(InputAckSchema, { logId, offset: BigInt(taken), closed }));
    } catch (error) {
      // Nobody takes it: the command ended, or never asked for input.
      this.#log.debug('input was not taken', { commandId: logId, err: error });
      this.#acks.set(logId, create(InputAckSchema, { logId, offset, closed: true }));
    }
    this.#onAck();
  }
}
