// Refuses new commands while the disk of the data folder is nearly full: output and results of what runs come first.
import { statfsSync } from 'node:fs';
import type { Command } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../core/clock.ts';
import { LonglineError } from '../core/errors.ts';
import type { AdmittedCommand, CommandAdmission } from '../link/ports.ts';

const LOOK_EVERY_MS = 2_000;
const MIB = 1024 * 1024;

/** Wraps an admission. Free space is looked at once every two seconds at most. */
export class DiskGuard implements CommandAdmission {
  readonly #inner: CommandAdmission;
  readonly #folder: string;
  readonly #minFreeBytes: number;
  readonly #clock: Clock;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #freeBytes = Number.POSITIVE_INFINITY;

  constructor(inner: CommandAdmission, folder: string, minFreeBytes: number, clock: Clock) {
    this.#inner = inner;
    this.#folder = folder;
    this.#minFreeBytes = minFreeBytes;
    this.#clock = clock;
  }

  async admit(command: Command, nonceSeen: (nonce: Uint8Array) => boolean): Promise<AdmittedCommand> {
    const freeBytes = this.#free();
    if (freeBytes < this.#minFreeBytes) {
      const [free, wanted] = [freeBytes, this.#minFreeBytes].map((bytes) => Math.floor(bytes / MIB));
      const refusal = new LonglineError(
        'limit',
        `host disk: ${free} MiB are free in ${this.#folder}, and new commands need ${wanted} MiB (spool.min_free)`,
      );
      this.#inner.refused(command, refusal);
      throw refusal;
    }
    return await this.#inner.admit(command, nonceSeen);
  }

  refused(command: Command, error: LonglineError): void {
    this.#inner.refused(command, error);
  }

  #free(): number {
    const nowMs = this.#clock.monotonic();
    if (nowMs - this.#lookedAtMs >= LOOK_EVERY_MS) {
      this.#lookedAtMs = nowMs;
      const { bavail, bsize } = statfsSync(this.#folder);
      this.#freeBytes = bavail * bsize;
    }
    return this.#freeBytes;
  }
}
