// Keys of artifacts: public ones that signatures are checked with, private ones that sign, and the ids that both have by themselves.
// Ed25519, ECDSA on P-256, and RSA-PSS from 2048 bits on. Reads text and bytes, not files. What is no such key is `invalid`, and
// messages never hold a private one.
import {
  constants,
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
  X509Certificate,
} from 'node:crypto';
import { preAuthEncoding } from '../dsse.ts';
import { LonglineError } from '../errors.ts';
import { decodeBase64, ed25519PublicKeyFault, ed25519PublicKeyObject } from '../signing/ed25519-public-key.ts';
import { parseKeyFile } from '../signing/key-file.ts';
import { verifyEncoded } from '../signing/signature.ts';
import { ed25519KeyId } from '../signing/signing-key.ts';
import type { ArtifactAlgorithm } from './signatures.ts';

/** Payload type of an artifact's metadata.json. */
export const ARTIFACT_PAYLOAD_TYPE = 'application/vnd.longline.program.v1+json';

/** A key that signatures of artifacts are checked with. */
export interface ArtifactKey {
  readonly keyId: string;
  readonly algorithm: ArtifactAlgorithm;
  /** SPKI, DER. */
  readonly publicKey: Uint8Array;
  /** Milliseconds since the epoch; undefined for never. */
  readonly expiresAtMs: number | undefined;
}

/** A key that can sign. Never logged. */
export interface ArtifactSigningKey {
  readonly keyId: string;
  readonly algorithm: ArtifactAlgorithm;
  readonly privateKey: KeyObject;
}

const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192;
const SALT_BYTES = 32;

/** What forms public keys come in, for messages. */
export const PUBLIC_KEY_FORM =
  'a public key (Ed25519, P-256, RSA from 2048 bits) as PEM, X.509 certificate, base64 of SPKI or of a raw Ed25519 key, or a public key file of longline';

const PEM_BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[^-]+-----END \1-----/g;

/** All public keys of a text: PEM may hold several, one after the other. At least one. */
export function readPublicKeys(text: string): readonly ArtifactKey[] {
  const blocks = text.match(PEM_BLOCK);
  return blocks === null || blocks.length < 2 ? [readPublicKey(text)] : blocks.map((block) => readPublicKey(block));
}

/**
 * A public key. Its id is the one given, else that of the key file, else derived from the key. A certificate is taken for its key and
 * its end, and for nothing else: who issued it doesn't matter.
 */
export function readPublicKey(text: string, keyId?: string): ArtifactKey {
  const trimmed = text.trim();
  if (/^-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(trimmed)) throw noKey('it is a private key', PUBLIC_KEY_FORM);
  if (trimmed.startsWith('-----BEGIN CERTIFICATE-----')) return certificateKey(trimmed, keyId);
  if (trimmed.startsWith('-----BEGIN'))
    return publicKeyOf(
      parsed(() => createPublicKey(trimmed)),
      keyId,
    );
  const raw = decodeBase64(trimmed);
  if (raw !== undefined && raw.length > 40) {
    const key = { key: Buffer.from(raw), format: 'der', type: 'spki' } as const;
    return publicKeyOf(
      parsed(() => createPublicKey(key)),
      keyId,
    );
  }
  if (raw !== undefined && raw.length > 0) return ed25519KeyOf(raw, keyId);
  const file = parseKeyFile(text);
  if (file.kind !== 'public') throw noKey('it is a private key file', PUBLIC_KEY_FORM);
  return ed25519KeyOf(file.key.publicKey, keyId ?? file.key.keyId);
}

/** A key that can sign, from PEM or a private key file of `longline key`. */
export function readSigningKey(text: string, keyId?: string): ArtifactSigningKey {
  if (text.trim().startsWith('-----BEGIN')) {
    let privateKey: KeyObject;
    try {
      privateKey = createPrivateKey(text);
    } catch {
      // What OpenSSL says of a broken key could show a piece of it.
      throw noKey("it can't be read", 'a private key in PEM without a passphrase');
    }
    const { algorithm, keyId: derived } = publicKeyOf(createPublicKey(privateKey));
    return { keyId: keyId ?? derived, algorithm, privateKey };
  }
  const file = parseKeyFile(text);
  const privateKey = file.kind === 'private' ? file.key.privateKeyObject : undefined;
  if (privateKey === undefined) throw noKey('it has no private Ed25519 key', 'a private key');
  return { keyId: keyId ?? file.key.keyId, algorithm: 'ed25519', privateKey };
}

/** The half of a signing key that may be shown. */
export function publicHalf({ keyId, privateKey }: ArtifactSigningKey): ArtifactKey {
  return publicKeyOf(createPublicKey(privateKey), keyId);
}

/** The same text for the same keys, in whatever order. */
export function keysVersion(keys: readonly ArtifactKey[]): string {
  const texts = keys.map(({ keyId, algorithm, publicKey, expiresAtMs }) =>
    JSON.stringify([keyId, algorithm, Buffer.from(publicKey).toString('base64'), expiresAtMs ?? null]),
  );
  return createHash('sha256').update(texts.sort().join('\n')).digest('hex');
}

/** A new key pair, as PEM. */
export function generateArtifactKey(algorithm: ArtifactAlgorithm): {
  readonly privatePem: string;
  readonly publicPem: string;
} {
  const encoding = {
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  } as const;
  const pair =
    algorithm === 'ed25519'
      ? generateKeyPairSync('ed25519', encoding)
      : algorithm === 'ecdsa-p256'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256', ...encoding })
        : generateKeyPairSync('rsa', { modulusLength: 3072, ...encoding });
  return { privatePem: pair.privateKey, publicPem: pair.publicKey };
}

/** Signs the bytes of metadata.json. ECDSA gives DER. */
export function signMetadata(key: ArtifactSigningKey, metadataBytes: Uint8Array): Uint8Array {
  const encoded = preAuthEncoding(ARTIFACT_PAYLOAD_TYPE, metadataBytes);
  const { algorithm, privateKey } = key;
  if (algorithm === 'ed25519') return new Uint8Array(sign(null, encoded, privateKey));
  return new Uint8Array(sign('sha256', encoded, algorithm === 'rsa-pss' ? withPadding(privateKey) : privateKey));
}

/** True if `signature` is one of `encoded`, the pre-authentication encoding, by this key. Never throws for a bad signature. */
export function verifySignature(key: ArtifactKey, encoded: Uint8Array, signature: Uint8Array): boolean {
  const publicKey = createPublicKey({ key: Buffer.from(key.publicKey), format: 'der', type: 'spki' });
  switch (key.algorithm) {
    case 'ed25519':
      return verifyEncoded({ algorithm: 'ed25519', publicKeyObject: publicKey }, encoded, signature);
    case 'rsa-pss':
      return verify('sha256', encoded, withPadding(publicKey), signature);
    default:
      // 64 bytes are r and s as they are; DER of a good signature is that short only once in 2^48 or so, and then starts otherwise.
      return (
        (signature.length === 64 &&
          verify('sha256', encoded, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)) ||
        verify('sha256', encoded, { key: publicKey, dsaEncoding: 'der' }, signature)
      );
  }
}

function withPadding(key: KeyObject) {
  return { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: SALT_BYTES };
}

function parsed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw noKey(`it can't be read (${(error as Error).message})`, PUBLIC_KEY_FORM);
  }
}

function certificateKey(text: string, keyId?: string): ArtifactKey {
  const certificate = parsed(() => new X509Certificate(text));
  const key = publicKeyOf(
    parsed(() => certificate.publicKey),
    keyId,
  );
  return { ...key, expiresAtMs: certificate.validToDate.getTime() };
}

/** Throws `invalid` for a key of another kind, or too weak a one. */
function publicKeyOf(key: KeyObject, keyId?: string): ArtifactKey {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  const publicKey = new Uint8Array(key.export({ format: 'der', type: 'spki' }));
  if (type === 'ed25519') return ed25519KeyOf(publicKey.subarray(-32), keyId);
  if (type === 'ec' && details?.namedCurve === 'prime256v1') {
    return {
      keyId: keyId ?? derivedId('ecdsa-p256', publicKey),
      algorithm: 'ecdsa-p256',
      publicKey,
      expiresAtMs: undefined,
    };
  }
  if (type !== 'rsa') throw noKey(`it is of type ${type} ${details?.namedCurve ?? ''}`.trim(), PUBLIC_KEY_FORM);
  const bits = details?.modulusLength ?? 0;
  if (bits < MIN_RSA_BITS || bits > MAX_RSA_BITS) {
    throw noKey(`it has ${bits} bits`, `RSA keys of ${MIN_RSA_BITS} to ${MAX_RSA_BITS} bits`);
  }
  return { keyId: keyId ?? derivedId('rsa-pss', publicKey), algorithm: 'rsa-pss', publicKey, expiresAtMs: undefined };
}

function ed25519KeyOf(raw: Uint8Array, keyId?: string): ArtifactKey {
  const fault = ed25519PublicKeyFault(raw);
  if (fault !== undefined) throw noKey(`it ${fault}`, PUBLIC_KEY_FORM);
  const publicKey = new Uint8Array(ed25519PublicKeyObject(raw).export({ format: 'der', type: 'spki' }));
  return { keyId: keyId ?? ed25519KeyId(raw), algorithm: 'ed25519', publicKey, expiresAtMs: undefined };
}

/** As `longline key` names Ed25519 keys: the algorithm, and the first 16 hex digits of the SHA-256 of the key. */
function derivedId(algorithm: ArtifactAlgorithm, publicKey: Uint8Array): string {
  return `${algorithm}-${createHash('sha256').update(publicKey).digest('hex').slice(0, 16)}`;
}

function noKey(why: string, right: string): LonglineError {
  return new LonglineError('invalid', `not a key to use here: ${why}; must be ${right}`);
}
