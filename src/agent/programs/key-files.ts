// Public keys of artifacts from files. Public keys are no secret, but whoever can put one there can have anything loaded: a file that
// others could have written is refused.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArtifactKey } from '../../capabilities/programs/ports.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { readPublicKeys } from '../../core/programs/artifact-key.ts';
import { readGuardedFile } from '../trust/guarded-file.ts';

/** Keys of a place, and what is wrong with others there. */
export interface KeyFiles {
  readonly keys: readonly ArtifactKey[];
  readonly problems: readonly LonglineError[];
}

const MAX_FILES = 256;

/** Keys of a file, or of all files of a folder but those whose name begins with a dot. Never throws a LonglineError. */
export async function readKeyFiles(path: string): Promise<KeyFiles> {
  const keys: ArtifactKey[] = [];
  const problems: LonglineError[] = [];
  for (const file of await filesAt(path, problems)) {
    try {
      const text = await readGuardedFile(file, { what: 'key file', secret: false });
      keys.push(...readKeys(text, `key file ${file}`));
    } catch (error) {
      problems.push(toLonglineError(error));
    }
  }
  return { keys, problems };
}

/** Keys of a text that stands in the settings. Line ends may be written as "\n", as environments have them. */
export function readInlineKeys(text: string): readonly ArtifactKey[] {
  return readKeys(text.replaceAll('\\n', '\n'), 'programs.public_key');
}

function readKeys(text: string, where: string): readonly ArtifactKey[] {
  try {
    return readPublicKeys(text);
  } catch (error) {
    const { reason, message } = toLonglineError(error);
    throw new LonglineError(reason, `${where}: ${message}`, { cause: error });
  }
}

async function filesAt(path: string, problems: LonglineError[]): Promise<readonly string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const names = (await readdir(path)).filter((name) => !name.startsWith('.')).sort();
    if (names.length > MAX_FILES) {
      problems.push(new LonglineError('limit', `${path} has ${names.length} files; the first ${MAX_FILES} are read`));
    }
    return names.slice(0, MAX_FILES).map((name) => join(path, name));
  } catch (error) {
    // Reading it tells what is wrong.
    return (error as NodeJS.ErrnoException).code === undefined ? [] : [path];
  }
}
