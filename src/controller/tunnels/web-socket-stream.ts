// One WebSocket as the caller's end of a tunnel: binary messages are the bytes. It is read only as fast as the session
// takes, and written only as fast as its peer reads, so that nothing piles up here. There is no half-close over a WebSocket:
// when the session has sent all, the socket is closed; when the peer closes, the session hears an end.
import type { WebSocket } from 'ws';
import { LonglineError } from '../../core/errors.ts';
import {
  TUNNEL_PIECE_BYTES,
  type TunnelControl,
  type TunnelPiece,
  type TunnelStream,
} from '../../core/tunnel/tunnel-frame.ts';

/** Status codes of RFC 6455 and of ours (from 4000), with which a socket is closed. */
export const CLOSE = { normal: 1000, goingAway: 1001, unsupportedData: 1003, refused: 4000 } as const;

/** Bytes that may wait for the session before the socket is read no further. */
const MAX_WAITING_BYTES = TUNNEL_PIECE_BYTES;
/** Longest reason that a close frame can hold, in bytes of UTF-8. */
const LONGEST_REASON = 120;

/** Takes over an open WebSocket. */
export class WebSocketStream implements TunnelStream {
  readonly #socket: WebSocket;
  readonly #waiting: Uint8Array[] = [];
  readonly #gone = new AbortController();
  #waitingBytes = 0;
  #closed = false;
  #failure: LonglineError | undefined;
  #wake: (() => void) | undefined;
  #paused = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: Buffer, isBinary: boolean) => this.#take(data, isBinary));
    socket.on('error', (error) => {
      this.#failure ??= new LonglineError('unavailable', `the WebSocket broke: ${error.message}`, { cause: error });
      this.#wake?.();
    });
    socket.on('close', () => {
      this.#closed = true;
      this.#gone.abort(this.#failure ?? left());
      this.#wake?.();
    });
  }

  /** A socket that closed takes nothing, and what it sent before is of no use without an answer. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  get failed(): AbortSignal {
    return this.#gone.signal;
  }

  /** True while the socket isn't read, and so can't tell whether its peer still answers. */
  get paused(): boolean {
    return this.#paused;
  }

  async *pieces(): AsyncGenerator<TunnelPiece, void, undefined> {
    for (;;) {
      const data = this.#waiting.shift();
      if (data !== undefined) {
        yield { kind: 'data', data };
        this.#waitingBytes -= data.length;
        this.#readOn();
        continue;
      }
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#closed) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
      this.#wake = undefined;
    }
  }

  async *controls(): AsyncGenerator<TunnelControl, void, undefined> {
    // A byte stream has none.
  }

  async write(data: Uint8Array): Promise<void> {
    if (this.#socket.readyState !== this.#socket.OPEN) throw left();
    // The callback comes once the system has the bytes: a peer that reads no more is waited for here.
    await new Promise<void>((resolve, reject) => {
      this.#socket.send(data, { binary: true }, (error) => (error ? reject(left()) : resolve()));
    });
  }

  /** Sizes, signals and exit codes have no place in a byte stream. */
  async say(): Promise<void> {
    await Promise.resolve();
  }

  async end(): Promise<void> {
    this.close(CLOSE.normal, 'the session closed the connection');
  }

  /** Closes in good order; the peer has as long as the library gives it to answer. */
  close(code: number, reason: string): void {
    if (this.#paused) {
      // The answer to a close frame has to be read.
      this.#waiting.length = 0;
      this.#paused = false;
      this.#socket.resume();
    }
    this.#socket.close(code, cut(reason));
  }

  #take(data: Buffer, isBinary: boolean): void {
    if (!isBinary) {
      this.#failure ??= new LonglineError('invalid', 'tunnels take binary messages only');
      this.close(CLOSE.unsupportedData, this.#failure.message);
      return;
    }
    if (data.length === 0) return;
    this.#waiting.push(data);
    this.#waitingBytes += data.length;
    if (this.#waitingBytes >= MAX_WAITING_BYTES && !this.#paused) {
      this.#paused = true;
      this.#socket.pause();
    }
    this.#wake?.();
  }

  #readOn(): void {
    if (!this.#paused || this.#waitingBytes >= MAX_WAITING_BYTES / 2) return;
    this.#paused = false;
    this.#socket.resume();
  }
}

function left(): LonglineError {
  return new LonglineError('cancelled', 'the caller left');
}

function cut(reason: string): string {
  let text = reason;
  while (Buffer.byteLength(text) > LONGEST_REASON) text = text.slice(0, -1);
  return text;
}
