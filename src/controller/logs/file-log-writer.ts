// One use of a log file for writing, from when it is opened until it is released.
import type { LogClose } from '#gen/longline/v1/log_pb.js';
import type { LogFile } from './log-file.ts';
import type { LogAppend, LogWriter } from './log-store.ts';

/** Writer of a log file that others may write to and read from. */
export class FileLogWriter implements LogWriter {
  readonly #file: LogFile;
  readonly #onGrowth: (bytes: number) => void;
  #onRelease: (() => void) | undefined;

  /** @param onGrowth hears by how many bytes the files have grown. */
  constructor(file: LogFile, onGrowth: (bytes: number) => void, onRelease: () => void) {
    this.#file = file;
    this.#onGrowth = onGrowth;
    this.#onRelease = onRelease;
  }

  get closed(): boolean {
    return this.#file.closed;
  }

  durableOffsets(): ReadonlyMap<string, number> {
    return this.#file.durableOffsets();
  }

  async append(batch: LogAppend): Promise<boolean> {
    const before = this.#file.end;
    const grew = await this.#file.append(batch);
    this.#onGrowth(Math.max(0, this.#file.end - before));
    return grew;
  }

  async sync(): Promise<void> {
    await this.#file.sync();
  }

  async close(close: LogClose): Promise<void> {
    await this.#file.close(close);
  }

  release(): void {
    this.#onRelease?.();
    this.#onRelease = undefined;
  }
}
