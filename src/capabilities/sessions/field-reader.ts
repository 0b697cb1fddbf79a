// Numbers and durations of a spec, each within its range.
import { formatDuration } from '../../core/clock.ts';
import type { Refuse } from '../../core/container-fields.ts';
import { durationMs, type SessionSpecMessage } from './wire.ts';

/** Reads durations and numbers, refusing what is out of range. */
export class FieldReader {
  readonly #refuse: Refuse;

  constructor(refuse: Refuse) {
    this.#refuse = refuse;
  }

  duration(
    field: string,
    given: SessionSpecMessage['maxLifetime'],
    fallback: number,
    least: number,
    most: number,
  ): number {
    if (given === undefined) return fallback;
    const ms = durationMs(given);
    if (ms >= least && ms <= most) return ms;
    const shown = Number.isNaN(ms) ? 'a malformed duration' : `${ms / 1000} s`;
    this.#refuse(field, `${shown} is out of range; ${formatDuration(least)} to ${formatDuration(most)} is allowed`);
    return fallback;
  }

  number(field: string, given: number | bigint | undefined, fallback: number, least: number, most: number): number {
    if (given === undefined) return fallback;
    const value = Number(given);
    if (value >= least && value <= most) return value;
    this.#refuse(field, `${given} is out of range; ${least} to ${most} is allowed`);
    return fallback;
  }
}
