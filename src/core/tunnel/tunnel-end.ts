// One end of a tunnel over whatever carries its frames. It keeps the window in both directions, so that a reader that
// stops holds a window of bytes and not more, and never keeps other tunnels of the same carrier waiting. It knows no
// messages and no sockets. It fails for good at the first breach or when its carrier goes, and tells both its users why.
import { LonglineError } from '../errors.ts';
import { ReceiveCredit, SendCredit } from './credit.ts';
import { TUNNEL_PIECE_BYTES, type TunnelFrame, type TunnelPiece, type TunnelStream } from './tunnel-frame.ts';

/** Resizes, signals and the like that may wait for the reader. */
const MAX_WAITING_CONTROLS = 64;

/** Takes a frame; resolves when there is room for the next, rejects if there is nobody any more. Calls may overlap. */
export type SendFrame = (frame: TunnelFrame) => Promise<void>;

/** One end. Its owner gives it what comes (`accept`), and says when nothing comes any more (`finished`, `fail`). */
export class TunnelEnd implements TunnelStream {
  readonly #send: SendFrame;
  readonly #sending = new SendCredit();
  readonly #receiving = new ReceiveCredit();
  readonly #waiting: TunnelPiece[] = [];
  readonly #over = new AbortController();
  readonly #gone = new AbortController();
  #controls = 0;
  #ended = false;
  #peerEnded = false;
  #peerGone = false;
  #failure: LonglineError | undefined;
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;
  #windowDue: number | undefined;
  #windowSending = false;

  constructor(send: SendFrame) {
    this.#send = send;
  }

  /** Bytes that came and were not taken by the reader. */
  get heldBytes(): number {
    return this.#receiving.heldBytes;
  }

  get failed(): AbortSignal {
    return this.#over.signal;
  }

  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Takes a frame of the other end. A frame that breaks the rules fails the tunnel; nothing is thrown. */
  accept(frame: TunnelFrame): void {
    if (this.#failure !== undefined) return;
    try {
      this.#take(frame);
    } catch (error) {
      this.fail(error as LonglineError);
    }
  }

  /** The carrier ended in good order: nothing comes any more, and nothing can be sent. */
  finished(): void {
    this.#peerEnded = true;
    this.#peerGone = true;
    this.#gone.abort(otherEnded());
    this.#wakeReader?.();
    this.#wakeWriter?.();
  }

  /** Ends both directions; what waits for the reader is dropped. The first reason counts. */
  fail(reason: LonglineError): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#waiting.length = 0;
    this.#over.abort(reason);
    this.#gone.abort(reason);
    this.#wakeReader?.();
    this.#wakeWriter?.();
  }

  async *pieces(): AsyncGenerator<TunnelPiece, void, undefined> {
    let whole = false;
    try {
      for (;;) {
        if (this.#failure !== undefined) throw this.#failure;
        const piece = this.#waiting.shift();
        if (piece === undefined) {
          if (this.#peerEnded) break;
          await this.#change('reader');
          continue;
        }
        if (!('data' in piece)) this.#controls -= 1;
        yield piece;
        // Only now is it taken: whoever iterates has put it where it goes.
        if ('data' in piece) this.#tellTaken(piece.data.length);
      }
      whole = true;
    } finally {
      if (!whole) this.fail(new LonglineError('cancelled', 'the reader of the tunnel left'));
    }
  }

  async write(data: Uint8Array, stream: 'data' | 'stderr' = 'data'): Promise<void> {
    for (let at = 0; at < data.length; ) {
      this.#throwIfOver();
      const size = Math.min(this.#sending.room, TUNNEL_PIECE_BYTES, data.length - at);
      if (size === 0) {
        await this.#change('writer');
        continue;
      }
      this.#sending.spend(size);
      await this.#deliver({ kind: stream, data: data.subarray(at, at + size) });
      at += size;
    }
  }

  async say(piece: Exclude<TunnelPiece, { readonly data: Uint8Array }>): Promise<void> {
    this.#throwIfOver();
    await this.#deliver(piece);
  }

  async end(): Promise<void> {
    if (this.#ended || this.#peerGone || this.#failure !== undefined) return;
    this.#ended = true;
    await this.#deliver({ kind: 'half_close' });
  }

  #take(frame: TunnelFrame): void {
    if (frame.kind === 'window') {
      this.#sending.granted(frame.taken);
      this.#wakeWriter?.();
      return;
    }
    if (this.#peerEnded) throw new LonglineError('invalid', `"${frame.kind}" came after the end of its direction`);
    if (frame.kind === 'half_close') {
      this.#peerEnded = true;
      this.#wakeReader?.();
      return;
    }
    if ('data' in frame) {
      if (frame.data.length > TUNNEL_PIECE_BYTES) {
        const message = `a frame has ${frame.data.length} bytes; at most ${TUNNEL_PIECE_BYTES} are allowed`;
        throw new LonglineError('invalid', message);
      }
      this.#receiving.received(frame.data.length);
      if (frame.data.length === 0) return;
    } else this.#makeRoomFor(frame);
    this.#waiting.push(frame);
    this.#wakeReader?.();
  }

  #makeRoomFor(frame: TunnelPiece): void {
    // Of several sizes only the last one counts.
    if (frame.kind === 'resize' && this.#waiting.at(-1)?.kind === 'resize') {
      this.#waiting.pop();
      this.#controls -= 1;
    }
    this.#controls += 1;
    if (this.#controls <= MAX_WAITING_CONTROLS) return;
    throw new LonglineError('limit', `more than ${MAX_WAITING_CONTROLS} resizes and signals wait`, {
      retryable: false,
    });
  }

  #tellTaken(bytes: number): void {
    const taken = this.#receiving.took(bytes);
    if (taken === undefined || this.#failure !== undefined) return;
    this.#windowDue = taken;
    if (!this.#windowSending) void this.#sendWindows();
  }

  /** One window frame at a time: while the carrier is slow a later one takes the place of those before. */
  async #sendWindows(): Promise<void> {
    this.#windowSending = true;
    try {
      while (this.#windowDue !== undefined && !this.#peerGone && this.#failure === undefined) {
        const taken = this.#windowDue;
        this.#windowDue = undefined;
        await this.#deliver({ kind: 'window', taken });
      }
    } catch {
      // `deliver` has failed the tunnel, and its users hear of that.
    } finally {
      this.#windowSending = false;
    }
  }

  async #deliver(frame: TunnelFrame): Promise<void> {
    try {
      await this.#send(frame);
    } catch (error) {
      const reason =
        error instanceof LonglineError
          ? error
          : new LonglineError('unavailable', 'the tunnel was cut', { cause: error });
      this.fail(reason);
      throw this.#failure;
    }
  }

  #throwIfOver(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#peerGone) throw otherEnded();
    if (this.#ended) throw new LonglineError('wrong_state', 'the tunnel was ended in this direction');
  }

  async #change(who: 'reader' | 'writer'): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (who === 'reader') this.#wakeReader = resolve;
    else this.#wakeWriter = resolve;
    await promise;
    if (who === 'reader') this.#wakeReader = undefined;
    else this.#wakeWriter = undefined;
  }
}

function otherEnded(): LonglineError {
  return new LonglineError('unavailable', 'the other side ended the tunnel');
}
