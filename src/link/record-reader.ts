// Reads the records of one append-only file in order, in blocks, without holding the file in memory.
import type { FileHandle } from 'node:fs/promises';
import { type DecodedRecord, decodeRecord, RECORD_HEADER_BYTES } from '../core/record-codec.ts';

const BLOCK_BYTES = 256 * 1024;

/** What stands at the reader's position. */
export type ReadStep =
  /** A whole record; its body is valid until the next call. `start` and `end` are file offsets. */
  | { readonly kind: 'record'; readonly record: DecodedRecord }
  /** The limit lies exactly here. */
  | { readonly kind: 'end' }
  /** What follows is no whole record: torn if the limit cuts it, damaged if length or CRC is wrong. */
  | { readonly kind: 'bad'; readonly reason: 'torn' | 'damaged' };

/** A position in a file of records. The file handle belongs to the caller. */
export class RecordReader {
  readonly #file: Pick<FileHandle, 'read'>;
  #buffer: Buffer = Buffer.alloc(0);
  /** File offset of the buffer's first byte. */
  #base: number;
  #at = 0;

  constructor(file: Pick<FileHandle, 'read'>, offset = 0) {
    this.#file = file;
    this.#base = offset;
  }

  /** File offset of the next record. */
  get offset(): number {
    return this.#base + this.#at;
  }

  /** Goes on at a later record, of which the caller knows where it begins. */
  skipTo(offset: number): void {
    this.#at = offset - this.#base;
    if (this.#at <= this.#buffer.length) return;
    this.#buffer = Buffer.alloc(0);
    this.#base = offset;
    this.#at = 0;
  }

  /** The next record that lies wholly below `limit`. Does not move past anything that isn't a good record. */
  async next(limit: number): Promise<ReadStep> {
    let needBytes = RECORD_HEADER_BYTES;
    for (;;) {
      const left = limit - this.offset;
      if (left === 0) return { kind: 'end' };
      if (left < needBytes) return { kind: 'bad', reason: 'torn' };
      if (this.#buffer.length - this.#at < needBytes && !(await this.#fill(needBytes, limit))) {
        return { kind: 'bad', reason: 'torn' };
      }
      const found = decodeRecord(this.#buffer, this.#at);
      if (found.kind === 'damaged') return { kind: 'bad', reason: 'damaged' };
      if (found.kind === 'incomplete') {
        needBytes = found.needBytes;
        continue;
      }
      const start = this.offset;
      this.#at = found.record.end;
      return { kind: 'record', record: { ...found.record, start, end: this.offset } };
    }
  }

  async #fill(needBytes: number, limit: number): Promise<boolean> {
    const rest = this.#buffer.subarray(this.#at);
    const size = Math.min(Math.max(needBytes, BLOCK_BYTES), limit - this.offset);
    const next = Buffer.allocUnsafeSlow(size);
    rest.copy(next);
    let filled = rest.length;
    while (filled < size) {
      const { bytesRead } = await this.#file.read(next, filled, size - filled, this.offset + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    this.#base += this.#at;
    this.#at = 0;
    this.#buffer = next.subarray(0, filled);
    return filled >= needBytes;
  }
}
