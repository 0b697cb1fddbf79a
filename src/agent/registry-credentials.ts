// Credentials for image registries, from a file in the form of Docker's config.json ({"auths": {host: {"auth": …}}}),
// read anew for each pull so that a rotated password needs no restart.
import { readFile, stat } from 'node:fs/promises';
import type { CredentialSource, RegistryCredentials } from '../capabilities/jobs/ports.ts';
import { LonglineError } from '../core/errors.ts';

/** Docker Hub is named by this URL in credential files, for history's sake. */
const HUB_KEYS = ['https://index.docker.io/v1/', 'docker.io', 'index.docker.io'];

/** Credentials from a file; anonymous for registries that it doesn't name. Without a path always anonymous. */
export class RegistryCredentialFile implements CredentialSource {
  readonly #path: string | undefined;

  constructor(path: string | undefined) {
    this.#path = path;
  }

  async forImage(reference: string): Promise<RegistryCredentials | undefined> {
    if (this.#path === undefined) return undefined;
    const auths = await readAuths(this.#path);
    const host = registryOf(reference);
    for (const key of host === 'docker.io' ? HUB_KEYS : [host, `https://${host}`, `https://${host}/v1/`]) {
      const entry = auths[key];
      if (entry !== undefined) return decode(entry, this.#path, key);
    }
    return undefined;
  }
}

/** Registry host of an image reference: its first part if that looks like a host, else Docker Hub. */
export function registryOf(reference: string): string {
  const first = reference.split('/', 1)[0]!;
  const named = reference.includes('/') && (first.includes('.') || first.includes(':') || first === 'localhost');
  return named ? first : 'docker.io';
}

interface AuthEntry {
  readonly auth?: string;
  readonly username?: string;
  readonly password?: string;
}

async function readAuths(path: string): Promise<Readonly<Record<string, AuthEntry>>> {
  let text: string;
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) {
      throw new LonglineError(
        'policy',
        `jobs.credentials_file: ${path} has mode ${(mode & 0o777).toString(8)}, so others can read it; run: chmod 600 ${path}`,
      );
    }
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof LonglineError) throw error;
    throw new LonglineError('wrong_state', `jobs.credentials_file: can't read ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  try {
    const parsed = JSON.parse(text) as { readonly auths?: Readonly<Record<string, AuthEntry>> };
    return parsed.auths ?? {};
  } catch (error) {
    // The parser's message quotes the text, which holds passwords.
    throw new LonglineError('invalid', `jobs.credentials_file: ${path} is not JSON`, { cause: (error as Error).name });
  }
}

function decode(entry: AuthEntry, path: string, key: string): RegistryCredentials {
  if (entry.username !== undefined && entry.password !== undefined) {
    return { username: entry.username, password: entry.password };
  }
  const plain = Buffer.from(entry.auth ?? '', 'base64').toString('utf8');
  const colon = plain.indexOf(':');
  if (colon < 1) {
    throw new LonglineError(
      'invalid',
      `jobs.credentials_file: entry ${key} of ${path} has neither username and password nor an auth of base64 "user:password"`,
    );
  }
  return { username: plain.slice(0, colon), password: plain.slice(colon + 1) };
}
