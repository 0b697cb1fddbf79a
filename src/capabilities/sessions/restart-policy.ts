// Whether and when a session that ended is started again. Pure; the count of restarts is kept in the session's record, so
// that a crash loop survives a restart of the agent.

/** When a session that ended is started again, and how soon. */
export interface RestartPolicy {
  readonly when: 'never' | 'on_failure' | 'always';
  /** Restarts in a row, after which it is left as failed; 0 for no limit. */
  readonly maxRestarts: number;
  /** Before the first restart; doubled for each that follows. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** A run this long makes the next restart the first again. */
  readonly resetAfterMs: number;
}

/** How a run ended. */
export interface RunEnd {
  /** Undefined if nobody saw it. */
  readonly exitCode: number | undefined;
  readonly oomKilled: boolean;
  /** The health check failed too often. */
  readonly unhealthy: boolean;
  readonly ranMs: number;
  /** Restarts in a row before this end. */
  readonly restarts: number;
}

/** What to do about it. */
export type RestartDecision =
  /** Leave it ended. */
  | { readonly kind: 'leave' }
  /** A crash loop: it has used up its restarts. */
  | { readonly kind: 'give_up'; readonly restarts: number }
  /** Start it again after `delayMs`; `restarts` is the new count in a row. */
  | { readonly kind: 'restart'; readonly delayMs: number; readonly restarts: number };

/** Decides. @param random in [0, 1): spreads sessions that crash together. */
export function restartDecision(
  end: RunEnd,
  policy: RestartPolicy,
  random: () => number = Math.random,
): RestartDecision {
  const failed = end.exitCode !== 0 || end.oomKilled || end.unhealthy;
  if (policy.when === 'never' || (policy.when === 'on_failure' && !failed)) return { kind: 'leave' };
  const before = end.ranMs >= policy.resetAfterMs ? 0 : end.restarts;
  if (policy.maxRestarts > 0 && before >= policy.maxRestarts) return { kind: 'give_up', restarts: before };
  const spacing = Math.min(policy.maxBackoffMs, policy.backoffMs * 2 ** Math.min(before, 30));
  // Between half and all of it: never at once, never all together.
  return { kind: 'restart', delayMs: Math.round(spacing * (0.5 + random() / 2)), restarts: before + 1 };
}
