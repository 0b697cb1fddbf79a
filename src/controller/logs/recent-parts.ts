// What was appended to a log a moment ago, so that followers need not read it back from disk. Only ever a shortcut. Kept
// only while somebody keeps up with the log: begun by a reader at its end, given up when nobody reads what is kept.
import type { LogRecord } from './log-record.ts';

/** A record and the position after it. */
export interface RecentRecord {
  readonly record: LogRecord;
  readonly start: number;
  readonly end: number;
}

const MAX_BYTES = 1024 * 1024;
/** Appended and not read: its readers have left, or are far behind. */
const MAX_UNREAD_BYTES = 2 * MAX_BYTES;

/** Of one log. */
export class RecentParts {
  #records: RecentRecord[] = [];
  #bytes = 0;
  #unreadBytes = 0;
  #wanted = false;

  /** Notes what was appended. Records follow each other without a hole. */
  add(record: LogRecord, start: number, end: number): void {
    if (!this.#wanted) return;
    this.#unreadBytes += end - start;
    if (this.#unreadBytes > MAX_UNREAD_BYTES) {
      this.clear();
      return;
    }
    this.#records.push({ record, start, end });
    this.#bytes += end - start;
    while (this.#bytes > MAX_BYTES) {
      const first = this.#records.shift()!;
      this.#bytes -= first.end - first.start;
    }
  }

  /** A reader is at the end of the log. */
  follow(): void {
    this.#wanted = true;
    this.#unreadBytes = 0;
  }

  /** Records from a position on, about `maxBytes` of them; none if that position isn't kept. */
  from(position: number, maxBytes: number): readonly RecentRecord[] {
    // From the end, where readers are that keep up.
    const begin = this.#records.findLastIndex((record) => record.start <= position);
    if (this.#records[begin]?.start !== position) return [];
    this.#unreadBytes = 0;
    let end = begin;
    for (let bytes = 0; end < this.#records.length && bytes < maxBytes; end++) {
      bytes += this.#records[end]!.end - this.#records[end]!.start;
    }
    return this.#records.slice(begin, end);
  }

  /** Forgets everything, also that somebody reads. */
  clear(): void {
    this.#records = [];
    this.#bytes = 0;
    this.#unreadBytes = 0;
    this.#wanted = false;
  }
}
