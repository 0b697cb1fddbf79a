// What Vault's transit and KV engines say of public keys. Knows the documented answers; what is none of them is `unavailable`, as of a
// Vault that lies, and a single key that is of no use is told beside the others.
import type { ArtifactKey } from '../../capabilities/programs/ports.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { readPublicKey } from '../../core/programs/artifact-key.ts';
import { KEY_ID, KEY_ID_FORM } from '../../core/signing/signing-key.ts';
import type { VaultClient } from './vault-client.ts';

/** Keys of one place. */
export interface KeyReading {
  readonly keys: readonly ArtifactKey[];
  /** What can't be used, and why. */
  readonly refused: readonly { readonly place: string; readonly error: LonglineError }[];
}

type Reader = Pick<VaultClient, 'read'>;
type Values = Readonly<Record<string, unknown>>;

/** Types of transit keys that sign as artifacts are signed. */
const TRANSIT_TYPES = ['ed25519', 'ecdsa-p256', 'rsa-2048', 'rsa-3072', 'rsa-4096'];
const MAX_KEYS = 256;

/**
 * Each version of a transit key from its min_decryption_version on, under two ids: "vault:NAME:vVERSION", which whoever signs with
 * Vault knows, and the one derived from the key, by which it is known anywhere.
 */
export async function readTransitKeys(
  vault: Reader,
  mount: string,
  name: string,
  signal: AbortSignal,
): Promise<KeyReading> {
  const path = `${mount}/keys/${name}`;
  const data = await vault.read(path, signal);
  const { type, keys: versions, min_decryption_version: least } = data;
  if (typeof type !== 'string' || !isTable(versions) || typeof least !== 'number') throw nonsense(path);
  if (!TRANSIT_TYPES.includes(type)) {
    throw new LonglineError(
      'invalid',
      `${path} in Vault is of type ${type}; must be one of ${TRANSIT_TYPES.join(', ')}`,
    );
  }
  const keys: ArtifactKey[] = [];
  const refused: { place: string; error: LonglineError }[] = [];
  for (const [version, value] of bounded(versions, path)) {
    if (!/^[1-9]\d{0,8}$/.test(version)) throw nonsense(path);
    if (Number(version) < least) continue;
    const text = isTable(value) ? value['public_key'] : undefined;
    if (typeof text !== 'string') throw nonsense(path);
    const place = `${path} version ${version}`;
    take(place, refused, () => {
      const key = readPublicKey(text);
      keys.push(key, { ...key, keyId: `vault:${name}:v${version}` });
    });
  }
  return { keys, refused };
}

/** Keys of an entry of a KV engine: each field a public key under the id that the field is named. */
export async function readKvKeys(
  vault: Reader,
  { mount, path: entry, version }: { readonly mount: string; readonly path: string; readonly version: 1 | 2 },
  signal: AbortSignal,
): Promise<KeyReading> {
  const path = version === 2 ? `${mount}/data/${entry}` : `${mount}/${entry}`;
  const data = await vault.read(path, signal);
  const fields = version === 2 ? data['data'] : data;
  if (!isTable(fields)) throw nonsense(path);
  const keys: ArtifactKey[] = [];
  const refused: { place: string; error: LonglineError }[] = [];
  for (const [keyId, value] of bounded(fields, path)) {
    take(`${path} field ${keyId.slice(0, 128)}`, refused, () => keys.push(readField(keyId, value)));
  }
  return { keys, refused };
}

/** A key as text, or as {"public_key": …, "not_after": "2030-01-31T12:00:00Z"}. */
function readField(keyId: string, value: unknown): ArtifactKey {
  if (!KEY_ID.test(keyId))
    throw new LonglineError('invalid', `the name of the field is no id of a key, ${KEY_ID_FORM}`);
  if (typeof value === 'string') return readPublicKey(value, keyId);
  const { public_key: text, not_after: end } = isTable(value) ? value : {};
  if (typeof text !== 'string') {
    throw new LonglineError('invalid', 'must be a public key as text, or have it in the field public_key');
  }
  const key = readPublicKey(text, keyId);
  if (end === undefined) return key;
  const endsAtMs = typeof end === 'string' && /[Zz]|[+-]\d\d:\d\d$/.test(end) ? Date.parse(end) : Number.NaN;
  if (Number.isNaN(endsAtMs)) {
    throw new LonglineError('invalid', 'not_after must be a time with zone such as "2030-01-31T12:00:00Z"');
  }
  return { ...key, expiresAtMs: Math.min(endsAtMs, key.expiresAtMs ?? endsAtMs) };
}

function take(place: string, refused: { place: string; error: LonglineError }[], read: () => void): void {
  try {
    read();
  } catch (error) {
    refused.push({ place, error: toLonglineError(error) });
  }
}

function bounded(table: Values, path: string): readonly (readonly [string, unknown])[] {
  const entries = Object.entries(table);
  if (entries.length <= MAX_KEYS) return entries;
  throw new LonglineError('unavailable', `${path} in Vault has ${entries.length} keys; at most ${MAX_KEYS}`);
}

function nonsense(path: string): LonglineError {
  return new LonglineError('unavailable', `what Vault says of ${path} is not what it is documented to say`);
}

function isTable(value: unknown): value is Values {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
