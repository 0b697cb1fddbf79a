// The copy on disk of keys that Vault gave, as text. What is damaged or of another Vault is no copy.
import type { ArtifactKey } from '../../capabilities/programs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { readPublicKey } from '../../core/programs/artifact-key.ts';

const FORMAT = 1;

interface CopiedKey {
  readonly keyId: string;
  /** SPKI, DER, base64. */
  readonly publicKey: string;
  readonly expiresAtMs?: number;
}

interface Copy {
  readonly format: number;
  readonly identity: string;
  readonly keys: readonly CopiedKey[];
}

/** The text for these keys. */
export function writeKeyCopy(keys: readonly ArtifactKey[], identity: string): string {
  const copy: Copy = {
    format: FORMAT,
    identity,
    keys: keys.map(({ keyId, publicKey, expiresAtMs }) => ({
      keyId,
      publicKey: Buffer.from(publicKey).toString('base64'),
      ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
    })),
  };
  return `${JSON.stringify(copy)}\n`;
}

/** Keys of a copy; undefined if it is that of another Vault. Throws `invalid` if it is damaged. */
export function readKeyCopy(text: string, identity: string): readonly ArtifactKey[] | undefined {
  try {
    const copy = JSON.parse(text) as Copy;
    if (copy.format !== FORMAT || copy.identity !== identity) return undefined;
    return copy.keys.map(({ keyId, publicKey, expiresAtMs }) => ({ ...readPublicKey(publicKey, keyId), expiresAtMs }));
  } catch (error) {
    throw new LonglineError('invalid', `it is damaged: ${(error as Error).message}`, { cause: error });
  }
}
