// Sparse index of a log: at some positions, how long each stream was there. Finds by binary search where a byte lies, and
// from where a tail has to be looked through after a crash. The file beside the segments is only ever a hint: it names
// positions that were synced before, is checked by CRC, and a log without it is looked through from its start.
import { decodeRecord, encodeRecord } from '../../core/record-codec.ts';
import type { LogExtents, StreamExtent } from './log-state.ts';

/** One point of a log: all records before `position` make up `extents`. */
export interface IndexEntry {
  readonly position: number;
  readonly extents: LogExtents;
}

const ENTRY = 1;

/** Serialises an entry for the index file. */
export function encodeIndexEntry({ position, extents }: IndexEntry): Buffer {
  const streams = [...extents].map(([name, extent]) => [name, extent.length, extent.gapBytes]);
  return encodeRecord(ENTRY, Buffer.from(JSON.stringify([position, streams])));
}

/** What an index file holds of use. */
export interface DecodedIndex {
  readonly entries: readonly IndexEntry[];
  /** False if something of the file isn't among them: it has to be written anew before it is appended to. */
  readonly whole: boolean;
}

/** Entries of an index file for a log of `length` bytes, up to the first that is damaged or lies past the log's end. */
export function decodeIndex(bytes: Buffer, length: number): DecodedIndex {
  const entries: IndexEntry[] = [];
  for (let at = 0; ; ) {
    const found = decodeRecord(bytes, at);
    if (found.kind !== 'record' || found.record.type !== ENTRY) return { entries, whole: at === bytes.length };
    const [position, streams] = JSON.parse(Buffer.from(found.record.body).toString()) as [
      number,
      [string, number, number][],
    ];
    const extents = new Map(
      streams.map(([name, length, gapBytes]): [string, StreamExtent] => [name, { length, gapBytes }]),
    );
    if (position > length) return { entries, whole: false };
    entries.push({ position, extents });
    at = found.record.end;
  }
}

/** Entries in order of position. */
export class LogIndex {
  readonly #entries: IndexEntry[];

  constructor(entries: readonly IndexEntry[]) {
    this.#entries = [...entries];
  }

  /** The entry furthest into the log. */
  get last(): IndexEntry | undefined {
    return this.#entries.at(-1);
  }

  add(entry: IndexEntry): void {
    this.#entries.push(entry);
  }

  /** A position at or before the record that holds byte `offset` of a stream. */
  locate(stream: string, offset: number): number {
    const entry = this.#lastWhere((candidate) => (candidate.extents.get(stream)?.length ?? 0) <= offset);
    return entry?.position ?? 0;
  }

  /** The first entry past a position. */
  after(position: number): IndexEntry | undefined {
    return this.#entries.find((entry) => entry.position > position);
  }

  #lastWhere(holds: (entry: IndexEntry) => boolean): IndexEntry | undefined {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (holds(this.#entries[middle]!)) low = middle + 1;
      else high = middle;
    }
    return this.#entries[low - 1];
  }
}
