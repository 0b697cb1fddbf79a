// Addresses of isolated networks. Engines hand out some thirty networks of their own choice and no more, so small ones are
// cut from a pool. Pure.

/** Hosts of one network: 16 addresses, 13 of them for containers. */
const PREFIX_LENGTH = 28;
const BLOCK = 2 ** (32 - PREFIX_LENGTH);

interface Range {
  readonly first: number;
  readonly last: number;
}

/** Free networks of a pool, beginning at a place that `seed` decides, at most `count`. */
export function freeSubnets(pool: string, taken: readonly string[], seed: string, count: number): readonly string[] {
  const whole = rangeOf(pool);
  if (whole === undefined) return [];
  const used = taken.map(rangeOf).filter((range) => range !== undefined);
  const blocks = Math.floor((whole.last - whole.first + 1) / BLOCK);
  const found: string[] = [];
  const start = hash(seed) % Math.max(1, blocks);
  for (let step = 0; step < blocks && found.length < count; step++) {
    const first = whole.first + ((start + step) % blocks) * BLOCK;
    const last = first + BLOCK - 1;
    if (!used.some((range) => range.first <= last && first <= range.last))
      found.push(`${text(first)}/${PREFIX_LENGTH}`);
  }
  return found;
}

/** True for an IPv4 network in CIDR notation that holds at least one block. */
export function isSubnetPool(pool: string): boolean {
  const range = rangeOf(pool);
  return range !== undefined && range.last - range.first + 1 >= BLOCK;
}

/** Undefined for what is no IPv4 network; those of IPv6 overlap with none of ours. */
function rangeOf(cidr: string): Range | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(cidr);
  if (match === null) return undefined;
  const parts = match.slice(1, 5).map(Number);
  const length = Number(match[5]);
  if (parts.some((part) => part > 255) || length > 32) return undefined;
  const address = parts.reduce((sum, part) => sum * 256 + part, 0);
  const size = 2 ** (32 - length);
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1 };
}

function text(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

/** FNV-1a. */
function hash(seed: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < seed.length; index++) {
    value = Math.imul(value ^ seed.charCodeAt(index), 0x01000193) >>> 0;
  }
  return value;
}
