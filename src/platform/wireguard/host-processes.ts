// Processes that go on without us, on systems other than Linux.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError } from '../../core/errors.ts';
import type { ProcessIdentity } from './daemon-process.ts';

const END_LIMIT_MS = 10_000;
const POLL_MS = 50;

/** A program to start. */
export interface DetachedProgram {
  readonly argv: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
}

/** Starts programs in a session of their own, with nothing of ours open. Gives the pid. */
export interface DetachedProcesses {
  spawn(program: DetachedProgram): Promise<number>;
}

/** Ends them as well. */
export interface PosixProcesses extends DetachedProcesses {
  end(pid: number): void;
}

/** Those of this host. */
export const hostProcesses: PosixProcesses = {
  spawn: async ({ argv: [program, ...args], environment }) => {
    const child = spawn(program, args, { detached: true, env: environment, stdio: 'ignore', windowsHide: true });
    await once(child, 'spawn');
    child.unref();
    return child.pid!;
  },
  end: (pid) => void process.kill(pid, 'SIGTERM'),
};

/** The identity of whoever has a pid, as `ps` tells it; undefined if nobody has. */
export async function psIdentity(
  run: RunCommand,
  pid: number,
  signal?: AbortSignal,
): Promise<ProcessIdentity | undefined> {
  const { stdout } = await run({ argv: ['ps', '-o', 'lstart=', '-p', String(pid)] }, signal);
  const started = stdout.trim();
  return started === '' ? undefined : { pid, startTicks: started, bootId: '' };
}

/** Waits for something to come about. Throws `late` with what went wrong if it doesn't. */
export async function until(look: () => Promise<boolean>, failure: string): Promise<void> {
  const endsAt = performance.now() + END_LIMIT_MS;
  while (!(await look())) {
    if (performance.now() > endsAt) throw new LonglineError('late', failure, { retryable: true });
    await delay(POLL_MS);
  }
}
