// SHA-256 and gap bytes of each stream of a log, as its close will tell them.
import { createHash, type Hash } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogCursor } from './log-cursor.ts';
import { ResumableSha256 } from './resumable-sha256.ts';
import { MAX_CHUNK_BYTES, type StreamSummary } from './spool-record.ts';
import { storageError } from './storage-error.ts';

interface StreamDigest {
  readonly hash: Hash | ResumableSha256;
  gapBytes: number;
  lengthBytes: number;
}

/** What of a log is no longer on disk, in digest. */
interface SavedPrefix {
  /** Number of the first segment that is not covered. */
  readonly segment: number;
  readonly streams: readonly { name: string; hash: string; gapBytes: number; lengthBytes: number }[];
}

const PREFIX_FILE = 'prefix.json';

/** Grows with what is written, in order. */
export class StreamDigests {
  readonly #streams = new Map<string, StreamDigest>();
  /** Only a resumable hash can be saved; a native one is several times faster. */
  readonly #resumable: boolean;

  constructor(resumable = false) {
    this.#resumable = resumable;
  }

  /**
   * Digests up to the first segment that is left; empty if that is the first of all. `resumable` if they are to be saved.
   * Throws `unavailable` if they are lost.
   */
  static async load(folder: string, firstSegment: number, resumable = false): Promise<StreamDigests> {
    if (firstSegment <= 1) return new StreamDigests(resumable);
    const path = join(folder, PREFIX_FILE);
    try {
      const saved = JSON.parse(await readFile(path, 'utf8')) as SavedPrefix;
      const digests = new StreamDigests(true);
      for (const { name, hash, gapBytes, lengthBytes } of saved.streams) {
        digests.#streams.set(name, { hash: ResumableSha256.restore(hash), gapBytes, lengthBytes });
      }
      return digests;
    } catch (error) {
      throw storageError('read', path, error);
    }
  }

  update(stream: string, data: Uint8Array): void {
    const digest = this.#of(stream);
    digest.hash.update(data);
    digest.lengthBytes += data.length;
  }

  addGap(stream: string, bytes: number): void {
    const digest = this.#of(stream);
    digest.gapBytes += bytes;
    digest.lengthBytes += bytes;
  }

  /** Takes in all that a cursor gives. */
  async read(cursor: LogCursor): Promise<void> {
    for (;;) {
      const batch = await cursor.next(MAX_CHUNK_BYTES);
      if (batch === undefined) return;
      for (const { stream, data } of batch.chunks) this.update(stream, data);
      for (const { stream, from, to } of batch.gaps) this.addGap(stream, to - from);
    }
  }

  /** How far each stream is taken in. */
  lengths(): Map<string, number> {
    return new Map([...this.#streams].map(([stream, { lengthBytes }]) => [stream, lengthBytes]));
  }

  /** The streams by name, with digests so far. More may be added afterwards. */
  summaries(): StreamSummary[] {
    return [...this.#streams]
      .map(([stream, { hash, gapBytes, lengthBytes }]) => {
        const copy = hash instanceof ResumableSha256 ? ResumableSha256.restore(hash.save()) : hash.copy();
        return { stream, lengthBytes, gapBytes, sha256: copy.digest().toString('hex') };
      })
      .sort((left, right) => (left.stream < right.stream ? -1 : 1));
  }

  /** Keeps the digests beside the segments, before those below `segment` are removed. */
  async save(folder: string, segment: number): Promise<void> {
    const streams = [...this.#streams].map(([name, { hash, gapBytes, lengthBytes }]) => ({
      name,
      hash: (hash as ResumableSha256).save(),
      gapBytes,
      lengthBytes,
    }));
    const path = join(folder, PREFIX_FILE);
    try {
      await writeFile(`${path}.new`, JSON.stringify({ segment, streams } satisfies SavedPrefix), {
        flush: true,
        mode: 0o600,
      });
      await rename(`${path}.new`, path);
    } catch (error) {
      await rm(`${path}.new`, { force: true });
      throw storageError('write', path, error);
    }
  }

  #of(stream: string): StreamDigest {
    let digest = this.#streams.get(stream);
    if (digest === undefined) {
      digest = { hash: this.#resumable ? new ResumableSha256() : createHash('sha256'), gapBytes: 0, lengthBytes: 0 };
      this.#streams.set(stream, digest);
    }
    return digest;
  }
}
