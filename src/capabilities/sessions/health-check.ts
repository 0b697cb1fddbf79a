// What a health check is, and how its results add up. Pure; who runs the probes is in health-watch.ts.

/** What is tried. */
export type Probe =
  /** Healthy if it exits with 0. */
  | { readonly kind: 'command'; readonly argv: readonly string[] }
  /** Healthy if the port takes a connection. */
  | { readonly kind: 'tcp'; readonly port: number }
  /** Healthy if the answer's status is from 200 to 399. */
  | { readonly kind: 'http'; readonly port: number; readonly path: string };

/** When and how often. */
export interface HealthCheck {
  readonly probe: Probe;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Failures in a row that make it unhealthy. */
  readonly retries: number;
  /** After a start, failures don't count for this long. */
  readonly startPeriodMs: number;
  /** Failures in a row after which it is restarted; 0 for never. */
  readonly restartAfter: number;
}

/** Result of the latest probes. */
export interface HealthTally {
  /** Failures in a row. */
  readonly failures: number;
  readonly verdict: 'pending' | 'healthy' | 'unhealthy' | 'restart';
}

/** Before the first probe. */
export const UNTRIED: HealthTally = { failures: 0, verdict: 'pending' };

/** Adds a result. A failure in the start period, or before the first success in it, doesn't count. */
export function tally(before: HealthTally, passed: boolean, sinceStartMs: number, check: HealthCheck): HealthTally {
  if (passed) return { failures: 0, verdict: 'healthy' };
  if (sinceStartMs < check.startPeriodMs) return before;
  const failures = before.failures + 1;
  if (check.restartAfter > 0 && failures >= check.restartAfter) return { failures, verdict: 'restart' };
  if (failures >= check.retries) return { failures, verdict: 'unhealthy' };
  return { failures, verdict: before.verdict };
}
