// Addresses and prefixes in one canonical form, the one WireGuard itself reports, so that equal ones are equal strings.
// Pure; what isn't an address is undefined, never a guess.

/** An address as a number. */
interface Address {
  readonly bits: 32 | 128;
  readonly value: bigint;
}

/** A prefix such as "10.42.0.0/16" with host bits cleared, or "10.42.0.1/32" from a bare address. */
export function parsePrefix(text: string): string | undefined {
  const parsed = parts(text);
  if (parsed === undefined) return undefined;
  const host = BigInt(parsed.address.bits - parsed.length);
  return `${format({ ...parsed.address, value: (parsed.address.value >> host) << host })}/${parsed.length}`;
}

/** The address of an interface, with its prefix length and host bits kept: "10.42.0.7/16". */
export function parseInterfaceAddress(text: string): string | undefined {
  const parsed = parts(text);
  return parsed === undefined ? undefined : `${format(parsed.address)}/${parsed.length}`;
}

/** A bare address. */
export function parseAddress(text: string): string | undefined {
  const address = read(text);
  return address === undefined ? undefined : format(address);
}

/** True for a prefix that takes all addresses of its family. */
export function isDefaultPrefix(prefix: string): boolean {
  return prefix.endsWith('/0');
}

/** A prefix as numbers. */
export interface PrefixParts {
  readonly bits: 32 | 128;
  /** The address, host bits as given. */
  readonly value: bigint;
  readonly length: number;
}

/** A prefix, or the address of an interface, taken apart. */
export function splitPrefix(text: string): PrefixParts | undefined {
  const parsed = parts(text);
  return parsed === undefined ? undefined : { ...parsed.address, length: parsed.length };
}

/** Puts it together in canonical form, host bits kept. */
export function joinPrefix({ bits, value, length }: PrefixParts): string {
  return `${format({ bits, value })}/${length}`;
}

/** True if the two prefixes share an address. Either is false for what isn't a prefix. */
export function prefixesOverlap(left: string, right: string): boolean {
  const [one, other] = [parts(left), parts(right)];
  if (one === undefined || other === undefined || one.address.bits !== other.address.bits) return false;
  const host = BigInt(one.address.bits - Math.min(one.length, other.length));
  return one.address.value >> host === other.address.value >> host;
}

/** Lengths that some prefixes have, of either family. */
export function lengthsOf(prefixes: Iterable<string>): ReadonlySet<number> {
  const lengths = new Set<number>();
  for (const prefix of prefixes) lengths.add(Number(prefix.slice(prefix.indexOf('/') + 1)));
  return lengths;
}

/** Every canonical prefix of one of the lengths that covers this one and is shorter, the longest first. */
export function* coveringPrefixes(prefix: string, lengths: ReadonlySet<number>): Generator<string> {
  const parsed = parts(prefix);
  if (parsed === undefined) return;
  for (let length = parsed.length - 1; length >= 0; length--) {
    if (!lengths.has(length)) continue;
    const host = BigInt(parsed.address.bits - length);
    yield `${format({ ...parsed.address, value: (parsed.address.value >> host) << host })}/${length}`;
  }
}

function parts(text: string): { readonly address: Address; readonly length: number } | undefined {
  const slash = text.indexOf('/');
  const address = read(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  if (slash < 0) return { address, length: address.bits };
  const digits = text.slice(slash + 1);
  if (!/^(0|[1-9]\d{0,2})$/.test(digits) || Number(digits) > address.bits) return undefined;
  return { address, length: Number(digits) };
}

function read(text: string): Address | undefined {
  const value = text.includes(':') ? readV6(text) : readV4(text);
  return value === undefined ? undefined : { bits: text.includes(':') ? 128 : 32, value };
}

// Leading zeros mean octal to some readers, so they are no address here.
const V4 = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/;

function readV4(text: string): bigint | undefined {
  const match = V4.exec(text);
  if (match === null) return undefined;
  let value = 0;
  for (let place = 1; place <= 4; place++) {
    const byte = Number(match[place]);
    if (byte > 255) return undefined;
    value = value * 256 + byte;
  }
  return BigInt(value);
}

function readV6(text: string): bigint | undefined {
  const value = parseIpv6Number(text);
  // IPv4 written as IPv6 (::ffff:0:0/96) is the same address under another name: it has to be written as IPv4.
  return value === undefined || value >> 32n === 0xffffn ? undefined : value;
}

/** The number of an IPv6 address, also of one that carries an IPv4 address (::ffff:0:0/96). */
export function parseIpv6Number(text: string): bigint | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const groups = halves.map((half) => (half === '' ? [] : half.split(':')));
  if (!groups.flat().every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return undefined;
  const [head = [], tail] = groups;
  const missing = 8 - head.length - (tail?.length ?? 0);
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  const all = [...head, ...Array<string>(missing).fill('0'), ...(tail ?? [])];
  return all.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

/** An address of a family by its number, in canonical form. */
export function formatAddress(bits: 32 | 128, value: bigint): string {
  return format({ bits, value });
}

function format({ bits, value }: Address): string {
  if (bits === 32) {
    const word = Number(value);
    return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
  }
  const groups = Array.from({ length: 8 }, (_, place) => ((value >> BigInt(112 - place * 16)) & 0xffffn).toString(16));
  // RFC 5952: the longest run of zeros, the first of equals, of at least two, becomes "::".
  const runs = [...groups.join(':').matchAll(/\b0(:0)+\b/g)].map(([run]) => run);
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), '');
  if (longest === '') return groups.join(':');
  const whole = groups.join(':');
  const start = new RegExp(`(^|:)${longest}(:|$)`).exec(whole)!;
  return `${whole.slice(0, start.index)}::${whole.slice(start.index + start[0].length)}`;
}
