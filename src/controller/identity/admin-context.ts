// The context file: all that the operator command line needs to reach this controller as admin. Private, in the data
// directory. Its token is made once; address and CA certificate are brought up to date at every start.
import { LonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { ApiTokens } from './api-tokens.ts';
import type { DataDirectory } from './data-directory.ts';

const FILE = 'context.json';

/** Content of a context file. */
export interface ControllerContext {
  /** "https://host:port". */
  readonly url: string;
  /** API token, "lla1.<secret>". */
  readonly token: string;
  /** PEM of the CA that the controller's certificate is checked with. */
  readonly ca: string;
  readonly controller_id: string;
}

/** Writes the context file and returns its path. Makes an admin token if there is none that this controller knows. */
export async function writeAdminContext(
  directory: DataDirectory,
  facts: Omit<ControllerContext, 'token'>,
  tokens: ApiTokens,
  log: Logger,
): Promise<string> {
  const path = directory.file(FILE);
  const stored = await readContext(directory, path);
  let token = stored?.token;
  if (token === undefined || !(await tokens.isKnown(token))) {
    token = (await tokens.create('admin', 'admin', undefined)).token;
    log.info('made an admin API token', { context: path });
  }
  const context: ControllerContext = {
    url: facts.url,
    token,
    ca: facts.ca,
    controller_id: facts.controller_id,
  };
  await directory.writePrivate(FILE, `${JSON.stringify(context, undefined, 2)}\n`);
  return path;
}

async function readContext(directory: DataDirectory, path: string): Promise<{ readonly token: string } | undefined> {
  const text = await directory.readPrivate(FILE);
  if (text === undefined) return undefined;
  try {
    const { token } = JSON.parse(text.toString()) as { token: unknown };
    if (typeof token !== 'string' || !token.startsWith('lla1.'))
      throw new Error('has no "token" that starts with lla1.');
    return { token };
  } catch (error) {
    throw new LonglineError('invalid', `${path}: ${(error as Error).message}; remove it to have a new one made`, {
      cause: error,
    });
  }
}
