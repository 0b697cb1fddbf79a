// Checks of the process and its disk: whether it gets on, and whether what must be written can be.
import { statfs } from 'node:fs/promises';
import type { Progress } from '../../core/progress.ts';
import { type Check, type Finding, fine } from './check.ts';
import type { LoopPulse } from './loop-pulse.ts';

const MIB = 1024 * 1024;
/** A loop that stands still for longer is felt. */
const FELT_MS = 1_000;
/** Of a minute: a loop that stands still for longer does little else. */
const STUCK_MS = 30_000;
/** Below this nothing works, whatever the settings say. */
const LEAST_FREE_BYTES = MIB;

/** Whether the event loop turns. One that doesn't at all gives no answer. */
export function eventLoopCheck(pulse: Pick<LoopPulse, 'late'>): Check {
  return {
    name: 'event_loop',
    look: () => {
      const { worstMs, totalMs } = pulse.late();
      const reason = `it stood still for ${seconds(worstMs)} at once and ${seconds(totalMs)} in all in the last minute`;
      if (totalMs >= STUCK_MS) {
        return { state: 'failed', reason, mend: 'see what the process computes, and whether the host swaps' };
      }
      if (worstMs < FELT_MS) return fine(reason);
      return { state: 'degraded', reason, mend: 'see whether the host has a processor left for the agent' };
    },
  };
}

/** Whether tasks that never end get on. */
export function tasksCheck(tasks: () => readonly Progress[]): Check {
  return {
    name: 'tasks',
    look: () => {
      const [late] = tasks().flatMap((task) => task.overdue() ?? []);
      if (late === undefined) return fine('all get on');
      const reason = `${late.what} is late by ${seconds(late.byMs)}`;
      return { state: 'failed', reason, mend: 'restart the agent; what runs on the host goes on' };
    },
  };
}

/** Whether the data folder's disk has room; with less than `minFreeBytes` no new commands are taken. */
export function dataFolderCheck(path: string, minFreeBytes: number): Check {
  const least = Math.max(minFreeBytes, LEAST_FREE_BYTES);
  return {
    name: 'data_folder',
    look: async () => {
      const { bavail, bsize, files, ffree } = await statfs(path);
      const freeBytes = bavail * bsize;
      const reason = `${Math.floor(freeBytes / MIB)} MiB are free in ${path}`;
      const mend = `make room on the disk of ${path}, or lower spool.min_free`;
      if (freeBytes < least) {
        return { state: 'failed', reason: `${reason}, and new commands need ${Math.floor(least / MIB)} MiB`, mend };
      }
      if (files > 0 && ffree === 0) {
        return { state: 'failed', reason: `no more files can be made in ${path}`, mend: `remove files from its disk` };
      }
      if (freeBytes < 2 * least) {
        return {
          state: 'degraded',
          reason: `${reason}; below ${Math.floor(least / MIB)} no new commands are taken`,
          mend,
        };
      }
      return fine(reason);
    },
  };
}

/** Whether what must be on disk gets there. @param failure why the last write failed, until one succeeds. */
export function writeCheck(name: string, failure: () => string | undefined, state: 'degraded' | 'failed'): Check {
  return {
    name,
    look: (): Finding => {
      const reason = failure();
      if (reason === undefined) return fine('its last write succeeded');
      return { state, reason, mend: 'make the data folder writable and free disk space on the host' };
    },
  };
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
