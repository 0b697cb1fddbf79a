// Artifacts on this host: one file for each digest, fetched from where its origin says and kept until nobody wants it any more. What is
// given out has the digest that was asked for, whether it was just fetched or lay here for months. It knows nothing of signatures or
// programs. A fetch that is cut leaves what came, and the next one goes on there, also in a later process; a full disk is `limit`.
import { hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArtifactOrigin, Artifacts } from '../../capabilities/programs/ports.ts';
import { describeError, LonglineError, type Reason, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { type ArtifactSource, digestHex, MAX_ARTIFACT_BYTES } from '../../core/programs/artifact-source.ts';
import { hostFolders, syncFolder } from '../../link/folder-operations.ts';
import { errorCode, storageError } from '../../link/storage-error.ts';
import { SharedWork } from './shared-work.ts';

/** What the cache is made from. */
export interface ArtifactCacheOptions {
  /** Made (0700) when it is first needed. Files in it that don't look like the cache's own are left alone. */
  readonly folder: string;
  /** Origins that have none give only what is here. */
  readonly sources: Partial<Record<ArtifactOrigin, ArtifactSource>>;
  readonly log: Logger;
  /** Largest artifact. */
  readonly maxBytes?: number;
}

const OWN_FILE = /^([0-9a-f]{64})(\.part)?$/;
/** How artifacts can fail, as Artifacts.get says. Whatever else a source says, it can't give the artifact now. */
const TOLD: ReadonlySet<Reason> = new Set(['not_found', 'unavailable', 'late', 'limit', 'invalid', 'cancelled']);

/** Several calls at once for one digest share one fetch. */
export class ArtifactCache implements Artifacts {
  readonly #options: ArtifactCacheOptions;
  readonly #maxBytes: number;
  readonly #fetches = new SharedWork<Buffer>();

  constructor(options: ArtifactCacheOptions) {
    this.#options = options;
    this.#maxBytes = options.maxBytes ?? MAX_ARTIFACT_BYTES;
  }

  async get(digest: string, origin: ArtifactOrigin, signal: AbortSignal): Promise<Uint8Array> {
    const hex = digestHex(digest);
    signal.throwIfAborted();
    return (await this.#kept(hex)) ?? (await this.#fetches.run(hex, (stop) => this.#fetch(hex, origin, stop), signal));
  }

  async keepOnly(digests: ReadonlySet<string>): Promise<void> {
    const kept = new Set([...digests].map(digestHex));
    const { folder } = this.#options;
    let names: readonly string[];
    try {
      names = await readdir(folder);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return;
      throw storageError('list', folder, error);
    }
    for (const name of names) {
      const hex = OWN_FILE.exec(name)?.[1];
      if (hex === undefined || kept.has(hex) || this.#fetches.has(hex)) continue;
      await rm(join(folder, name), { force: true }).catch((error: unknown) => {
        throw storageError('remove', join(folder, name), error);
      });
    }
  }

  /** What lies here under a digest, if it is what the digest says; what isn't is removed. */
  async #kept(hex: string): Promise<Buffer | undefined> {
    const path = join(this.#options.folder, hex);
    let bytes: Buffer | undefined;
    try {
      bytes = await this.#read(path);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined;
      // Fetched anew, it takes its place.
      this.#options.log.warn('a kept artifact can not be read', { path, err: describeError(error) });
      return undefined;
    }
    if (bytes !== undefined && hash('sha256', bytes) === hex) return bytes;
    this.#options.log.warn('a kept artifact is damaged; it is fetched anew', { path });
    await rm(path, { force: true, recursive: true });
    return undefined;
  }

  /** Undefined for what can't be an artifact. */
  async #read(path: string): Promise<Buffer | undefined> {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const facts = await file.stat();
    return facts.isFile() && facts.size <= this.#maxBytes ? await file.readFile() : undefined;
  }

  async #fetch(hex: string, origin: ArtifactOrigin, signal: AbortSignal): Promise<Buffer> {
    const { folder, sources } = this.#options;
    const source = sources[origin];
    if (source === undefined) {
      throw new LonglineError(
        'not_found',
        `artifact sha256:${hex} is not on this host, and there is nowhere to get it from`,
      );
    }
    await this.#prepareFolder();
    const path = join(folder, `${hex}.part`);
    try {
      await using file = await openPart(path);
      const bytes = await this.#complete(file, hex, source, signal);
      await file.sync();
      await rename(path, join(folder, hex));
      await syncFolder(folder);
      return bytes;
    } catch (error) {
      const failure = error instanceof Error && errorCode(error) !== '' ? storageError('write', path, error) : error;
      const told = asTold(toLonglineError(failure));
      // What can't be completed would only hold the room that is missing.
      if (told.reason === 'limit') await rm(path, { force: true });
      throw told;
    }
  }

  /** Fetches what is missing. What other bytes came than the digest says is dropped, and fetched once more if it was begun earlier. */
  async #complete(file: FileHandle, hex: string, source: ArtifactSource, signal: AbortSignal): Promise<Buffer> {
    const { size } = await file.stat();
    let from = size <= this.#maxBytes ? size : 0;
    for (;;) {
      const bytes = await this.#resume(file, hex, from, source, signal).catch((error: unknown) => {
        // A source that can't go on there may have the whole.
        if (from > 0 && error instanceof LonglineError && error.reason === 'invalid') return Buffer.alloc(0);
        throw error;
      });
      const came = hash('sha256', bytes);
      if (came === hex) return bytes;
      await file.truncate(0);
      if (from === 0) {
        const message = `artifact sha256:${hex}: ${bytes.length} bytes came, with SHA-256 ${came}; they were dropped`;
        throw new LonglineError('invalid', message);
      }
      this.#options.log.warn('an artifact that was begun earlier does not fit together; it is fetched from its start', {
        artifact: `sha256:${hex}`,
      });
      from = 0;
    }
  }

  async #resume(
    file: FileHandle,
    hex: string,
    from: number,
    source: ArtifactSource,
    signal: AbortSignal,
  ): Promise<Buffer> {
    await file.truncate(from);
    const begun = await readFrom(file, from);
    // The process may have ended between the last byte and the new name.
    if (from > 0 && hash('sha256', begun) === hex) return begun;
    let at = from;
    let parts = [begun];
    for await (const { size, offset, data } of source.read(`sha256:${hex}`, from, signal)) {
      if (offset === 0 && at > 0) {
        await file.truncate(0);
        at = 0;
        parts = [];
      }
      if (offset !== at)
        throw new LonglineError('unavailable', `artifact sha256:${hex} goes on at ${offset} instead of ${at}`);
      at += data.length;
      if (Math.max(at, size ?? 0) > this.#maxBytes) throw this.#tooLarge(hex, Math.max(at, size ?? 0));
      await writeAll(file, data, offset);
      parts.push(Buffer.from(data));
      if (size !== undefined && at > size) break;
    }
    return Buffer.concat(parts);
  }

  #tooLarge(hex: string, bytes: number): LonglineError {
    const message = `artifact sha256:${hex} has ${bytes} bytes or more; at most ${this.#maxBytes} are taken`;
    return new LonglineError('limit', message, { retryable: false });
  }

  /** Whoever can write to the folder can make us fetch again and again, but not load anything. */
  async #prepareFolder(): Promise<void> {
    const { folder } = this.#options;
    try {
      await hostFolders.make(folder);
      const facts = await stat(folder);
      const stranger = process.geteuid !== undefined && facts.uid !== 0 && facts.uid !== process.geteuid();
      if (!stranger && (process.geteuid === undefined || (facts.mode & 0o022) === 0)) return;
    } catch (error) {
      throw storageError('use programs.cache_dir', folder, error);
    }
    const message = `programs.cache_dir: ${folder} can be written by others; name another folder, or chmod 700 it`;
    throw new LonglineError('unavailable', message);
  }
}

async function openPart(path: string): Promise<FileHandle> {
  return await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
}

async function readFrom(file: FileHandle, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes);
  let at = 0;
  while (at < bytes) {
    const { bytesRead } = await file.read(buffer, at, bytes - at, at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return buffer.subarray(0, at);
}

async function writeAll(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  let at = 0;
  while (at < data.length) at += (await file.write(data, at, data.length - at, position + at)).bytesWritten;
}

function asTold(failure: LonglineError): LonglineError {
  if (TOLD.has(failure.reason) || failure.reason === 'internal') return failure;
  return new LonglineError('unavailable', failure.message, { cause: failure });
}
