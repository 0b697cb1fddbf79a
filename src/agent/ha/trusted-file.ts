// Files of CAs that a setting names.
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { LonglineError } from '../../core/errors.ts';

/** What a file of CAs holds. Throws `invalid` if it holds none: nothing would be trusted then, and nobody told why. */
export async function readTrusted(key: string, path: string): Promise<string> {
  const wrong = (why: string, cause: unknown) =>
    new LonglineError('invalid', `${key} ${path} ${why}; it must have PEM certificates of CAs`, { cause });
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw wrong(`can't be read (${(error as NodeJS.ErrnoException).code})`, error);
  });
  try {
    new X509Certificate(text);
    return text;
  } catch (error) {
    throw wrong('has no certificate', error);
  }
}
