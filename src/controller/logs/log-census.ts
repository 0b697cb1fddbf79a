// Walks the folders of all logs: shard/log id/attempt/. Knows their sizes and ages, nothing of what is in them.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogKey } from './log-store.ts';

const ATTEMPT = /^[1-9]\d{0,9}$/;

/** One log as it lies on disk. */
export interface CountedLog extends LogKey {
  /** Of its files, which may be less than they take. */
  readonly bytes: number;
  /** Last write to any of its files, milliseconds since the epoch; 0 if it has none. */
  readonly writtenAtMs: number;
}

/** All logs, in no order. One that goes meanwhile may be left out. */
export async function* census(root: string): AsyncGenerator<CountedLog, void, undefined> {
  for (const shard of await namesIn(root)) {
    for (const logId of await namesIn(join(root, shard))) {
      for (const attempt of await namesIn(join(root, shard, logId))) {
        if (!ATTEMPT.test(attempt)) continue;
        const size = await measured(join(root, shard, logId, attempt));
        if (size !== undefined) yield { logId, attempt: Number(attempt), ...size };
      }
    }
  }
}

/** Attempts in the folder of a log. */
export function attemptsAmong(names: readonly string[]): readonly number[] {
  return names.filter((name) => ATTEMPT.test(name)).map(Number);
}

/** The logs written to longest ago, oldest first: at most `most`, so that memory is bounded however many there are. */
export class OldestLogs {
  readonly #most: number;
  #logs: CountedLog[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  add(log: CountedLog): void {
    this.#logs.push(log);
    if (this.#logs.length >= 2 * this.#most) this.#logs = [...this.oldestFirst()];
  }

  oldestFirst(): readonly CountedLog[] {
    return this.#logs.sort((left, right) => left.writtenAtMs - right.writtenAtMs).slice(0, this.#most);
  }
}

async function measured(folder: string): Promise<Pick<CountedLog, 'bytes' | 'writtenAtMs'> | undefined> {
  let bytes = 0;
  let writtenAtMs = 0;
  try {
    for (const name of await readdir(folder)) {
      const { size, mtimeMs } = await stat(join(folder, name));
      bytes += size;
      writtenAtMs = Math.max(writtenAtMs, mtimeMs);
    }
    return { bytes, writtenAtMs };
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}
