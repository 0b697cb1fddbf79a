// Making and checking signatures over the DSSE pre-authentication encoding of a payload.
import { createHmac, type KeyObject, sign, timingSafeEqual, verify } from 'node:crypto';
import { preAuthEncoding } from '../dsse.ts';
import { ed25519PublicKeyObject } from './ed25519-public-key.ts';
import type { SigningKey } from './signing-key.ts';

/** Payload type of a serialised longline.v1.Statement. */
export const STATEMENT_PAYLOAD_TYPE = 'application/vnd.longline.statement.v1+protobuf';

/** Payload type of a signed head of an agent's audit chain. */
export const CHECKPOINT_PAYLOAD_TYPE = 'application/vnd.longline.audit-checkpoint.v1+json';

/** What a signature is checked against. */
export type VerificationKey =
  | { readonly algorithm: 'ed25519'; readonly publicKeyObject: KeyObject }
  | { readonly algorithm: 'hmac-sha256'; readonly secret: Uint8Array };

/** For a public key that was checked with `ed25519PublicKeyFault`. */
export function ed25519VerificationKey(publicKey: Uint8Array): VerificationKey {
  return { algorithm: 'ed25519', publicKeyObject: ed25519PublicKeyObject(publicKey) };
}

/** Signs: 64 bytes for Ed25519, 32 for HMAC-SHA256. */
export function signPayload(key: SigningKey, payloadType: string, payload: Uint8Array): Uint8Array {
  const encoded = preAuthEncoding(payloadType, payload);
  if (key.privateKeyObject !== undefined) return new Uint8Array(sign(null, encoded, key.privateKeyObject));
  return new Uint8Array(createHmac('sha256', key.secret).update(encoded).digest());
}

/** True if `value` is a signature of `encoded`, the pre-authentication encoding. Never throws for bad signatures. */
export function verifyEncoded(key: VerificationKey, encoded: Uint8Array, value: Uint8Array): boolean {
  if (key.algorithm === 'hmac-sha256') {
    const expected = createHmac('sha256', key.secret).update(encoded).digest();
    return value.length === expected.length && timingSafeEqual(value, expected);
  }
  return value.length === 64 && hasReducedScalar(value) && verify(null, encoded, key.publicKeyObject, value);
}

/** True if `value` is a signature of the payload under its type. */
export function verifyPayload(
  key: VerificationKey,
  payloadType: string,
  payload: Uint8Array,
  value: Uint8Array,
): boolean {
  return verifyEncoded(key, preAuthEncoding(payloadType, payload), value);
}

/** The order of the Ed25519 group, little-endian. */
const GROUP_ORDER = Buffer.from('edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010', 'hex');

/** True if S < L (RFC 8032, 5.1.7): else the same signature could be written in several ways. */
function hasReducedScalar(signature: Uint8Array): boolean {
  for (let at = 31; at >= 0; at--) {
    const difference = signature[32 + at]! - GROUP_ORDER[at]!;
    if (difference !== 0) return difference < 0;
  }
  return false;
}
