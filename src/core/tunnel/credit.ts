// Flow control of one direction of a tunnel as arithmetic: a sender may be a window ahead of what the reader says it took.
import { LonglineError } from '../errors.ts';
import { TUNNEL_WINDOW_BYTES } from './tunnel-frame.ts';

/** The sender's account. */
export class SendCredit {
  readonly #windowBytes: number;
  #sent = 0;
  #taken = 0;

  constructor(windowBytes: number = TUNNEL_WINDOW_BYTES) {
    this.#windowBytes = windowBytes;
  }

  /** Bytes that may be sent now. */
  get room(): number {
    return this.#windowBytes - (this.#sent - this.#taken);
  }

  /** Counts bytes that are sent. Throws `internal` beyond the room. */
  spend(bytes: number): void {
    if (bytes > this.room) throw new LonglineError('internal', `${bytes} bytes were sent with room for ${this.room}`);
    this.#sent += bytes;
  }

  /** The reader's word on what it took in all. Throws `invalid` if it can't be so. */
  granted(taken: number): void {
    if (!Number.isSafeInteger(taken) || taken < this.#taken || taken > this.#sent) {
      throw new LonglineError(
        'invalid',
        `${taken} bytes are said to be taken; ${this.#taken} to ${this.#sent} are possible`,
      );
    }
    this.#taken = taken;
  }
}

/** The reader's account. */
export class ReceiveCredit {
  readonly #windowBytes: number;
  #received = 0;
  #taken = 0;
  #told = 0;

  constructor(windowBytes: number = TUNNEL_WINDOW_BYTES) {
    this.#windowBytes = windowBytes;
  }

  /** Bytes received and not taken: what has to be held. */
  get heldBytes(): number {
    return this.#received - this.#taken;
  }

  /** Counts bytes that came. Throws `limit` if the sender had no credit for them. */
  received(bytes: number): void {
    this.#received += bytes;
    if (this.#received - this.#told <= this.#windowBytes) return;
    throw new LonglineError('limit', `more than the window of ${this.#windowBytes} bytes was sent`, {
      retryable: false,
    });
  }

  /** Counts bytes that the reader took; gives the total if it is time to tell the sender: not for every few bytes. */
  took(bytes: number): number | undefined {
    this.#taken += bytes;
    if (this.#taken - this.#told < this.#windowBytes / 4) return undefined;
    this.#told = this.#taken;
    return this.#taken;
  }
}
