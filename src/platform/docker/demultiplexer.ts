// Splits the engine's multiplexed stream (8-byte header: stream, 3 zeros, big-endian length; then payload) into pieces.
// Works on any chunking without waiting for whole frames and without copying payload out of the chunk: payloads of
// neighbouring frames of one stream are moved together inside the chunk, so that short lines become few, large pieces.
// Must not know sockets or containers. A header that can't be one is an error: nothing after it could be trusted.
import type { OutputPiece, StreamName } from '../../capabilities/jobs/ports.ts';
import { LonglineError } from '../../core/errors.ts';

const HEADER_BYTES = 8;
/** Payloads of at least this size stay where they are and make a piece of their own. */
const MOVE_LIMIT_BYTES = 8192;
/** Below this a plain loop beats copyWithin. */
const LOOP_LIMIT_BYTES = 64;
/** Most of an engine's in-band error message that is kept. */
const NOTICE_LIMIT_BYTES = 4096;

const STDERR = 2;
/** Docker's name for it is "systemerr": the daemon reports a fault of its own in-band. */
const ENGINE_ERROR = 3;

/** Incremental parser. Feed it every chunk in order, then call `end`. */
export class Demultiplexer {
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerFill = 0;
  #stream = 0;
  #left = 0;
  #notice = '';

  /**
   * Takes a chunk, which it may rearrange: the caller must own it. Gives the payload in it, in order, as views into it.
   * Throws LonglineError `internal` at a malformed header and `unavailable` at an error reported by the engine.
   */
  push(chunk: Uint8Array): OutputPiece[] {
    const pieces: OutputPiece[] = [];
    const end = chunk.length;
    let at = 0;
    // The run: bytes of one stream that are contiguous in the chunk, not yet given out.
    let runStart = 0;
    let runEnd = 0;
    let runStream = 0;
    while (at < end) {
      if (this.#left === 0) {
        at = this.#readHeader(chunk, at);
        continue;
      }
      const size = Math.min(this.#left, end - at);
      const stream = this.#stream;
      if (stream === ENGINE_ERROR) {
        this.#takeNotice(chunk.subarray(at, at + size));
      } else if (runEnd === runStart || stream !== runStream || size >= MOVE_LIMIT_BYTES) {
        if (runEnd > runStart) pieces.push(piece(chunk, runStart, runEnd, runStream));
        runStart = at;
        runEnd = at + size;
        runStream = stream;
      } else {
        move(chunk, runEnd, at, size);
        runEnd += size;
      }
      at += size;
      this.#left -= size;
      if (this.#left === 0 && stream === ENGINE_ERROR) throw this.#noticeError();
    }
    if (runEnd > runStart) pieces.push(piece(chunk, runStart, runEnd, runStream));
    return pieces;
  }

  /** Throws `unavailable` if the stream ended inside a frame. */
  end(): void {
    if (this.#left === 0 && this.#headerFill === 0) return;
    throw new LonglineError('unavailable', 'the container engine cut the output stream inside a frame');
  }

  /** Reads a header, or as much of it as there is; gives the offset after it. */
  #readHeader(chunk: Uint8Array, start: number): number {
    if (this.#headerFill === 0 && chunk.length - start >= HEADER_BYTES) {
      this.#accept(chunk, start);
      return start + HEADER_BYTES;
    }
    const size = Math.min(HEADER_BYTES - this.#headerFill, chunk.length - start);
    for (let index = 0; index < size; index++) this.#header[this.#headerFill + index] = chunk[start + index]!;
    this.#headerFill += size;
    if (this.#headerFill === HEADER_BYTES) {
      this.#headerFill = 0;
      this.#accept(this.#header, 0);
    }
    return start + size;
  }

  #accept(bytes: Uint8Array, at: number): void {
    const stream = bytes[at]!;
    if (stream > ENGINE_ERROR || bytes[at + 1]! !== 0 || bytes[at + 2]! !== 0 || bytes[at + 3]! !== 0) {
      const hex = Buffer.from(bytes.subarray(at, at + HEADER_BYTES)).toString('hex');
      throw new LonglineError('internal', `the container engine sent a malformed output header ${hex}`);
    }
    this.#stream = stream;
    this.#left = ((bytes[at + 4]! << 24) | (bytes[at + 5]! << 16) | (bytes[at + 6]! << 8) | bytes[at + 7]!) >>> 0;
    if (stream === ENGINE_ERROR && this.#left === 0) throw this.#noticeError();
  }

  #takeNotice(bytes: Uint8Array): void {
    if (this.#notice.length < NOTICE_LIMIT_BYTES) this.#notice += Buffer.from(bytes).toString('utf8');
  }

  #noticeError(): LonglineError {
    const text = this.#notice.slice(0, NOTICE_LIMIT_BYTES).trim();
    return new LonglineError('unavailable', `the container engine broke off the output: ${text || '(no message)'}`);
  }
}

/** Splits a whole source, pulling the next chunk only when the reader asks for more. Throws what the source throws. */
export async function* demultiplex(source: AsyncIterable<Uint8Array>): AsyncGenerator<OutputPiece, void, undefined> {
  const demultiplexer = new Demultiplexer();
  for await (const chunk of source) yield* demultiplexer.push(chunk);
  demultiplexer.end();
}

function piece(chunk: Uint8Array, start: number, end: number, stream: number): OutputPiece {
  const name: StreamName = stream === STDERR ? 'stderr' : 'stdout';
  return { stream: name, data: chunk.subarray(start, end) };
}

function move(chunk: Uint8Array, to: number, from: number, size: number): void {
  if (size >= LOOP_LIMIT_BYTES) chunk.copyWithin(to, from, from + size);
  else for (let index = 0; index < size; index++) chunk[to + index] = chunk[from + index]!;
}
