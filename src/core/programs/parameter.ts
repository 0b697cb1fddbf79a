// Values of parameters, map keys and event fields, between text and the bytes that a BPF program sees. Numbers are in the host's
// order, which is little-endian on every host that programs are loaded on; addresses are in network order. Pure. What is wrong is
// `invalid` and tells value and right form; which parameter it was is for the caller to say.
import { LonglineError } from '../errors.ts';
import { formatAddress, parseIpv6Number, splitPrefix } from '../network/prefix.ts';
import type { ArtifactParameter } from './metadata.ts';
import type { ParameterType } from './program-type.ts';

/** A value as text, with its type. Its size is that of what it is written to. */
export interface ParameterValue {
  readonly type: ParameterType;
  readonly text: string;
}

/** Something read from text, or what is wrong with it and what would be right. */
type Read<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

/** Longest text of one value. */
export const MAX_PARAMETER_TEXT = 65_536;

/** Forms of values for messages. */
const FORMS: Readonly<Record<ParameterType, string>> = {
  uint: 'a whole number such as 100 or 0x64, not below 0',
  int: 'a whole number such as 100, -100 or 0x64',
  bool: 'true or false',
  string: 'text without NUL',
  ipv4: 'an IPv4 address such as 192.0.2.1',
  ipv6: 'an IPv6 address such as 2001:db8::1',
  mac: 'a hardware address such as 02:00:5e:10:00:01',
  bytes: 'bytes in hex such as 00ff10',
  prefix: 'a prefix such as 192.0.2.0/24 or 2001:db8::/32',
};

/** The value in a place of this size. Throws `invalid` with the value and what would be right. */
export function encodeParameter(value: ParameterValue, sizeBytes: number): Uint8Array {
  return orThrow(encode(value, sizeBytes));
}

/**
 * A key of a map by its text: a number if the key has at most 8 bytes, else hex of all its bytes. Throws `invalid` with the text
 * and what would be right.
 */
export function encodeMapKey(text: string, sizeBytes: number): Uint8Array {
  if (sizeBytes > 8) return encodeParameter({ type: 'bytes', text }, sizeBytes);
  const number = readNumber(text);
  const most = (1n << BigInt(sizeBytes * 8)) - 1n;
  if (number !== undefined && number >= 0n && number <= most) return little(number, sizeBytes);
  return orThrow(wrong(text, `a key from 0 to ${most}, in ${bytesText(sizeBytes)}`));
}

/** A key of a map in words, where the size of the key isn't known. */
export const MAP_KEY_FORM = 'a key, as number such as 0 or 0x10 if it has at most 8 bytes, else in hex';

/** True if a text can be the key of some map. */
export function isMapKey(text: string): boolean {
  return (readNumber(text) ?? -1n) >= 0n || /^([0-9a-fA-F]{2}){9,512}$/.test(text);
}

/** Why no value of this type can have this size; undefined if it can. */
export function sizeFault(type: ParameterType, sizeBytes: number): string | undefined {
  const right = RIGHT_SIZES[type];
  if (right === undefined) return sizeBytes >= 1 ? undefined : `${type} needs at least one byte`;
  if (right.includes(sizeBytes)) return undefined;
  return `${type} has ${right.join(' or ')} bytes, and what holds it has ${sizeBytes}`;
}

const NUMBER_SIZES = [1, 2, 4, 8];
const RIGHT_SIZES: Readonly<Record<ParameterType, readonly number[] | undefined>> = {
  uint: NUMBER_SIZES,
  int: NUMBER_SIZES,
  bool: NUMBER_SIZES,
  string: undefined,
  ipv4: [4],
  ipv6: [16],
  mac: [6],
  bytes: undefined,
  prefix: [8, 20],
};

/** What bytes of an event say. Never throws: what can't be a value of this type is told in hex. */
export function decodeValue(type: ParameterType, bytes: Uint8Array): string {
  const hex = () => Buffer.from(bytes).toString('hex');
  if (sizeFault(type, bytes.length) !== undefined) return hex();
  switch (type) {
    case 'uint':
      return String(fromLittle(bytes));
    case 'int':
      return String(BigInt.asIntN(bytes.length * 8, fromLittle(bytes)));
    case 'bool':
      return String(bytes.some((byte) => byte !== 0));
    case 'string': {
      const end = bytes.indexOf(0);
      return Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end)).toString('utf8');
    }
    case 'ipv4':
    case 'ipv6':
      return formatAddress(type === 'ipv4' ? 32 : 128, fromBig(bytes));
    case 'mac':
      return hex().match(/../g)!.join(':');
    case 'prefix': {
      const bits = bytes.length === 8 ? 32 : 128;
      const length = Number(fromLittle(bytes.subarray(0, 4)));
      return length > bits ? hex() : `${formatAddress(bits, fromBig(bytes.subarray(4)))}/${length}`;
    }
    default:
      return hex();
  }
}

/** Values of a set of keys: "192.0.2.0/24,198.51.100.0/24". Blanks around them don't count, the empty text is the empty set. */
export function splitKeySet(text: string): readonly string[] {
  return text.trim() === '' ? [] : text.split(',').map((key) => key.trim());
}

/**
 * Why a text is no value of this parameter, by its type, range and choices; undefined if it is one. Whether it fits what it is
 * written to is known only once the object is.
 */
export function parameterFault(parameter: ArtifactParameter, text: string): string | undefined {
  if (text.length > MAX_PARAMETER_TEXT) return `has ${text.length} characters; at most ${MAX_PARAMETER_TEXT}`;
  if (parameter.target.kind !== 'key_set') return valueFault(parameter, text);
  const keys = splitKeySet(text);
  const { maxKeys } = parameter.target;
  if (maxKeys !== undefined && keys.length > maxKeys) return `has ${keys.length} keys; at most ${maxKeys}`;
  for (const key of keys) {
    const fault = valueFault(parameter, key);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function valueFault({ type, min, max, choices }: ArtifactParameter, text: string): string | undefined {
  const read = canonicalValue({ type, text });
  if (!read.ok) return read.problem;
  if (choices.length > 0) {
    const same = choices.some((choice) => {
      const known = canonicalValue({ type, text: choice });
      return known.ok && known.value === read.value;
    });
    if (!same) return told(text, `one of ${choices.join(', ')}`);
  }
  if (type !== 'uint' && type !== 'int') return undefined;
  const number = BigInt(read.value);
  if ((min !== undefined && number < min) || (max !== undefined && number > max)) {
    return told(text, `a whole number ${rangeText(min, max)}`);
  }
  return undefined;
}

function rangeText(min: bigint | undefined, max: bigint | undefined): string {
  if (min === undefined) return `up to ${max}`;
  return max === undefined ? `from ${min}` : `from ${min} to ${max}`;
}

/** One text for equal values: "0x64" and "100" are one. What no size could hold is no value. */
export function canonicalValue({ type, text }: ParameterValue): Read<string> {
  switch (type) {
    case 'uint':
    case 'int': {
      const number = readNumber(text);
      const [least, most] = type === 'uint' ? [0n, (1n << 64n) - 1n] : [-(1n << 63n), (1n << 63n) - 1n];
      if (number === undefined) return wrong(text, FORMS[type]);
      if (number < least || number > most) return wrong(text, `a whole number from ${least} to ${most}`);
      return { ok: true, value: String(number) };
    }
    case 'bool':
      return text === 'true' || text === 'false' ? { ok: true, value: text } : wrong(text, FORMS.bool);
    case 'string':
      return text.includes('\0') || !text.isWellFormed() ? wrong(text, FORMS.string) : { ok: true, value: text };
    case 'prefix': {
      const bytes = encodePrefix(text);
      return bytes === undefined ? wrong(text, FORMS.prefix) : { ok: true, value: decodeValue(type, bytes) };
    }
    default: {
      const bytes = readBytes(type, text);
      return bytes === undefined ? wrong(text, FORMS[type]) : { ok: true, value: decodeValue(type, bytes) };
    }
  }
}

function encode(value: ParameterValue, sizeBytes: number): Read<Uint8Array> {
  const { type, text } = value;
  const misfit = sizeFault(type, sizeBytes);
  if (misfit !== undefined) return { ok: false, problem: misfit };
  const canonical = canonicalValue(value);
  if (!canonical.ok) return canonical;
  switch (type) {
    case 'uint':
    case 'int':
      return encodeNumber(type, text, BigInt(canonical.value), sizeBytes);
    case 'bool':
      return { ok: true, value: little(text === 'true' ? 1n : 0n, sizeBytes) };
    case 'string': {
      const bytes = Buffer.from(text, 'utf8');
      if (bytes.length >= sizeBytes) return wrong(text, `text of at most ${bytesText(sizeBytes - 1)}, in UTF-8`);
      const padded = new Uint8Array(sizeBytes);
      padded.set(bytes);
      return { ok: true, value: padded };
    }
    case 'prefix': {
      const bytes = encodePrefix(text)!;
      const right = sizeBytes === 8 ? 'an IPv4 prefix such as 192.0.2.0/24' : 'an IPv6 prefix such as 2001:db8::/32';
      return bytes.length === sizeBytes ? { ok: true, value: bytes } : wrong(text, right);
    }
    default: {
      const bytes = readBytes(type, text)!;
      if (bytes.length === sizeBytes) return { ok: true, value: bytes };
      return wrong(text, `${sizeBytes * 2} hex digits, for ${bytesText(sizeBytes)}`);
    }
  }
}

function encodeNumber(type: 'uint' | 'int', text: string, number: bigint, sizeBytes: number): Read<Uint8Array> {
  const bits = BigInt(sizeBytes * 8);
  const [least, most] = type === 'uint' ? [0n, (1n << bits) - 1n] : [-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n];
  if (number >= least && number <= most) return { ok: true, value: little(number, sizeBytes) };
  return wrong(text, `a whole number from ${least} to ${most}, in ${bytesText(sizeBytes)}`);
}

function readNumber(text: string): bigint | undefined {
  const match = /^(-?)(0|[1-9]\d{0,19}|0x[0-9a-fA-F]{1,16})$/.exec(text);
  if (match === null) return undefined;
  return match[1] === '-' ? -BigInt(match[2]!) : BigInt(match[2]!);
}

function readBytes(type: 'ipv4' | 'ipv6' | 'mac' | 'bytes', text: string): Uint8Array | undefined {
  switch (type) {
    case 'ipv4': {
      const address = text.includes('/') ? undefined : splitPrefix(text);
      return address?.bits === 32 ? big(address.value, 4) : undefined;
    }
    case 'ipv6': {
      const address = parseIpv6Number(text);
      return address === undefined ? undefined : big(address, 16);
    }
    case 'mac':
      return /^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/.test(text) ? hexBytes(text.replaceAll(':', '')) : undefined;
    default:
      return /^([0-9a-fA-F]{2})+$/.test(text) ? hexBytes(text) : undefined;
  }
}

function encodePrefix(text: string): Uint8Array | undefined {
  const prefix = splitPrefix(text);
  if (prefix === undefined) return undefined;
  const host = BigInt(prefix.bits - prefix.length);
  const bytes = new Uint8Array(4 + prefix.bits / 8);
  bytes.set(little(BigInt(prefix.length), 4));
  bytes.set(big((prefix.value >> host) << host, prefix.bits / 8), 4);
  return bytes;
}

function hexBytes(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

function big(value: bigint, sizeBytes: number): Uint8Array {
  return hexBytes(value.toString(16).padStart(sizeBytes * 2, '0'));
}

function little(value: bigint, sizeBytes: number): Uint8Array {
  return big(BigInt.asUintN(sizeBytes * 8, value), sizeBytes).reverse();
}

function fromBig(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

function fromLittle(bytes: Uint8Array): bigint {
  // Not slice(): that of a Buffer would turn the caller's bytes around.
  return fromBig(Uint8Array.from(bytes).reverse());
}

function bytesText(count: number): string {
  return count === 1 ? '1 byte' : `${count} bytes`;
}

function told(text: string, right: string): string {
  return `got ${JSON.stringify(text.slice(0, 100))}; must be ${right}`;
}

function wrong(text: string, right: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem: told(text, right) };
}

function orThrow<T>(read: Read<T>): T {
  if (read.ok) return read.value;
  throw new LonglineError('invalid', read.problem);
}
