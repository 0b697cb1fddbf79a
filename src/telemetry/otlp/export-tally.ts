// What keeps telemetry in bounds on its way out, and counts it: what waits has a most, and each batch ends as sent or as failed.
// A collector that is down or slow costs telemetry and no memory.
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';

/** What came since the start. `ended` is the sum of the others at any time. */
export interface ExportCounts {
  readonly ended: number;
  /** To be sent. */
  readonly waiting: number;
  /** On their way. */
  readonly sending: number;
  readonly sent: number;
  /** The collector refused them, or was not reached in time. */
  readonly failed: number;
  /** There was no room for them. */
  readonly dropped: number;
}

/** What is counted. */
export interface Counted {
  /** "spans". */
  readonly what: string;
  /** Said when some are lost; its facts are the counts. */
  readonly lost: string;
}

/** Between words of the same trouble. */
const TELL_EVERY_MS = 60_000;

/** Counts, and tells of losses now and then. */
export class ExportTally {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #counted: Counted;
  #toldMs = Number.NEGATIVE_INFINITY;
  #ended = 0;
  #waiting = 0;
  #sending = 0;
  #sent = 0;
  #failed = 0;
  #dropped = 0;

  constructor(clock: Clock, log: Logger, counted: Counted) {
    this.#clock = clock;
    this.#log = log;
    this.#counted = counted;
  }

  get counts(): ExportCounts {
    return {
      ended: this.#ended,
      waiting: this.#waiting,
      sending: this.#sending,
      sent: this.#sent,
      failed: this.#failed,
      dropped: this.#dropped,
    };
  }

  /** One more is there. True if it may wait, false if it is dropped, since `most` do already. */
  admit(most: number): boolean {
    this.#ended += 1;
    if (this.#waiting >= most) {
      this.#dropped += 1;
      this.#tellLoss(`${most} ${this.#counted.what} wait already, the most that are held`);
      return false;
    }
    this.#waiting += 1;
    return true;
  }

  /** A batch leaves; call what it gives with the error, or without one, once that is known. */
  departs(count: number): (error: Error | undefined) => void {
    this.#waiting -= count;
    this.#sending += count;
    return (error) => {
      this.#sending -= count;
      if (error === undefined) this.#sent += count;
      else {
        this.#failed += count;
        this.#tellLoss(`the collector took none of ${count}: ${error.message}`);
      }
    };
  }

  /** Nothing is sent any more. */
  givenUp(): void {
    const left = this.#waiting + this.#sending;
    if (left > 0) this.#tellLoss(`the collector took too long at the end: ${left} are given up`);
  }

  /** At most once a minute: a collector that is down is so for every batch. */
  #tellLoss(why: string): void {
    const nowMs = this.#clock.monotonic();
    if (nowMs - this.#toldMs < TELL_EVERY_MS) return;
    this.#toldMs = nowMs;
    this.#log.warn(this.#counted.lost, { why, ...this.counts });
  }
}
