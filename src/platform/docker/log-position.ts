// How far a log was read, by bytes of each stream, so that another reading from the same beginning goes on from there.
import type { OutputPiece } from '../../capabilities/jobs/ports.ts';

/** Place in a log that is read more than once. */
export class LogPosition {
  readonly #bytes = { stdout: 0, stderr: 0 };

  /** What `pieces`, a reading from the log's beginning, has beyond this place, which moves along with what is given. */
  async *beyond(pieces: AsyncIterable<OutputPiece>): AsyncGenerator<OutputPiece, void, undefined> {
    const left = { ...this.#bytes };
    for await (const { stream, data } of pieces) {
      const skip = Math.min(left[stream], data.length);
      left[stream] -= skip;
      if (skip === data.length) continue;
      this.#bytes[stream] += data.length - skip;
      yield { stream, data: data.subarray(skip) };
    }
  }
}
