// One end of a tunnel over whatever carries its frames. It keeps the window in both directions, so that a reader that
// stops holds a window of bytes and not more, and never keeps other tunnels of the same carrier waiting. It knows no
// messages and no sockets. It fails for good at the first breach or when its carrier goes, and tells both its users why.
import { LonglineError } from '../errors.ts';
import { ReceiveCredit, SendCredit } from './credit.ts';
import {
  TUNNEL_PIECE_BYTES,
  type TunnelControl,
  type TunnelFrame,
  type TunnelPiece,
  type TunnelStream,
} from './tunnel-frame.ts';

/** Sizes and signals that may wait for their reader. */
const MAX_WAITING_CONTROLS = 64;

/** Takes a frame; resolves when there is room for the next, rejects if there is nobody any more. Calls may overlap. */
export type SendFrame = (frame: TunnelFrame) => Promise<void>;

/** One end. Its owner gives it what comes (`accept`), and says when nothing comes any more (`finished`, `fail`). */
export class TunnelEnd implements TunnelStream {
  readonly #send: SendFrame;
  readonly #sending = new SendCredit();
  readonly #receiving = new ReceiveCredit();
  readonly #waiting: TunnelPiece[] = [];
  readonly #controls: TunnelControl[] = [];
  readonly #over = new AbortController();
  readonly #gone = new AbortController();
  #ended = false;
  #peerEnded = false;
  #peerGone = false;
  #failure: LonglineError | undefined;
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;
  #wakeControls: (() => void) | undefined;
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
    this.#wakeAll();
  }

  /** Ends both directions; what waits for the reader is dropped. The first reason counts. */
  fail(reason: LonglineError): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#waiting.length = 0;
    this.#over.abort(reason);
    this.#gone.abort(reason);
    this.#wakeAll();
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

  async *controls(): AsyncGenerator<TunnelControl, void, undefined> {
    while (this.#failure === undefined) {
      const control = this.#controls.shift();
      if (control !== undefined) yield control;
      else if (this.#peerGone) return;
      else await this.#change('controls');
    }
  }

  async say(what: TunnelControl | Exclude<TunnelPiece, { readonly data: Uint8Array }>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#peerGone) throw otherEnded();
    await this.#deliver(what);
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
    if (frame.kind === 'resize' || frame.kind === 'signal') {
      this.#takeControl(frame);
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
    }
    this.#waiting.push(frame);
    this.#wakeReader?.();
  }

  #takeControl(control: TunnelControl): void {
    // Of several sizes only the last one counts.
    if (control.kind === 'resize' && this.#controls.at(-1)?.kind === 'resize') this.#controls.pop();
    if (this.#controls.length >= MAX_WAITING_CONTROLS) {
      throw new LonglineError('limit', `more than ${MAX_WAITING_CONTROLS} signals wait`, { retryable: false });
    }
    this.#controls.push(control);
    this.#wakeControls?.();
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

  async #change(who: 'reader' | 'writer' | 'controls'): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (who === 'reader') this.#wakeReader = resolve;
    else if (who === 'writer') this.#wakeWriter = resolve;
    else this.#wakeControls = resolve;
    await promise;
    if (who === 'reader') this.#wakeReader = undefined;
    else if (who === 'writer') this.#wakeWriter = undefined;
    else this.#wakeControls = undefined;
  }

  #wakeAll(): void {
    this.#wakeReader?.();
    this.#wakeWriter?.();
    this.#wakeControls?.();
  }
}

function otherEnded(): LonglineError {
  return new LonglineError('unavailable', 'the other side ended the tunnel');
}
