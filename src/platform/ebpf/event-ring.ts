// Records of a ring buffer, through libbpf's reader. Each is copied; nothing waits. Knows nothing of what is in them. What a program
// can't put in because nobody takes it is the program's to count.
import type { EventStream } from '../../capabilities/programs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { errnoName } from './bpf-syscall.ts';
import { type Address, libbpf } from './libbpf.ts';

/** Bytes handed out at once, beside the number that is asked for. */
const MAX_TAKEN_BYTES = 4 * 1024 * 1024;
/** Tells libbpf to stop after a record; what is left stays in the ring. */
const ENOUGH = -1;

/** Takes what is in a ring buffer. Only one of a ring should be open: each takes what the other would. */
export class EventRing implements EventStream {
  readonly #callback: { readonly address: Address } & Disposable;
  readonly #ring: Address;
  #most = 0;
  #bytes = 0;
  #taken: Uint8Array[] = [];
  #disposed = false;

  /** The descriptor may be closed afterwards. Throws `invalid` if it is no ring buffer. */
  constructor(mapFd: number, name: string) {
    this.#callback = libbpf().sampleCallback((data, size) => this.#sample(data, size));
    const ring = libbpf().address('ring_buffer__new', mapFd, this.#callback.address, null, null);
    if (ring === null) {
      const errno = libbpf().errno();
      this.#callback[Symbol.dispose]();
      throw new LonglineError('invalid', `map ${name} can't be read as a ring buffer: ${errnoName(errno)}`);
    }
    this.#ring = ring;
  }

  take(most: number): readonly Uint8Array[] {
    if (this.#disposed || most < 1) return [];
    this.#most = most;
    this.#bytes = 0;
    this.#taken = [];
    libbpf().number('ring_buffer__consume', this.#ring);
    const taken = this.#taken;
    this.#taken = [];
    return taken;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    libbpf().nothing('ring_buffer__free', this.#ring);
    this.#callback[Symbol.dispose]();
  }

  #sample(data: Address, size: number): number {
    this.#taken.push(new Uint8Array(libbpf().memory(data, size)));
    this.#bytes += size;
    return this.#taken.length >= this.#most || this.#bytes >= MAX_TAKEN_BYTES ? ENOUGH : 0;
  }
}
