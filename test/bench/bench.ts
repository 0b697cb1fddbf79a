// What a bench is. A bench measures and reports; it never fails because we are slow, only because it couldn't measure. Each
// figure stands beside a peer doing the same work in the same run, and beside its goal, met or not.

/** One figure. */
export interface BenchRow {
  readonly metric: string;
  readonly unit: string;
  readonly ours: number;
  /** Undefined if nobody does this. */
  readonly peer?: { readonly name: string; readonly value: number };
  /** What we aim at; undefined for a figure that is only reported. */
  readonly goal?: BenchGoal;
}

/** A bound on our figure, or on our figure divided by the peer's. */
export type BenchGoal =
  /** Ours may be at most this. */
  | { readonly kind: 'at most'; readonly value: number }
  /** Ours divided by the peer's may be at most this. */
  | { readonly kind: 'ratio at most'; readonly value: number }
  /** Ours divided by the peer's has to be at least this. */
  | { readonly kind: 'ratio at least'; readonly value: number };

/** What a bench is given. */
export interface BenchContext {
  /** Shortens everything to see that it works; figures then mean little. */
  readonly quick: boolean;
  /** For remarks while it runs. */
  readonly say: (text: string) => void;
}

/** One bench; a file `NAME.bench.ts` exports it as `bench`. */
export interface Bench {
  readonly name: string;
  readonly description: string;
  /** Why it can't run here, and what would mend that; undefined if it can. */
  readonly missing: () => string | undefined;
  run(context: BenchContext): Promise<readonly BenchRow[]>;
}

/** Ours divided by the peer's. */
export function ratioOf(row: BenchRow): number | undefined {
  return row.peer === undefined || row.peer.value === 0 ? undefined : row.ours / row.peer.value;
}

/** Whether the goal is met; undefined if there is none. A figure that isn't a number meets nothing. */
export function isMet(row: BenchRow): boolean | undefined {
  if (row.goal === undefined) return undefined;
  const figure = row.goal.kind === 'at most' ? row.ours : ratioOf(row);
  if (figure === undefined || !Number.isFinite(figure)) return false;
  return row.goal.kind === 'ratio at least' ? figure >= row.goal.value : figure <= row.goal.value;
}

/** The value below which `fraction` of the samples lie (nearest rank). Throws if there are none. */
export function percentile(samples: readonly number[], fraction: number): number {
  if (samples.length === 0) throw new Error('no samples were taken');
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(fraction * sorted.length) - 1))]!;
}

/** The middle sample. */
export function median(samples: readonly number[]): number {
  return percentile(samples, 0.5);
}
