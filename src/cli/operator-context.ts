// The context file: which controller to talk to, as whom, and how to know that it is the right one. Written by the
// controller at its first start; private to its owner since it holds a token.
import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Secret } from '../core/config/secret.ts';
import { LonglineError } from '../core/errors.ts';

/** A parsed context file. */
export interface OperatorContext {
  readonly path: string;
  /** "https://host:port", without a trailing slash. */
  readonly url: string;
  readonly token: Secret;
  /** PEM of the controller's CA; undefined to trust those of the system. */
  readonly caPem: string | undefined;
  /** Empty if the file doesn't say. */
  readonly controllerId: string;
}

/** Where the context is looked for if nothing else is said. */
export function defaultContextPath(env: Readonly<Record<string, string | undefined>>): string {
  const base = env['XDG_CONFIG_HOME'];
  const config = base?.startsWith('/') ? base : join(env['HOME'] || homedir(), '.config');
  return join(config, 'longline', 'context.json');
}

/** Reads a context. Throws `invalid` if it is absent or malformed, `policy` if others may read it. */
export async function readContext(path: string): Promise<OperatorContext> {
  const text = await readPrivately(path);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw wrong(path, `is not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null) throw wrong(path, 'holds no JSON object');
  const fields = value as Readonly<Record<string, unknown>>;
  const url = textOf(fields, 'url', path);
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) {
    throw wrong(path, `has url ${JSON.stringify(url)}, which does not start with https:// or http://`);
  }
  return {
    path,
    url: url.replace(/\/+$/, ''),
    token: new Secret(textOf(fields, 'token', path)),
    caPem: fields['ca'] === undefined ? undefined : textOf(fields, 'ca', path),
    controllerId: fields['controller_id'] === undefined ? '' : textOf(fields, 'controller_id', path),
  };
}

async function readPrivately(path: string): Promise<string> {
  try {
    const { mode } = await stat(path);
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(4, '0');
      throw new LonglineError('policy', `${path}: mode ${shown} lets others read its token; run: chmod 600 ${path}`, {
        rule: 'private context file',
      });
    }
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof LonglineError) throw error;
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw wrong(path, `can't be read: ${(error as Error).message}`);
    throw new LonglineError(
      'invalid',
      `no context: ${path} does not exist. A controller writes one at its first start and prints its path: ` +
        'run `longline controller --data-dir DIR`, then name the file with --context or LONGLINE_CONTEXT',
      { cause: error },
    );
  }
}

function textOf(fields: Readonly<Record<string, unknown>>, name: string, path: string): string {
  const value = fields[name];
  if (typeof value !== 'string' || value === '') throw wrong(path, `has no text under ${JSON.stringify(name)}`);
  return value;
}

function wrong(path: string, what: string): LonglineError {
  return new LonglineError('invalid', `context file ${path} ${what}; ask the controller's operator for a new one`);
}
