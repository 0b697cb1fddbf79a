// From a container's output to its log: exact offsets, the output limit, and what happens when the log fails. It never
// stops taking output, since a container whose output nobody reads freezes, and its kill with it.
import type { Clock } from '../clock.ts';
import { LonglineError, toLonglineError } from '../errors.ts';
import type { ClosedStream, GapReason, OutputLog, OutputPiece, StreamName } from './output-log.ts';
import { OutputTail } from './output-tail.ts';

interface StreamState {
  /** Bytes of the stream seen so far, kept or not. */
  position: number;
  /** Bytes past the limit that no gap covers yet. */
  undeclared: number;
  /** Bytes covered by gaps for the limit. */
  declared: number;
  /** The last bytes seen by this process. */
  readonly tail: OutputTail;
}

const FIRST_DECLARED = 64 * 1024;

/** Records one container's output. One caller at a time. */
export class OutputRecorder {
  readonly #log: OutputLog;
  readonly #limitBytes: number;
  readonly #clock: Clock;
  readonly #streams: Record<StreamName, StreamState>;
  readonly #failed = Promise.withResolvers<LonglineError>();
  #failure: LonglineError | undefined;
  #lossDeclared = false;

  /** @param limitBytes kept for each stream; counts from the stream's first byte, also after a recovery. */
  constructor(log: OutputLog, limitBytes: number, clock: Clock) {
    this.#log = log;
    this.#limitBytes = limitBytes;
    this.#clock = clock;
    const begin = (stream: StreamName): StreamState => {
      const position = log.length(stream);
      return { position, undeclared: 0, declared: 0, tail: new OutputTail(position) };
    };
    this.#streams = { stdout: begin('stdout'), stderr: begin('stderr') };
  }

  /** Bytes of a stream seen so far, kept or not: where a recovery goes on. */
  position(stream: StreamName): number {
    return this.#streams[stream].position;
  }

  /** Grows with every byte seen. */
  get total(): number {
    return this.#streams.stdout.position + this.#streams.stderr.position;
  }

  /** Resolves with the error if the log ever fails; what comes after that is counted and dropped. */
  get failed(): Promise<LonglineError> {
    return this.#failed.promise;
  }

  /** True once bytes were declared as possibly missing: positions count on from there, and fit no other count. */
  get lossDeclared(): boolean {
    return this.#lossDeclared;
  }

  /** Index of the first byte of `data`, read again from `offset` on, that was another when it was seen; undefined if none. */
  difference(stream: StreamName, data: Uint8Array, offset: number): number | undefined {
    return this.#streams[stream].tail.difference(data, offset);
  }

  /** Takes a piece. Resolves when there is room for more. Never rejects. */
  async record(piece: OutputPiece): Promise<void> {
    const state = this.#streams[piece.stream];
    const room = Math.max(0, this.#limitBytes - state.position);
    const kept = piece.data.length <= room ? piece.data : piece.data.subarray(0, room);
    state.tail.push(piece.data);
    state.position += piece.data.length;
    if (this.#failure !== undefined) return;
    try {
      if (kept.length > 0) await this.#log.append({ stream: piece.stream, data: kept }, this.#clock.now());
      state.undeclared += piece.data.length - kept.length;
      // At once for the first, so that a reader learns of it; then ever more rarely.
      const due = state.declared === 0 ? 1 : Math.max(FIRST_DECLARED, state.declared);
      if (state.undeclared >= due) await this.#declare(piece.stream);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Declares that from here on bytes may be missing, where the engine's own log may have dropped its oldest ones. */
  async declareLoss(): Promise<void> {
    if (this.#lossDeclared || this.#failure !== undefined) return;
    this.#lossDeclared = true;
    for (const stream of ['stdout', 'stderr'] as const) {
      if (this.#streams[stream].position >= this.#limitBytes) continue;
      await this.#gap(stream, 1, 'unrecoverable');
      this.#streams[stream].position += 1;
    }
  }

  /** Declares what is undeclared and closes the log. Rejects with `limit` if the log failed now or earlier. */
  async close(): Promise<readonly ClosedStream[]> {
    for (const stream of ['stdout', 'stderr'] as const) {
      if (this.#failure === undefined) await this.#declare(stream).catch((error: unknown) => this.#fail(error));
    }
    try {
      const closed = await this.#log.close();
      if (this.#failure === undefined) return closed;
    } catch (error) {
      this.#fail(error);
    }
    throw this.#failure;
  }

  /** Gives the log up, as if it had failed: for one that takes nothing any more. */
  abandon(error: LonglineError): void {
    this.#fail(error);
  }

  async #declare(stream: StreamName): Promise<void> {
    const state = this.#streams[stream];
    if (state.undeclared === 0) return;
    const bytes = state.undeclared;
    state.undeclared = 0;
    state.declared += bytes;
    await this.#log.gap(stream, bytes, 'output_limit');
  }

  async #gap(stream: StreamName, bytes: number, reason: GapReason): Promise<void> {
    await this.#log.gap(stream, bytes, reason).catch((error: unknown) => this.#fail(error));
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    const cause = toLonglineError(error);
    const message = `the output could not be kept: ${cause.reason === 'internal' ? 'its log failed' : cause.message}`;
    this.#failure = new LonglineError('limit', message, { cause: error });
    this.#failed.resolve(this.#failure);
  }
}

/**
 * What a recorder hasn't seen yet of output that is read again from its first byte. Once more was read than the engine
 * promised to keep, the oldest may be gone and with it the count: that is declared, once. So it is where the kept output
 * is not what was seen: an engine that is killed keeps less than it had sent already, and what comes after the kill
 * follows without a seam.
 */
export async function* unseen(
  pieces: AsyncIterable<OutputPiece>,
  recorder: OutputRecorder,
  keptBytes: number,
): AsyncGenerator<OutputPiece, void, undefined> {
  const skip: Record<StreamName, number> = {
    stdout: recorder.position('stdout'),
    stderr: recorder.position('stderr'),
  };
  const offset: Record<StreamName, number> = { stdout: 0, stderr: 0 };
  const comparable = !recorder.lossDeclared;
  let read = 0;
  for await (const { stream, data } of pieces) {
    read += data.length;
    if (read > keptBytes) await recorder.declareLoss();
    let seen = Math.min(skip[stream], data.length);
    skip[stream] -= seen;
    const other = comparable ? recorder.difference(stream, data.subarray(0, seen), offset[stream]) : undefined;
    offset[stream] += data.length;
    if (other !== undefined) {
      await recorder.declareLoss();
      seen = other;
      skip[stream] = 0;
    }
    if (seen < data.length) yield { stream, data: data.subarray(seen) };
  }
}
