// What went wrong with a program last, and when that is tried again: at growing intervals as long as the same is wanted.
import { Backoff, type BackoffLimits } from '../../core/backoff.ts';
import type { Clock } from '../../core/clock.ts';
import type { ProgramFault } from './fault.ts';
import type { Problem } from './status.ts';

/** No try follows on another one sooner. */
const LEAST_PAUSE_MS = 500;

/** One kind of trouble of one program. */
export class Trouble {
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #about = '';
  #faults: readonly ProgramFault[] = [];
  #retryAtMs = 0;
  #retryAtWallMs = 0;

  constructor(clock: Clock, limits: BackoffLimits) {
    this.#clock = clock;
    this.#backoff = new Backoff(limits);
  }

  /** @param about what was tried: trouble with something else is forgotten. */
  met(about: string, faults: readonly ProgramFault[]): void {
    if (about !== this.#about) this.#backoff.reset();
    this.#about = about;
    this.#faults = faults;
    const asked = Math.max(0, ...faults.map(({ retryAfterMs }) => retryAfterMs ?? 0));
    const waitMs = Math.round(this.#backoff.next(Math.max(LEAST_PAUSE_MS, asked)));
    this.#retryAtMs = this.#clock.monotonic() + waitMs;
    this.#retryAtWallMs = this.#clock.now() + waitMs;
  }

  /** All is well. */
  over(): void {
    this.#faults = [];
    this.#retryAtMs = 0;
    this.#backoff.reset();
  }

  /** It may be tried again at once: what was in the way may be gone. The faults stay until then. */
  hurry(): void {
    this.#retryAtMs = 0;
  }

  /** True if the last try failed. */
  get isMet(): boolean {
    return this.#faults.length > 0;
  }

  /** When the next try is due, by the monotonic clock. */
  get nextMs(): number {
    return this.#retryAtMs;
  }

  /** When it may be tried, by the monotonic clock; 0 for at once. */
  retryAtMs(about: string): number {
    return about === this.#about ? this.#retryAtMs : 0;
  }

  /** As problems; only if it is about that, if that is given. */
  problems(about = this.#about): readonly Problem[] {
    if (about !== this.#about) return [];
    // Tried again even if that seems of no use: keys, kernels and hosts change.
    const retryAtMs = this.#retryAtWallMs;
    return this.#faults.map((error) => ({ field: error.field, error, verifierLog: error.verifierLog, retryAtMs }));
  }
}
