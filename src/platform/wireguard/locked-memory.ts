// Memory for keys that is never written to a swap file, nor into the dump of a crash. A page is locked for good and divided into
// places of the size of a key; a place is wiped and used again once nothing refers to what was kept there. Copies that are made
// while a key is read or handed to WireGuard lie elsewhere, for moments. Never fails: where memory can't be locked it says so.
import { describeError } from '../../core/errors.ts';
import { addressOf, type LibcCall, libc } from './libc.ts';

const KEY_BYTES = 32;
const PAGE_BYTES = 4096;
/** 131,072 keys. */
const MAX_PAGES = 1024;
const MADV_DONTDUMP = 16;

/** Keeps keys of 32 bytes. One for a process. */
export class LockedMemory {
  readonly #load: () => { readonly call: LibcCall; readonly addressOf: (buffer: Buffer) => bigint };
  readonly #free: Buffer[] = [];
  readonly #released = new FinalizationRegistry<Buffer>((place) => this.#release(place));
  #pages = 0;
  #unlocked: string | undefined;

  constructor(load = () => ({ call: libc(), addressOf })) {
    this.#load = load;
    this.#addPage();
  }

  /** Why some of it is not locked; undefined if all is. */
  get unlocked(): string | undefined {
    return this.#unlocked;
  }

  /** Copies a key to where it is kept. */
  hold(key: Buffer): Buffer {
    if (this.#free.length === 0) this.#addPage();
    const place = this.#free.pop();
    if (place === undefined) return Buffer.from(key);
    // A view of its own, whose end is noticed; the registry holds the place itself.
    const view = Buffer.from(place.buffer, place.byteOffset, KEY_BYTES);
    key.copy(view);
    this.#released.register(view, place);
    return view;
  }

  #release(place: Buffer): void {
    place.fill(0);
    this.#free.push(place);
  }

  #addPage(): void {
    if (this.#pages >= MAX_PAGES) {
      this.#unlocked ??= `more than ${(MAX_PAGES * PAGE_BYTES) / KEY_BYTES} keys are held; the rest is not locked`;
      return;
    }
    this.#pages += 1;
    // Twice as much, so that a whole page lies in it.
    const memory = Buffer.alloc(2 * PAGE_BYTES);
    let from = 0;
    try {
      const { addressOf: where, call } = this.#load();
      from = Number(-where(memory) & BigInt(PAGE_BYTES - 1));
      const page = memory.subarray(from, from + PAGE_BYTES);
      call('mlock', page, PAGE_BYTES);
      call('madvise', page, PAGE_BYTES, MADV_DONTDUMP);
    } catch (error) {
      const mend = 'give the agent CAP_IPC_LOCK, or raise its limit of locked memory (LimitMEMLOCK)';
      this.#unlocked ??= `keys could be written to a swap file: ${describeError(error)}; ${mend}`;
    }
    for (let at = from; at < from + PAGE_BYTES; at += KEY_BYTES) this.#free.push(memory.subarray(at, at + KEY_BYTES));
  }
}
