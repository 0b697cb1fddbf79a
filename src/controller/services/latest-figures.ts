// The latest figures of what agents have by name, in memory and bounded. They are gone with the process; a controller that starts
// anew has them again within an interval.

/** After this figures say nothing any more. */
const STALE_MS = 120_000;

/** Figures, and when they came. */
export interface Figures<T> {
  readonly figures: T;
  readonly atMs: number;
}

/** Names of one agent that figures are kept of: one that makes up names must not push out what others said. */
const MOST_OF_AGENT = 256;

/** Figures by agent and name: an agent can say nothing of another's. */
export class LatestFigures<T> {
  readonly #most: number;
  /** By agent and name, ordered by when they came. */
  readonly #latest = new Map<string, Figures<T> & { readonly agentId: string }>();
  /** Keys of each agent, in the same order. */
  readonly #keys = new Map<string, Set<string>>();

  /** Keeps those that were heard of last, at most so many. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Takes figures. Quick; never throws. */
  keep(agentId: string, name: string, figures: T, nowMs: number): void {
    const key = `${agentId} ${name}`;
    this.#drop(agentId, key);
    this.#latest.set(key, { agentId, figures, atMs: nowMs });
    const own = this.#keys.get(agentId) ?? new Set();
    this.#keys.set(agentId, own.add(key));
    if (own.size > MOST_OF_AGENT) this.#drop(agentId, own.values().next().value!);
    if (this.#latest.size <= this.#most) return;
    const [oldest, { agentId: whose }] = this.#latest.entries().next().value!;
    this.#drop(whose, oldest);
  }

  /** The latest figures, unless they are too old to say anything. */
  find(agentId: string, name: string, nowMs: number): Figures<T> | undefined {
    const latest = this.#latest.get(`${agentId} ${name}`);
    return latest !== undefined && nowMs - latest.atMs < STALE_MS ? latest : undefined;
  }

  #drop(agentId: string, key: string): void {
    this.#latest.delete(key);
    const own = this.#keys.get(agentId);
    own?.delete(key);
    if (own?.size === 0) this.#keys.delete(agentId);
  }
}
