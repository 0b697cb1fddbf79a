// Keys of WireGuard: 32 bytes, shown as base64. A secret one is never shown: it says "[redacted]" wherever it is printed.
import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { inspect } from 'node:util';

/** Bytes before the 32 of a private key in PKCS #8, and in nothing else. */
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** A public key as canonical base64; undefined if it isn't 32 bytes of it, or all zero. */
export function parsePublicKey(text: string): string | undefined {
  const bytes = bytesOf(text);
  return bytes === undefined || bytes.every((byte) => byte === 0) ? undefined : text;
}

function bytesOf(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

/** A private or preshared key. */
export class SecretKey {
  readonly #bytes: Buffer;

  private constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /**
   * From base64; undefined if it isn't a key, or all zero. `hold` is given the bytes and gives the place where they are kept;
   * those that it was given are then wiped.
   */
  static parse(text: string, hold?: (bytes: Buffer) => Buffer): SecretKey | undefined {
    const bytes = bytesOf(text);
    if (bytes === undefined || bytes.every((byte) => byte === 0)) return undefined;
    if (hold === undefined) return new SecretKey(bytes);
    const held = hold(bytes);
    bytes.fill(0);
    return new SecretKey(held);
  }

  /** A new private key, in the form that the curve wants, so that every program shows the same text for it. */
  static generate(): SecretKey {
    const bytes = randomBytes(32);
    bytes[0]! &= 248;
    bytes[31] = (bytes[31]! & 127) | 64;
    return new SecretKey(bytes);
  }

  /** As base64: only for what hands it to WireGuard or keeps it in a file of mode 0600. */
  reveal(): string {
    return this.#bytes.toString('base64');
  }

  equals(other: SecretKey | undefined): boolean {
    return other !== undefined && this.#bytes.equals(other.#bytes);
  }

  /** The public key that belongs to it as a private one. */
  publicKey(): string {
    const key = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, this.#bytes]), format: 'der', type: 'pkcs8' });
    return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64');
  }

  toString(): string {
    return '[redacted]';
  }

  toJSON(): string {
    return '[redacted]';
  }

  [inspect.custom](): string {
    return '[redacted]';
  }
}
