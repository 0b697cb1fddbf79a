// Small durable facts of capabilities: all of them in memory, each change appended to one file and synced beside whatever
// else waits for the disk, never on the event loop. A write that fails left nothing behind. Not for anything large: the
// facts of all capabilities together are written anew whenever the file has grown to twice what they need.
import type { StateStore } from '../core/capability.ts';
import type { Logger } from '../core/logger.ts';
import { encodeRecord } from '../core/record-codec.ts';
import { type OpenFile, RecordFile } from '../link/record-file.ts';

/** Record types of the file. Numbers are on disk: never reuse one. */
const RECORD = { put: 1, delete: 2 } as const;
const COMPACT_FROM_BYTES = 256 * 1024;

/** How a state file is opened. */
export interface StateFileOptions {
  readonly log: Logger;
  readonly openFile?: OpenFile;
  /** A file smaller than this is not written anew. */
  readonly compactFromBytes?: number;
}

interface Fact {
  /** As of the last call; undefined once deleted. */
  value: Uint8Array | undefined;
  /** What is on disk for sure. */
  durable: Uint8Array | undefined;
  /** Writes under way. */
  pending: number;
}

/** The state stores of one agent, one namespace per capability. The owner disposes it. */
export class StateFile implements AsyncDisposable {
  readonly #facts: Map<string, Fact>;
  readonly #file: RecordFile;
  readonly #log: Logger;
  readonly #compactFromBytes: number;
  #sizeAfterCompaction: number;
  #compacting: Promise<void> | undefined;

  private constructor(facts: Map<string, Fact>, file: RecordFile, options: StateFileOptions) {
    this.#facts = facts;
    this.#file = file;
    this.#log = options.log;
    this.#compactFromBytes = options.compactFromBytes ?? COMPACT_FROM_BYTES;
    this.#sizeAfterCompaction = file.sizeBytes;
  }

  /** Opens or creates a file (0600). Throws `limit` or `unavailable` if it can't be used. */
  static async open(path: string, options: StateFileOptions): Promise<StateFile> {
    const facts = new Map<string, Fact>();
    const file = await RecordFile.open(path, {
      settled: true,
      ...(options.openFile && { openFile: options.openFile }),
      onRecord: ({ type, body }) => {
        const { key, value } = decode(body);
        if (type === RECORD.put) facts.set(key, { value, durable: value, pending: 0 });
        else facts.delete(key);
      },
    });
    if (file.loss !== undefined) {
      options.log.error('state file was damaged; recovered to the last good record', { path, ...file.loss });
    }
    return new StateFile(facts, file, options);
  }

  /** The store of one namespace, which is a word without "/". */
  namespace(name: string): StateStore {
    const prefixed = (key: string) => `${name}/${key}`;
    return {
      get: async (key) => copyOf(this.#facts.get(prefixed(key))?.value),
      put: async (key, value) => await this.#change(prefixed(key), Uint8Array.from(value)),
      delete: async (key) => await this.#change(prefixed(key), undefined),
      list: async (prefix) => {
        const wanted = prefixed(prefix);
        return [...this.#facts]
          .filter(([key, { value }]) => value !== undefined && key.startsWith(wanted))
          .map(([key]) => key.slice(name.length + 1))
          .sort();
      },
    };
  }

  /** Writes what waits and closes the file. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#compacting;
    await this.#file[Symbol.asyncDispose]();
  }

  async #change(key: string, value: Uint8Array | undefined): Promise<void> {
    const fact = this.#facts.get(key) ?? { value: undefined, durable: undefined, pending: 0 };
    if (value === undefined && fact.value === undefined && fact.pending === 0) return;
    this.#facts.set(key, fact);
    fact.value = value;
    fact.pending += 1;
    try {
      await this.#file.append([value === undefined ? encode(RECORD.delete, key) : encode(RECORD.put, key, value)]);
      fact.durable = value;
    } catch (error) {
      // A later change of the same key stands on its own.
      if (fact.value === value) fact.value = fact.durable;
      throw error;
    } finally {
      fact.pending -= 1;
      if (fact.pending === 0 && fact.value === undefined) this.#facts.delete(key);
    }
    this.#compactIfWorthIt();
  }

  #compactIfWorthIt(): void {
    const worthIt = this.#file.sizeBytes > Math.max(this.#compactFromBytes, 2 * this.#sizeAfterCompaction);
    if (!worthIt || this.#compacting !== undefined) return;
    this.#compacting = this.#file
      .replace(() => this.#snapshot())
      .then(() => {
        this.#sizeAfterCompaction = this.#file.sizeBytes;
      })
      .catch((error: unknown) => this.#log.warn('state file could not be written anew; tried later', { err: error }))
      .finally(() => {
        this.#compacting = undefined;
      });
  }

  /** What is durable; changes under way are written behind it. */
  #snapshot(): Buffer[] {
    const frames: Buffer[] = [];
    for (const [key, { durable }] of this.#facts) {
      if (durable !== undefined) frames.push(encode(RECORD.put, key, durable));
    }
    return frames;
  }
}

function copyOf(value: Uint8Array | undefined): Uint8Array | undefined {
  return value === undefined ? undefined : Uint8Array.from(value);
}

function encode(type: number, key: string, value: Uint8Array = new Uint8Array()): Buffer {
  const name = Buffer.from(key);
  const body = Buffer.allocUnsafe(4 + name.length + value.length);
  body.writeUInt32LE(name.length, 0);
  name.copy(body, 4);
  body.set(value, 4 + name.length);
  return encodeRecord(type, body);
}

function decode(body: Uint8Array): { readonly key: string; readonly value: Uint8Array } {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const end = 4 + buffer.readUInt32LE(0);
  return { key: buffer.toString('utf8', 4, end), value: Uint8Array.from(buffer.subarray(end)) };
}
