// One check of `longline doctor`: what was looked at, what was found, and what mends it.

/** How a check ended. */
export type CheckStatus =
  /** Nothing to do. */
  | 'ok'
  /** Works, but less well or less safely than it could. */
  | 'warn'
  /** Something will not work. */
  | 'fail';

/** A finding. */
export interface CheckResult {
  readonly name: string;
  readonly status: CheckStatus;
  readonly detail: string;
  /** What to do; empty if nothing. */
  readonly mend: string;
}

/** Shorthands for results of one check. */
export function resultsOf(name: string): {
  ok(detail: string): CheckResult;
  warn(detail: string, mend: string): CheckResult;
  fail(detail: string, mend: string): CheckResult;
} {
  return {
    ok: (detail) => ({ name, status: 'ok', detail, mend: '' }),
    warn: (detail, mend) => ({ name, status: 'warn', detail, mend }),
    fail: (detail, mend) => ({ name, status: 'fail', detail, mend }),
  };
}
