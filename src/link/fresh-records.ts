// Records of a log that were written a moment ago, so that the shipper need not read them back from disk. Only ever a
// shortcut: what isn't here is on disk. All logs of a spool share one budget, so that many of them don't add up.
import type { SpoolChunk, SpoolGap } from './spool-record.ts';

/** What a record of a segment says, as far as a reader is concerned. */
export type SpoolItem =
  | { readonly kind: 'chunk'; readonly chunk: SpoolChunk }
  | { readonly kind: 'gap'; readonly gap: SpoolGap }
  /** A head or a close: nothing for a reader. */
  | { readonly kind: 'other' };

/** A record and where in the files it is. */
export interface FreshRecord {
  readonly item: SpoolItem;
  readonly segment: number;
  readonly start: number;
  readonly end: number;
}

/** Memory shared by the logs of a spool. */
export interface FreshBudget {
  readonly maxBytes: number;
  usedBytes: number;
}

/** Most that one log keeps of the budget. */
const MAX_LOG_BYTES = 1024 * 1024;

/** In the order of the files, without holes at its end. One reader: what it has passed is dropped. */
export class FreshRecords {
  readonly #budget: FreshBudget;
  #records: FreshRecord[] = [];
  #first = 0;
  #bytes = 0;

  constructor(budget: FreshBudget) {
    this.#budget = budget;
  }

  /** Keeps a record that follows the last one; the oldest go if there is no room for it. */
  add(record: FreshRecord): void {
    const bytes = record.end - record.start;
    this.#bytes += bytes;
    this.#budget.usedBytes += bytes;
    this.#records.push(record);
    while (this.#bytes > MAX_LOG_BYTES || (this.#budget.usedBytes > this.#budget.maxBytes && this.#bytes > 0)) {
      this.#dropFirst();
    }
  }

  /** The record that begins here, taken out with all before it; undefined if it is only on disk. */
  take(segment: number, start: number): FreshRecord | undefined {
    for (let record = this.#records[this.#first]; record !== undefined; record = this.#records[this.#first]) {
      if (record.segment > segment || (record.segment === segment && record.start > start)) return undefined;
      this.#dropFirst();
      if (record.segment === segment && record.start === start) return record;
    }
    return undefined;
  }

  /** Gives the memory back. */
  clear(): void {
    this.#budget.usedBytes -= this.#bytes;
    this.#bytes = 0;
    this.#records = [];
    this.#first = 0;
  }

  #dropFirst(): void {
    const record = this.#records[this.#first]!;
    this.#bytes -= record.end - record.start;
    this.#budget.usedBytes -= record.end - record.start;
    this.#first += 1;
    if (this.#first < 64 && this.#first < this.#records.length) return;
    this.#records.splice(0, this.#first);
    this.#first = 0;
  }
}
