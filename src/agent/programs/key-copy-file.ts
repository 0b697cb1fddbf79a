// The copy of Vault's keys on disk: replaced as a whole, readable by the agent alone, and refused if others could have written it.
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LonglineError } from '../../core/errors.ts';
import { syncFolder } from '../../link/folder-operations.ts';
import { storageError } from '../../link/storage-error.ts';
import type { KeyCopyFile } from '../../platform/vault/vault-keys.ts';
import { readGuardedFile } from '../trust/guarded-file.ts';

/** A copy at this path, in a folder that is there. */
export function keyCopyFile(path: string): KeyCopyFile {
  return {
    load: async () => {
      try {
        return await readGuardedFile(path, { what: "copy of Vault's keys", secret: true });
      } catch (error) {
        if (error instanceof LonglineError && error.reason === 'not_found') return undefined;
        throw error;
      }
    },
    save: async (text) => {
      try {
        await replace(path, text);
      } catch (error) {
        throw storageError('write', path, error);
      }
    },
  };
}

async function replace(path: string, text: string): Promise<void> {
  const fresh = `${path}.new`;
  {
    await using file = await open(fresh, 'w', 0o600);
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  }
  await rename(fresh, path);
  await syncFolder(dirname(path));
}
