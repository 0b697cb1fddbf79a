// Checking the shape of what is asked for: collects everything that is wrong, by path. Pure.
import type { Duration } from '@bufbuild/protobuf/wkt';
import { durationMs } from '@bufbuild/protobuf/wkt';
import type { FieldViolation } from '../../core/errors.ts';

const MAX_DURATION_MS = 30 * 86_400_000;
const MAX_ENV_COUNT = 256;
const MAX_ENV_BYTES = 64 * 1024;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Form of an image reference, as far as it can be told without a registry. */
export const IMAGE = /^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}$/;

/** Collects violations below one path. */
export class Shape {
  readonly found: FieldViolation[] = [];
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  require(holds: boolean, field: string, description: string): void {
    if (!holds) this.found.push({ field: `${this.#path}.${field}`, description });
  }

  duration(value: Duration | undefined, field: string, leastMs: number, mostMs = MAX_DURATION_MS): void {
    if (value === undefined) return;
    const ms = durationMs(value);
    const range = `${leastMs} ms to ${mostMs === MAX_DURATION_MS ? '30 days' : `${mostMs} ms`}`;
    this.require(ms >= leastMs && ms <= mostMs, field, `is ${ms} ms; must be ${range}`);
  }

  positive(value: number | bigint | undefined, field: string): void {
    if (value === undefined) return;
    this.require(value > 0 && Number.isFinite(Number(value)), field, `is ${value}; must be more than 0`);
  }

  /** True if there are no more than so many. */
  atMost(count: number, most: number, field: string): boolean {
    this.require(count <= most, field, `has ${count} entries; at most ${most} are allowed`);
    return count <= most;
  }
}

/** Bytes of texts in UTF-8. */
export function bytesOf(texts: Iterable<string>): number {
  let total = 0;
  for (const text of texts) total += Buffer.byteLength(text);
  return total;
}

/** A text as it is shown in a violation. */
export function shown(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

/** Checks environment variables. */
export function checkEnv(shape: Shape, env: Readonly<Record<string, string>>): void {
  const entries = Object.entries(env);
  shape.require(
    entries.length <= MAX_ENV_COUNT,
    'env',
    `has ${entries.length} variables; at most ${MAX_ENV_COUNT} are allowed`,
  );
  const bytes = bytesOf(entries.flat());
  shape.require(bytes <= MAX_ENV_BYTES, 'env', `has ${bytes} bytes; at most ${MAX_ENV_BYTES} are allowed`);
  for (const [name, value] of entries.slice(0, MAX_ENV_COUNT)) {
    shape.require(ENV_NAME.test(name), `env[${shown(name)}]`, 'its name must be of the form [A-Za-z_][A-Za-z0-9_]*');
    shape.require(!value.includes('\0'), `env[${shown(name)}]`, 'its value has a NUL character');
  }
}
