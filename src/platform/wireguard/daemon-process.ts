// Processes of WireGuard daemons: started so that they outlive us, told apart from others that later get their pid, ended.
// A daemon begins as a launcher that waits for a word from us: its pid is on disk before it does anything.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, renameSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { LonglineError } from '../../core/errors.ts';
import type { DaemonPlan } from './daemon-plan.ts';

const END_LIMIT_MS = 5_000;
const KILL_LIMIT_MS = 10_000;
const LOG_TAIL_BYTES = 600;

/** A process that can't be mistaken for another. */
export interface ProcessIdentity {
  readonly pid: number;
  /** In clock ticks since the machine started. */
  readonly startTicks: string;
  /** Of the machine's start. */
  readonly bootId: string;
}

/** A launcher that waits. Disposed before its word, it ends. */
export interface WaitingDaemon extends Disposable {
  readonly identity: ProcessIdentity;
  /** Lets it become the daemon. */
  go(): Promise<void>;
  /** How it ended; undefined while it runs. */
  ended(): string | undefined;
}

/** Starts a launcher. Its log is written anew; what an earlier daemon said is kept as `.1`. */
export async function launch(
  plan: DaemonPlan,
  descriptors: readonly number[],
  logPath: string,
): Promise<WaitingDaemon> {
  const log = openLog(logPath);
  let child: ChildProcess;
  try {
    // Resolved through package.json, so that it is found from a bundle as well.
    const launcher = fileURLToPath(import.meta.resolve('#wireguard-launcher'));
    child = spawn(process.execPath, [launcher, JSON.stringify(plan)], {
      cwd: '/',
      detached: true,
      env: {},
      stdio: ['pipe', log, log, ...descriptors],
    });
  } finally {
    closeSync(log);
  }
  await once(child, 'spawn');
  const stdin = child.stdin!;
  // It is told of by the word that then doesn't arrive.
  stdin.on('error', () => undefined);
  child.unref();
  const identity = await identify(child.pid!);
  if (identity === undefined) throw new LonglineError('unavailable', 'the launcher of a daemon ended at once');
  return {
    identity,
    go: () => sayGo(stdin),
    ended: () => {
      if (child.exitCode === null && child.signalCode === null) return undefined;
      return child.signalCode === null ? `it exited with ${child.exitCode}` : `it was ended by ${child.signalCode}`;
    },
    [Symbol.dispose]: () => stdin.destroy(),
  };
}

function sayGo(stdin: Writable): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  stdin.end('go\n', (error?: Error | null) => {
    if (error == null) resolve();
    else reject(new LonglineError('unavailable', 'the launcher of a daemon ended before its word', { cause: error }));
  });
  return promise;
}

function openLog(path: string): number {
  try {
    renameSync(path, `${path}.1`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return openSync(path, 'a', 0o600);
}

/** The end of what a daemon said. */
export async function lastWords(logPath: string): Promise<string> {
  const text = await readFile(logPath, 'utf8').catch(() => '');
  return text.trim().slice(-LOG_TAIL_BYTES) || 'it gave no reason';
}

/** The identity of whoever has a pid now; undefined if nobody has. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const startTicks = await startOf(pid);
  return startTicks === undefined ? undefined : { pid, startTicks, bootId: await bootId() };
}

/** True while a process runs. */
export async function isRunning(process: ProcessIdentity): Promise<boolean> {
  return process.bootId === (await bootId()) && process.startTicks === (await startOf(process.pid));
}

/** Ends a process, at first with kindness. Nothing happens if it has ended. Throws `late` if it doesn't go. */
export async function endProcess(identity: ProcessIdentity): Promise<void> {
  if (await signalled(identity, 'SIGTERM', END_LIMIT_MS)) return;
  if (await signalled(identity, 'SIGKILL', KILL_LIMIT_MS)) return;
  throw new LonglineError('late', `process ${identity.pid} doesn't end`, { retryable: true });
}

/** True once it has ended. */
async function signalled(identity: ProcessIdentity, name: NodeJS.Signals, limitMs: number): Promise<boolean> {
  const endsAt = performance.now() + limitMs;
  for (let sent = false; await isRunning(identity); sent = true) {
    if (performance.now() > endsAt) return false;
    if (!sent) send(identity.pid, name);
    await delay(10);
  }
  return true;
}

function send(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function startOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined);
  // The name in parentheses may itself hold spaces and parentheses.
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ');
  // A process that nobody has waited for yet does nothing any more.
  return fields === undefined || fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

let boot: string | undefined;

async function bootId(): Promise<string> {
  boot ??= (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  return boot;
}
