// The latest figures of what agents have by name, in memory and bounded. They are gone with the process; a controller that starts
// anew has them again within an interval.

/** After this figures say nothing any more. */
const STALE_MS = 120_000;

/** Figures, and when they came. */
export interface Figures<T> {
  readonly figures: T;
  readonly atMs: number;
}

/** Figures by agent and name: an agent can say nothing of another's. */
export class LatestFigures<T> {
  readonly #most: number;
  /** Ordered by when they came. */
  readonly #latest = new Map<string, Figures<T>>();

  /** Keeps those that were heard of last, at most so many. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Takes figures. Quick; never throws. */
  keep(agentId: string, name: string, figures: T, nowMs: number): void {
    const key = `${agentId} ${name}`;
    this.#latest.delete(key);
    this.#latest.set(key, { figures, atMs: nowMs });
    if (this.#latest.size > this.#most) this.#latest.delete(this.#latest.keys().next().value!);
  }

  /** The latest figures, unless they are too old to say anything. */
  find(agentId: string, name: string, nowMs: number): Figures<T> | undefined {
    const latest = this.#latest.get(`${agentId} ${name}`);
    return latest !== undefined && nowMs - latest.atMs < STALE_MS ? latest : undefined;
  }
}
