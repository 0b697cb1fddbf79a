// Key files. TOML with type = "ed25519" | "hmac", key_id, secret = base64 of the 32-byte seed or of the shared secret, and
// for Ed25519 public_key = base64 of 32 bytes. A file without `secret` is the public half of an Ed25519 key.
import { invalid } from '../errors.ts';
import { readToml } from '../toml/toml-table.ts';
import { decodeBase64, decodeEd25519PublicKey } from './ed25519-public-key.ts';
import {
  ed25519Key,
  HMAC_SECRET_BYTES,
  hmacKey,
  KEY_ID,
  KEY_ID_FORM,
  type PublicSigningKey,
  type SigningKey,
} from './signing-key.ts';

/** The text of a private key file. */
export function formatKeyFile(key: SigningKey): string {
  const isEd25519 = key.algorithm === 'ed25519';
  const lines = [
    '# Longline signing key. Keep it secret: whoever has it can command every agent that trusts it.',
    `type = "${isEd25519 ? 'ed25519' : 'hmac'}"`,
    `key_id = "${key.keyId}"`,
    `secret = "${Buffer.from(key.secret).toString('base64')}"`,
  ];
  if (key.publicKey !== undefined) lines.push(`public_key = "${Buffer.from(key.publicKey).toString('base64')}"`);
  return `${lines.join('\n')}\n`;
}

/** The text of a file with the public half only. */
export function formatPublicKeyFile(key: PublicSigningKey): string {
  const publicKey = Buffer.from(key.publicKey).toString('base64');
  return `# Longline public key.\ntype = "ed25519"\nkey_id = "${key.keyId}"\npublic_key = "${publicKey}"\n`;
}

/** A parsed key file. */
export type KeyFile =
  /** It can sign. */
  | { readonly kind: 'private'; readonly key: SigningKey }
  /** It can only be trusted. */
  | { readonly kind: 'public'; readonly key: PublicSigningKey };

/** Parses a key file. Throws `invalid` with every violation; messages never hold the secret. */
export function parseKeyFile(text: string): KeyFile {
  const fields = readToml(text, (root) => ({
    type: root.requiredString('type', /^(ed25519|hmac)$/, '"ed25519" or "hmac"'),
    keyId: root.requiredString('key_id', KEY_ID, KEY_ID_FORM),
    secret: root.secretString('secret'),
    publicKey: root.string('public_key'),
  }));
  const keyId = fields.keyId!;
  const publicKey = fields.publicKey === undefined ? undefined : decodeEd25519PublicKey(fields.publicKey);
  if (fields.type === 'hmac') {
    const secret = decodeBase64(fields.secret ?? '');
    if (secret === undefined || secret.length < HMAC_SECRET_BYTES.min || secret.length > HMAC_SECRET_BYTES.max) {
      const { min, max } = HMAC_SECRET_BYTES;
      throw invalid([{ field: 'secret', description: `must be base64 of ${min} to ${max} bytes for type "hmac"` }]);
    }
    if (publicKey !== undefined) throw invalid([{ field: 'public_key', description: 'an HMAC key has none' }]);
    return { kind: 'private', key: hmacKey(secret, keyId) };
  }
  if (fields.secret === undefined) {
    if (publicKey === undefined) {
      throw invalid([{ field: 'public_key', description: 'missing; a key file has `secret`, `public_key` or both' }]);
    }
    return { kind: 'public', key: { keyId, publicKey } };
  }
  const seed = decodeBase64(fields.secret);
  if (seed === undefined || seed.length !== 32) {
    throw invalid([{ field: 'secret', description: 'must be base64 of a 32-byte seed for type "ed25519"' }]);
  }
  const key = ed25519Key(seed, keyId);
  if (publicKey !== undefined && !Buffer.from(publicKey).equals(key.publicKey!)) {
    throw invalid([{ field: 'public_key', description: "doesn't belong to `secret`; remove it or restore the file" }]);
  }
  return { kind: 'private', key };
}
