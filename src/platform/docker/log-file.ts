// Podman's k8s-file log, followed in its file. Podman's own follow loses lines: once the container ends it drops at random
// what it has not sent yet (libpod 4.3). Entries are "TIME STREAM F|P CONTENT\n": F ends a line of the program, P goes on
// in the stream's next entry. Must not know the engine's API.
import { type FileHandle, open } from 'node:fs/promises';
import type { OutputPiece } from '../../capabilities/jobs/ports.ts';
import { systemClock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';

const READ_BYTES = 64 * 1024;
/** conmon cuts entries at some KiB; anything much larger is no entry. */
const ENTRY_LIMIT_BYTES = 1024 * 1024;
const HEAD_LIMIT_BYTES = 64;
/** Between looks at the file; twice as long after each in vain. */
const POLL_MS = { least: 20, most: 400 } as const;
const NEWLINE = 0x0a;
const HEAD = /^\S+ (stdout|stderr) ([FP]) /;

/** Whether a container has ended, for those who follow its log. */
export interface ContainerEnd {
  readonly seen: boolean;
  /** Resolves when it is seen or `ms` are over. Rejects if the engine was lost, or the reader told to stop. */
  wait(ms: number): Promise<void>;
}

/**
 * Output in a log file, from its first byte on, until the container has ended and the file was read to its end. Throws
 * `cancelled` if the signal aborts before that.
 */
export async function* followLogFile(
  path: string,
  end: ContainerEnd,
  signal?: AbortSignal,
): AsyncGenerator<OutputPiece, void, undefined> {
  const file = await open(path, 'r').catch((error: unknown) => {
    throw new LonglineError('not_found', `the log ${path} of the container can't be read`, { cause: error });
  });
  try {
    const split = new EntrySplitter();
    for (let pauseMs: number = POLL_MS.least; ; pauseMs = Math.min(2 * pauseMs, POLL_MS.most)) {
      // Looked at before reading: what is there after the end is all there will be.
      const last = end.seen;
      for (let chunk = await next(file); chunk.length > 0; chunk = await next(file)) {
        if (signal?.aborted) throw new LonglineError('cancelled', `reading the log ${path} was given up`);
        yield* split.push(chunk);
        pauseMs = POLL_MS.least;
      }
      if (last) return;
      await end.wait(pauseMs);
    }
  } finally {
    await file.close();
  }
}

/** A promise of an end as a ContainerEnd. */
export function containerEnd(ended: Promise<void>): ContainerEnd {
  let seen = false;
  const noticed = ended.then(() => {
    seen = true;
  });
  noticed.catch(() => undefined);
  return {
    get seen() {
      return seen;
    },
    wait: async (ms) => {
      const over = new AbortController();
      const late = systemClock.sleep(ms, over.signal).catch(() => undefined);
      await Promise.race([noticed, late]).finally(() => over.abort());
    },
  };
}

/** Whole entries out of the file's bytes, however they are cut. */
class EntrySplitter {
  #rest: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Generator<OutputPiece, void, undefined> {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, at)) {
      const piece = pieceOf(bytes.subarray(at, end + 1));
      if (piece.data.length > 0) yield piece;
      at = end + 1;
    }
    this.#rest = bytes.subarray(at);
    if (this.#rest.length > ENTRY_LIMIT_BYTES) throw malformed(this.#rest);
  }
}

/** @param entry with its newline, which is the program's own if the entry ends a line. */
function pieceOf(entry: Buffer): OutputPiece {
  const [head, stream, flag] = HEAD.exec(entry.subarray(0, HEAD_LIMIT_BYTES).toString('latin1')) ?? [];
  if (head === undefined) throw malformed(entry);
  const data = entry.subarray(head.length, flag === 'F' ? entry.length : entry.length - 1);
  return { stream: stream as OutputPiece['stream'], data };
}

async function next(file: FileHandle): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read({ buffer: Buffer.allocUnsafe(READ_BYTES) });
  return buffer.subarray(0, bytesRead);
}

function malformed(entry: Buffer): LonglineError {
  const shown = JSON.stringify(entry.subarray(0, HEAD_LIMIT_BYTES).toString('latin1'));
  return new LonglineError('internal', `the log of the container has an entry of an unknown form: ${shown}`);
}
