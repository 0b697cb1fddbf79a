// How the agent is: a table of checks, looked at when somebody asks, and at most once a second however many ask. It knows nothing of
// what the checks look at. A check that hangs or throws is a finding like another, holds up no answer for long and is not begun again
// before it has ended; nothing here throws.
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import { type Check, type CheckState, type Finding, worstOf } from './check.ts';

/** Longest time that an answer waits for a check. */
const LOOK_LIMIT_MS = 2_000;
/** Findings that are younger are told again. */
const FRESH_MS = 1_000;

/** What a check found. */
export interface CheckReport extends Finding {
  readonly name: string;
  /** Since when it is in this state, as far as anybody looked; milliseconds since the epoch. */
  readonly sinceMs: number;
}

/** How the agent is. */
export interface HealthReport {
  /** The worst of all checks. */
  readonly state: CheckState;
  /** In the order of the table. */
  readonly checks: readonly CheckReport[];
  /** Why the agent isn't ready for work; undefined if it is. */
  readonly unready: string | undefined;
}

/** What it is made from. */
export interface AgentHealthOptions {
  readonly checks: readonly Check[];
  /** Why the agent isn't ready for work; undefined if it is. */
  readonly unready: () => string | undefined;
  readonly clock: Clock;
}

/** One per agent. */
export class AgentHealth {
  readonly #options: AgentHealthOptions;
  readonly #pending = new Map<string, Promise<Finding>>();
  readonly #since = new Map<string, { readonly state: CheckState; readonly sinceMs: number }>();
  #latest: { readonly atMs: number; readonly checks: Promise<readonly CheckReport[]> } | undefined;

  constructor(options: AgentHealthOptions) {
    this.#options = options;
  }

  /** How it is now; in `LOOK_LIMIT_MS` at most. */
  async report(): Promise<HealthReport> {
    const { checks, clock, unready } = this.#options;
    const nowMs = clock.monotonic();
    if (this.#latest === undefined || nowMs - this.#latest.atMs >= FRESH_MS) {
      this.#latest = { atMs: nowMs, checks: Promise.all(checks.map((check) => this.#look(check))) };
    }
    const found = await this.#latest.checks;
    return { state: worstOf(found.map(({ state }) => state)), checks: found, unready: unready() };
  }

  async #look(check: Check): Promise<CheckReport> {
    const { name } = check;
    const finding = await this.#withinLimit(name, this.#begin(check));
    const before = this.#since.get(name);
    const sinceMs = before?.state === finding.state ? before.sinceMs : this.#options.clock.now();
    this.#since.set(name, { state: finding.state, sinceMs });
    return { name, ...finding, sinceMs };
  }

  #begin(check: Check): Promise<Finding> {
    const { name } = check;
    const pending = this.#pending.get(name);
    if (pending !== undefined) return pending;
    const begun = (async () => await check.look())().catch((error: unknown): Finding => {
      const mend = 'see the log of the agent';
      return { state: 'failed', reason: `could not be looked at: ${describeError(error)}`, mend };
    });
    this.#pending.set(name, begun);
    return begun.finally(() => this.#pending.delete(name));
  }

  async #withinLimit(name: string, finding: Promise<Finding>): Promise<Finding> {
    const limit = Promise.withResolvers<Finding>();
    const reason = `no answer within ${LOOK_LIMIT_MS / 1000} s`;
    const mend = `see whether what ${name} needs is overloaded or stuck`;
    const timer = setTimeout(() => limit.resolve({ state: 'failed', reason, mend }), LOOK_LIMIT_MS);
    try {
      return await Promise.race([finding, limit.promise]);
    } finally {
      clearTimeout(timer);
    }
  }
}
