// Where each output stream of each execution stands, so that after a broken connection no byte is shown twice and none
// is missed without a word. Pure.

/** Bytes that are to be shown, and the hole before them if there is one. */
export interface AcceptedBytes {
  /** Bytes missing before `data` that nobody declared; 0 in the normal case. */
  readonly missing: bigint;
  /** A view into the chunk; empty if all of it was seen. */
  readonly data: Uint8Array;
}

/** Next offset wanted by execution and stream. */
export class StreamOffsets {
  readonly #next = new Map<string, Map<string, bigint>>();

  /** Starts a stream elsewhere than at 0; used for a read that asks for a later part. */
  startAt(executionId: string, stream: string, offset: bigint): void {
    this.#of(executionId).set(stream, offset);
  }

  /** Takes a chunk: what was seen is cut off. */
  take(executionId: string, stream: string, offset: bigint, data: Uint8Array): AcceptedBytes {
    const streams = this.#of(executionId);
    const next = streams.get(stream) ?? 0n;
    const end = offset + BigInt(data.length);
    if (data.length === 0 || end <= next) return { missing: 0n, data: data.subarray(0, 0) };
    streams.set(stream, end);
    if (offset >= next) return { missing: offset - next, data };
    return { missing: 0n, data: data.subarray(Number(next - offset)) };
  }

  /** Takes a declared hole: the number of bytes of it that weren't passed yet. */
  skip(executionId: string, stream: string, from: bigint, to: bigint): bigint {
    const streams = this.#of(executionId);
    const next = streams.get(stream) ?? 0n;
    if (to <= next) return 0n;
    streams.set(stream, to);
    return to - (from > next ? from : next);
  }

  /** Where to go on, by stream name; streams that had no byte yet are left out. */
  resumeFrom(executionId: string): Record<string, bigint> {
    return Object.fromEntries(this.#of(executionId));
  }

  #of(executionId: string): Map<string, bigint> {
    const known = this.#next.get(executionId);
    if (known !== undefined) return known;
    const streams = new Map<string, bigint>();
    this.#next.set(executionId, streams);
    return streams;
  }
}
