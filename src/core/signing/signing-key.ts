// Keys that sign commands and checkpoints: Ed25519 (RFC 8032) and HMAC-SHA256. Pure: files are read and written elsewhere.
import { createHash, createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto';

/** Signature algorithms; the names are those of longline.v1.SignatureAlgorithm without prefix. */
export type SignatureAlgorithm = 'ed25519' | 'hmac-sha256';

/** Form of a key id, as it stands in Signature.key_id. */
export const KEY_ID = /^[A-Za-z0-9._:-]{1,128}$/;

/** The same in words. */
export const KEY_ID_FORM = '1 to 128 characters of [A-Za-z0-9._:-]';

/** Shortest and longest shared secret, bytes. */
export const HMAC_SECRET_BYTES = { min: 32, max: 128 } as const;

/** A key that can sign. `secret` must never be logged. */
export interface SigningKey {
  readonly keyId: string;
  readonly algorithm: SignatureAlgorithm;
  /** The Ed25519 seed, or the shared secret. */
  readonly secret: Uint8Array;
  /** 32 bytes for Ed25519; undefined for HMAC. */
  readonly publicKey: Uint8Array | undefined;
  /** What node:crypto signs with; undefined for HMAC. */
  readonly privateKeyObject: KeyObject | undefined;
}

/** The half of an Ed25519 key that may be shown. */
export interface PublicSigningKey {
  readonly keyId: string;
  readonly publicKey: Uint8Array;
}

/** DER head of a PKCS#8 Ed25519 private key (RFC 8410), before the 32 raw bytes. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

/** "ed25519-" and the first 16 hex digits of the SHA-256 of the public key. */
export function ed25519KeyId(publicKey: Uint8Array): string {
  return `ed25519-${createHash('sha256').update(publicKey).digest('hex').slice(0, 16)}`;
}

/** A new key. The id of an HMAC key is random, since nothing may be derived from its secret. */
export function generateSigningKey(algorithm: SignatureAlgorithm, keyId?: string): SigningKey {
  const secret = randomBytes(32);
  if (algorithm === 'ed25519') return ed25519Key(secret, keyId);
  return hmacKey(secret, keyId ?? `hmac-${randomBytes(8).toString('hex')}`);
}

/** The Ed25519 key of a 32-byte seed; the id is derived from the public key if none is given. */
export function ed25519Key(seed: Uint8Array, keyId?: string): SigningKey {
  const privateKeyObject = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, seed]), format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(privateKeyObject).export({ format: 'der', type: 'spki' });
  const publicKey = new Uint8Array(spki.subarray(-32));
  return {
    keyId: keyId ?? ed25519KeyId(publicKey),
    algorithm: 'ed25519',
    secret: new Uint8Array(seed),
    publicKey,
    privateKeyObject,
  };
}

/** An HMAC-SHA256 key. */
export function hmacKey(secret: Uint8Array, keyId: string): SigningKey {
  return {
    keyId,
    algorithm: 'hmac-sha256',
    secret: new Uint8Array(secret),
    publicKey: undefined,
    privateKeyObject: undefined,
  };
}
