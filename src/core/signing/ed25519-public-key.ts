// Ed25519 public keys as 32 raw bytes, checked more strictly than OpenSSL does.
import { createPublicKey, type KeyObject } from 'node:crypto';
import { invalid } from '../errors.ts';

/** DER head of an SPKI Ed25519 public key (RFC 8410), before the 32 raw bytes. */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

/** What node:crypto verifies with, for 32 raw bytes. Check them with `ed25519PublicKeyFault` first. */
export function ed25519PublicKeyObject(publicKey: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_HEAD, publicKey]), format: 'der', type: 'spki' });
}

/** Decodes base64 of a public key and checks it. Throws `invalid` for the field `public_key`. */
export function decodeEd25519PublicKey(base64: string): Uint8Array {
  const publicKey = decodeBase64(base64);
  const fault = publicKey === undefined ? 'is not base64' : ed25519PublicKeyFault(publicKey);
  if (publicKey === undefined || fault !== undefined) {
    throw invalid([{ field: 'public_key', description: `${JSON.stringify(base64.slice(0, 80))} ${fault}` }]);
  }
  return publicKey;
}

const FIELD_PRIME = 2n ** 255n - 19n;
/** y coordinates of the points of small order; a key among them would accept signatures of anybody. */
const SMALL_ORDER_Y = new Set([
  0n,
  1n,
  FIELD_PRIME - 1n,
  littleEndian(Buffer.from('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a', 'hex')),
  littleEndian(Buffer.from('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05', 'hex')),
]);

/** Why these bytes are no acceptable Ed25519 public key; undefined if they are one. */
export function ed25519PublicKeyFault(publicKey: Uint8Array): string | undefined {
  if (publicKey.length !== 32) return `has ${publicKey.length} bytes; an Ed25519 public key has 32`;
  const bytes = Buffer.from(publicKey);
  bytes[31]! &= 0x7f;
  const y = littleEndian(bytes);
  if (y >= FIELD_PRIME) return 'is not in canonical form (RFC 8032, 5.1.3)';
  if (SMALL_ORDER_Y.has(y)) return 'is a point of small order, which proves nothing';
  return undefined;
}

function littleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
}

/** Strict base64 with padding; undefined for anything else. Node's own decoder skips what it doesn't know. */
export function decodeBase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? new Uint8Array(bytes) : undefined;
}
