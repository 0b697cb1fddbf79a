// A replica whose process is stopped or hangs keeps the lock of a data folder that it shares, and the kernel gives it to nobody
// else. Its term is over by then, but it can't know and can't let go. Here its successor ends it: only where all speaks for it,
// which is that it noted itself in the folder as a replica of an earlier epoch, that the process of that number began when it
// says, holds the lock of this very folder, and gives no sign of life. It is Linux that tells; elsewhere, and across containers,
// nothing is shown and nothing is ended. The lock alone decides who acts: this only makes it free.
import { readdir, readFile, readlink, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { instanceSocket } from '../data-folder.ts';

const FILE = 'leader-process';

/** A replica's process, so that no other is taken for it. */
interface Holder {
  readonly pid: number;
  /** When it began, in the kernel's ticks since boot. */
  readonly startTicks: string;
  readonly bootId: string;
  /** Process numbers mean something within one of these only. */
  readonly pidNamespace: string;
  readonly epoch: string;
}

/**
 * Notes that this process has the folder, as a replica with this epoch; 0 for one that stands by. Does nothing where it can't be shown
 * later. Never throws, as on a full disk: then this process can't be ended, for whoever was noted before has the folder no more.
 */
export async function noteHolder(dataDir: string, epoch: bigint, log: Pick<Logger, 'warn'>): Promise<void> {
  const self = await processOf(process.pid);
  if (self === undefined) return;
  const path = join(dataDir, FILE);
  const holder: Holder = { pid: process.pid, ...self.identity, epoch: String(epoch) };
  try {
    await writeFile(`${path}.new`, JSON.stringify(holder), { mode: 0o600 });
    await rename(`${path}.new`, path);
  } catch (error) {
    log.warn('who has the data folder could not be noted: a replica that hangs can not be ended by another', {
      err: describeError(error),
    });
  }
}

/** Removes what a replica noted: the folder is that of an agent without election, which nobody may end. */
export async function forgetHolder(dataDir: string): Promise<void> {
  await rm(join(dataDir, FILE), { force: true });
}

/** Who wants the folder. */
export interface Successor {
  readonly dataDir: string;
  readonly epoch: bigint;
  readonly mayAct: () => boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How long no sign of life is one of death: of a process that is stopped, and of one that may be busy. */
const STOPPED_MS = 1_000;
const SILENT_MS = 5_000;
const LOOK_EVERY_MS = 500;

/**
 * Ends the process that keeps the folder, as soon as it is shown to be one that should have let go. Goes on until then, until
 * this process has the folder, or until the signal aborts. Never throws: who can't be shown or ended keeps the folder.
 */
export async function endFrozenHolder(successor: Successor, signal: AbortSignal): Promise<void> {
  const { dataDir, clock, log, mayAct } = successor;
  try {
    while (!signal.aborted && mayAct()) {
      const holder = await readHolder(dataDir);
      if (holder?.pid === process.pid) return;
      if (holder !== undefined && (await endIfFrozen(holder, successor, signal))) return;
      await clock.sleep(LOOK_EVERY_MS, signal);
    }
  } catch (error) {
    if (signal.aborted) return;
    log.warn('who keeps the data folder could not be looked at, or ended', { err: describeError(error) });
  }
}

async function endIfFrozen(holder: Holder, successor: Successor, signal: AbortSignal): Promise<boolean> {
  const { dataDir, epoch, mayAct, log } = successor;
  if (BigInt(holder.epoch) >= epoch || !(await holds(holder, dataDir))) return false;
  if (!(await isSilent(holder, successor, signal))) return false;
  // Nothing may lie between this look and the end.
  if (!(await holds(holder, dataDir)) || !mayAct() || signal.aborted) return false;
  process.kill(holder.pid, 'SIGKILL');
  log.warn('a replica that led before kept the data folder and gave no sign of life; its process was ended', {
    process: holder.pid,
    epoch: holder.epoch,
  });
  return true;
}

/** True if it gives no sign of life for as long as its state demands. */
async function isSilent({ pid }: Holder, { dataDir, clock }: Successor, signal: AbortSignal): Promise<boolean> {
  if (await answers(dataDir, STOPPED_MS, clock, signal)) return false;
  if ((await processOf(pid))?.stopped) return true;
  return !(await answers(dataDir, SILENT_MS, clock, signal));
}

async function readHolder(dataDir: string): Promise<Holder | undefined> {
  const text = await readFile(join(dataDir, FILE), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const { pid, startTicks, bootId, pidNamespace, epoch } = JSON.parse(text) as Record<keyof Holder, unknown>;
  if (!Number.isSafeInteger(pid) || (pid as number) <= 1 || !/^[0-9]{1,20}$/.test(String(epoch))) {
    throw new Error(`${join(dataDir, FILE)} names no process`);
  }
  return {
    ...{ pid: pid as number, epoch: String(epoch) },
    ...{ startTicks: String(startTicks), bootId: String(bootId), pidNamespace: String(pidNamespace) },
  };
}

/** True if the process of that number is the one that was noted, and has the lock of this folder. */
async function holds(holder: Holder, dataDir: string): Promise<boolean> {
  const found = await processOf(holder.pid);
  if (found === undefined) return false;
  const { startTicks, bootId, pidNamespace } = found.identity;
  if (startTicks !== holder.startTicks || bootId !== holder.bootId || pidNamespace !== holder.pidNamespace)
    return false;
  const lock = await realpath(join(dataDir, 'lock'));
  const folder = `/proc/${holder.pid}/fd`;
  for (const fd of await readdir(folder)) {
    const path = await readlink(join(folder, fd)).catch(() => undefined);
    if (path !== lock) continue;
    const info = await readFile(`/proc/${holder.pid}/fdinfo/${fd}`, 'utf8');
    if (/^lock:.*\bPOSIX\b.*\bWRITE\b/m.test(info)) return true;
  }
  return false;
}

interface FoundProcess {
  readonly identity: Pick<Holder, 'startTicks' | 'bootId' | 'pidNamespace'>;
  /** By a signal or a debugger. */
  readonly stopped: boolean;
}

/** What Linux tells of a process that others of its user may know; undefined if it is gone, or elsewhere than on Linux. */
async function processOf(pid: number): Promise<FoundProcess | undefined> {
  try {
    const [stat, bootId, pidNamespace] = await Promise.all([
      readFile(`/proc/${pid}/stat`, 'utf8'),
      readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
      readlink(`/proc/${pid}/ns/pid`),
    ]);
    // The name stands in brackets and may hold anything; see proc_pid_stat(5).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const identity = { startTicks: fields[19]!, bootId: bootId.trim(), pidNamespace };
    return { identity, stopped: /^[Tt]$/.test(fields[0]!) };
  } catch {
    return undefined;
  }
}

/** True unless whoever has the folder is there and gives no sign of life: it hangs up on each that connects, in a turn of its own. */
async function answers(dataDir: string, waitMs: number, clock: Clock, signal: AbortSignal): Promise<boolean> {
  const instanceId = (await readFile(join(dataDir, 'instance-id'), 'utf8')).trim();
  const over = new AbortController();
  const stop = () => over.abort();
  signal.addEventListener('abort', stop, { once: true });
  const socket = connect(instanceSocket(instanceId));
  const heard = new Promise<boolean>((resolve) => {
    // Also of a socket that isn't there: nothing is shown.
    for (const sign of ['data', 'end', 'close', 'error']) socket.once(sign, () => resolve(true));
  });
  const silence = clock.sleep(waitMs, over.signal).then(
    () => false,
    () => true,
  );
  try {
    return await Promise.race([heard, silence]);
  } finally {
    over.abort();
    signal.removeEventListener('abort', stop);
    socket.on('error', () => undefined).destroy();
  }
}
