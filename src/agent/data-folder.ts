// The agent's data folder: private to its user, locked against a second agent, with the id of this replica. A copy of it on
// the same host is refused while the other is in use: two agents of one id would remove each other's containers.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, open, readFile, rename, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LonglineError } from '../core/errors.ts';
import { isUuid } from '../core/ids.ts';
import { type FolderLock, lockFolder } from '../platform/sqlite/file-lock.ts';

/** An opened data folder. Dispose to let go of the lock. */
export interface DataFolder extends Disposable {
  readonly path: string;
  /** Identifies this replica of the agent for as long as the folder lives. */
  readonly instanceId: string;
  /** Path of something in the folder. */
  file(name: string): string;
}

/** Another process has the folder, for as long as it runs. */
export class FolderInUse extends LonglineError {}

/**
 * Opens the folder, making it if needed. Throws `unavailable` if it can't be written, FolderInUse if another process has it; `option` is
 * what whoever reads that has to change.
 */
export async function openDataFolder(path: string, option = 'data-dir'): Promise<DataFolder> {
  try {
    await makeFolder(path);
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) await chmod(path, 0o700);
  } catch (error) {
    throw new LonglineError('unavailable', `${option}: can't use ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const lock = lockOf(path);
  try {
    const instanceId = await readInstanceId(join(path, 'instance-id'));
    const holding = await holdInstance(instanceId, path, option);
    return {
      path,
      instanceId,
      file: (name) => join(path, name),
      [Symbol.dispose]: () => {
        holding?.close();
        lock[Symbol.dispose]();
      },
    };
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

function lockOf(path: string): FolderLock {
  try {
    return lockFolder(path);
  } catch (error) {
    if (!(error instanceof LonglineError) || error.reason !== 'already_exists') throw error;
    throw new FolderInUse(error.reason, error.message, { cause: error });
  }
}

/** Makes a folder and what is missing above it. Node's own way never ends where the kernel makes no folders, as below /proc. */
async function makeFolder(path: string): Promise<void> {
  const make = async () => {
    await mkdir(path, { mode: 0o700 }).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST' || !(await stat(path)).isDirectory()) throw error;
    });
  };
  await make().catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' || dirname(path) === path) throw error;
    await makeFolder(dirname(path));
    await make();
  });
}

/** Where whoever has the folder of that instance hangs up on those who connect, to show that it is there. On Linux. */
export function instanceSocket(instanceId: string): string {
  return `\0longline-agent-${instanceId}`;
}

/**
 * How often, and how long, a name that is taken is tried again: of a process that is killed, Linux frees the lock of its folder a moment
 * before the name, and whoever takes over comes in between.
 */
const NAME_TRIES = 40;
const NAME_RETRY_MS = 25;

/** Linux frees the name with the process; elsewhere nothing like it is to be had, and only the folder's lock holds. */
async function holdInstance(instanceId: string, path: string, option: string): Promise<{ close(): void } | undefined> {
  if (process.platform !== 'linux') return undefined;
  for (let tries = 1; ; tries += 1) {
    const server = createServer((socket) => socket.destroy());
    server.unref();
    server.listen(instanceSocket(instanceId));
    try {
      await once(server, 'listening');
      return server;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') return undefined;
      if (tries >= NAME_TRIES) throw copied(instanceId, path, option, error);
    }
    await delay(NAME_RETRY_MS);
  }
}

function copied(instanceId: string, path: string, option: string, cause: unknown): LonglineError {
  return new LonglineError(
    'already_exists',
    `${option}: ${path} is a copy of the data folder of an agent that runs on this host (instance ${instanceId}); give each agent a folder and an enrolment of its own`,
    { cause },
  );
}

async function readInstanceId(path: string): Promise<string> {
  const stored = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (stored !== undefined) {
    const id = stored.trim();
    if (isUuid(id)) return id;
    // Containers carry this id as their label: with a new one they would be orphans nobody may touch.
    throw new LonglineError(
      'invalid',
      `${path}: holds ${JSON.stringify(id.slice(0, 60))}, which is no UUID; restore it, or remove it if no container carries the old one`,
    );
  }
  const id = randomUUID();
  const fresh = `${path}.new`;
  await using file = await open(fresh, 'w', 0o600);
  await file.writeFile(`${id}\n`);
  await file.sync();
  await rename(fresh, path);
  return id;
}
