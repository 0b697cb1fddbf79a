// The disk of one simulated host. It keeps apart what was written from what was made durable: a killed process leaves what
// it had written, the last write torn; a host that lost power keeps what was synced and an arbitrary part of the rest.
import { dirname } from 'node:path';
import type { FolderOperations } from '../../src/link/folder-operations.ts';
import type { OpenFile } from '../../src/link/record-file.ts';
import type { Life, Scheduler } from './scheduler.ts';

class DiskFile {
  bytes: Buffer = Buffer.alloc(0);
  durable: Buffer = Buffer.alloc(0);
}

interface PendingWrite {
  readonly file: DiskFile;
  readonly bytes: Buffer;
}

function fault(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** Files by path, on a disk that may be slow, full or failing. */
export class SimulatedDisk {
  full = false;
  failing = false;
  /** Longest time of one operation. */
  slowestMs = 3;
  readonly #scheduler: Scheduler;
  #files = new Map<string, DiskFile>();
  #durableFiles = new Map<string, DiskFile>();
  readonly #writing = new Set<PendingWrite>();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** The disk as one process sees it. */
  mount(life: Life): { readonly openFile: OpenFile; readonly folders: FolderOperations } {
    const io = <T>(effect: () => T): Promise<T> => this.#io(life, effect);
    const openFile = async (path: string, flags: string) => {
      const file = await io(() => {
        if (this.failing) throw fault('EIO');
        let found = this.#files.get(path);
        if (found === undefined) {
          if (this.full) throw fault('ENOSPC');
          found = new DiskFile();
          this.#files.set(path, found);
        }
        if (flags.startsWith('w')) found.bytes = Buffer.alloc(0);
        return found;
      });
      return this.#handle(file, life, flags.includes('s'));
    };
    return {
      openFile: openFile as unknown as OpenFile,
      folders: {
        make: () => io(() => undefined),
        rename: (from, to) =>
          io(() => {
            if (this.failing) throw fault('EIO');
            this.#files.set(to, this.#files.get(from)!);
            this.#files.delete(from);
          }),
        remove: (path) => io(() => void this.#files.delete(path)),
        sync: (path) =>
          io(() => {
            if (this.failing) throw fault('EIO');
            for (const name of new Set([...this.#files.keys(), ...this.#durableFiles.keys()])) {
              if (dirname(name) !== path) continue;
              const file = this.#files.get(name);
              if (file === undefined) this.#durableFiles.delete(name);
              else this.#durableFiles.set(name, file);
            }
          }),
      },
    };
  }

  /** The process that used the disk was killed: any part of a write under way is there. */
  killed(): void {
    for (const { file, bytes } of this.#writing) {
      const part = bytes.subarray(0, Math.floor(this.#scheduler.between(0, bytes.length + 1)));
      file.bytes = Buffer.concat([file.bytes, part]);
    }
    this.#writing.clear();
  }

  /** The host lost power. */
  lostPower(): void {
    this.killed();
    const names = new Set([...this.#files.keys(), ...this.#durableFiles.keys()]);
    const kept = new Map<string, DiskFile>();
    for (const name of names) {
      const current = this.#files.get(name);
      const durable = this.#durableFiles.get(name);
      const file = current === durable || this.#scheduler.chance(0.5) ? current : durable;
      if (file !== undefined) kept.set(name, file);
    }
    for (const file of new Set(kept.values())) this.#tear(file);
    this.#files = kept;
    this.#durableFiles = new Map(kept);
  }

  #tear(file: DiskFile): void {
    const { bytes, durable } = file;
    if (bytes.length >= durable.length && bytes.subarray(0, durable.length).equals(durable)) {
      const keep = Math.floor(this.#scheduler.between(durable.length, bytes.length + 1));
      const torn = Buffer.from(bytes.subarray(0, keep));
      // A file may have its new length before its new content.
      if (this.#scheduler.chance(0.3)) torn.fill(0, Math.floor(this.#scheduler.between(durable.length, keep)));
      file.bytes = torn;
    } else if (this.#scheduler.chance(0.5)) file.bytes = durable;
    file.durable = file.bytes;
  }

  #handle(file: DiskFile, life: Life, synced: boolean) {
    const io = <T>(effect: () => T): Promise<T> => this.#io(life, effect);
    return {
      stat: () => io(() => ({ size: file.bytes.length })),
      read: (into: Buffer, at: number, length: number, from: number) =>
        io(() => ({ bytesRead: file.bytes.copy(into, at, from, Math.min(file.bytes.length, from + length)) })),
      writev: (frames: readonly Uint8Array[]) => this.#write(file, Buffer.concat(frames), life, synced),
      writeFile: (bytes: Uint8Array) => this.#write(file, Buffer.from(bytes), life, synced),
      datasync: () =>
        io(() => {
          if (this.failing) throw fault('EIO');
          file.durable = file.bytes;
        }),
      truncate: (length: number) =>
        io(() => {
          if (this.failing) throw fault('EIO');
          file.bytes = Buffer.from(file.bytes.subarray(0, length));
        }),
      close: () => io(() => undefined),
    };
  }

  #write(file: DiskFile, bytes: Buffer, life: Life, synced: boolean): Promise<{ bytesWritten: number }> {
    const pending = { file, bytes };
    this.#writing.add(pending);
    return this.#io(life, () => {
      this.#writing.delete(pending);
      if (this.failing) throw fault('EIO');
      const room = this.full ? Math.floor(this.#scheduler.between(0, bytes.length)) : bytes.length;
      file.bytes = Buffer.concat([file.bytes, bytes.subarray(0, room)]);
      if (room === 0 && bytes.length > 0) throw fault('ENOSPC');
      if (synced) file.durable = file.bytes;
      return { bytesWritten: room };
    });
  }

  #io<T>(life: Life, effect: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#scheduler.after(this.#scheduler.between(0.05, this.slowestMs), life, () => {
      try {
        resolve(effect());
      } catch (error) {
        reject(error);
      }
    });
    return promise;
  }
}
