// The agent's audit key: Ed25519, made once, 0600, never leaves the host.
import { existsSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { LonglineError } from '../../core/errors.ts';
import { formatKeyFile, parseKeyFile } from '../../core/signing/key-file.ts';
import { generateSigningKey, type SigningKey } from '../../core/signing/signing-key.ts';
import { readGuardedFile } from '../trust/guarded-file.ts';

/** Reads the key, or makes it if neither it nor the log exists. Throws `unavailable`, `policy` or `invalid`. */
export async function openAuditKey(path: string, logPath: string): Promise<SigningKey> {
  if (!existsSync(path)) {
    if (existsSync(logPath)) {
      throw new LonglineError(
        'unavailable',
        `audit key ${path} is missing, but its log ${logPath} exists; restore the key, or move the log away to begin anew`,
      );
    }
    return await makeKey(path);
  }
  const file = parseKeyFile(await readGuardedFile(path, { what: 'audit key', secret: true }));
  if (file.kind === 'private' && file.key.publicKey !== undefined) return file.key;
  throw new LonglineError('invalid', `audit key ${path} is no private Ed25519 key; restore it`);
}

async function makeKey(path: string): Promise<SigningKey> {
  const key = generateSigningKey('ed25519');
  const fresh = `${path}.new`;
  await using file = await open(fresh, 'w', 0o600);
  await file.writeFile(formatKeyFile(key));
  await file.sync();
  await rename(fresh, path);
  return key;
}
