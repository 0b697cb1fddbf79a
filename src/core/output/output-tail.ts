// The last bytes of a stream, to tell whether output that is read again is the same. Fixed memory, cheap for small pieces.

const TAIL_BYTES = 16 * 1024;

/** Bytes of one stream by their offset. */
export class OutputTail {
  #ring: Buffer | undefined;
  #from: number;
  #to: number;

  /** @param position offset of the first byte that will be pushed. */
  constructor(position: number) {
    this.#from = position;
    this.#to = position;
  }

  /** Takes the bytes that follow those before. */
  push(data: Uint8Array): void {
    this.#ring ??= Buffer.alloc(TAIL_BYTES);
    const last = data.subarray(Math.max(0, data.length - TAIL_BYTES));
    const at = (this.#to + data.length - last.length) % TAIL_BYTES;
    const head = Math.min(last.length, TAIL_BYTES - at);
    this.#ring.set(last.subarray(0, head), at);
    this.#ring.set(last.subarray(head), 0);
    this.#to += data.length;
    this.#from = Math.max(this.#from, this.#to - TAIL_BYTES);
  }

  /** Index of the first byte of `data`, which begins at `offset`, that is known to be another; undefined if none is. */
  difference(data: Uint8Array, offset: number): number | undefined {
    if (this.#ring === undefined) return undefined;
    const end = Math.min(data.length, this.#to - offset);
    for (let index = Math.max(0, this.#from - offset); index < end; index++) {
      if (data[index] !== this.#ring[(offset + index) % TAIL_BYTES]) return index;
    }
    return undefined;
  }
}
