// How often the content of a log was replaced (taken anew, pruned) while this process lives, so that a reader's position
// is never applied to other bytes than it was taken from.

/** Logs remembered; a reader of one that was forgotten is sent back once more than needed. */
const MAX_LOGS = 10_000;

/** Counts by folder of the log. */
export class Generations {
  readonly #counts = new Map<string, number>();
  /** What a log has that was never replaced, or was forgotten. */
  #base = 0;
  #newest = 0;

  of(folder: string): number {
    return this.#counts.get(folder) ?? this.#base;
  }

  /** The log's content is about to be replaced. */
  advance(folder: string): void {
    this.#newest += 1;
    this.#counts.set(folder, this.#newest);
    if (this.#counts.size <= MAX_LOGS) return;
    this.#counts.clear();
    this.#newest += 1;
    this.#base = this.#newest;
  }
}
