// How long programs stay loaded, as google.protobuf.Duration has it. Pure.
import type { Refuse } from './thresholds.ts';

/** A google.protobuf.Duration. */
export interface DurationMessage {
  readonly seconds: bigint;
  readonly nanos: number;
}

/** Ten years: a longer time is taken for a mistake. */
const MAX_TTL_S = 315_360_000n;

/** In milliseconds, 0 for ever; undefined if it is absent or wrong, which is noted for `field`. */
export function readTtl(message: DurationMessage | undefined, field: string, refuse: Refuse): number | undefined {
  if (message === undefined) return undefined;
  const { seconds, nanos } = message;
  const forEver = seconds === 0n && nanos === 0;
  const right = nanos >= 0 && nanos < 1e9 && seconds >= 1n && seconds <= MAX_TTL_S;
  if (forEver || right) return Number(seconds) * 1000 + Math.ceil(nanos / 1e6);
  const got = `${seconds}${nanos === 0 ? '' : ` and ${nanos} ns`}`;
  refuse(field, `got ${got} s; must be from 1 to ${MAX_TTL_S} s, or 0 for ever`);
  return undefined;
}

/** Milliseconds as a message. */
export function durationMessage(ms: number): DurationMessage {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 };
}
