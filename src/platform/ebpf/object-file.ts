// A BPF object from memory, as libbpf sees it: its functions, maps and types, and loading it. Knows nothing of pins, and of what is
// loaded for whom. What is no BPF object is `invalid`; what the verifier refuses is an outcome, with its log.
import { release } from 'node:os';
import { LonglineError } from '../../core/errors.ts';
import { kernelFault } from '../../core/programs/kernel-release.ts';
import { ERRNO, errnoName, kernelError } from './bpf-syscall.ts';
import { Btf } from './btf.ts';
import { checkElf } from './elf-check.ts';
import { type Address, libbpf } from './libbpf.ts';
import { readU64, sized, textAt, writeU64 } from './native-bytes.ts';

/** Most of a verifier's log that is told: its end. */
export const MAX_LOG_BYTES = 64 * 1024;
/** Kernels from 6.4 on keep the end of a log that doesn't fit; older ones keep its beginning, so that all has to fit. */
const LOG_BUFFER_BYTES = kernelFault('6.4', release()) === undefined ? MAX_LOG_BYTES : 4 * 1024 * 1024;
/** Of all functions together. */
const MAX_LOG_BUFFERS_BYTES = 64 * 1024 * 1024;
const OPEN_OPTIONS_SIZE = 80;
/** Maps of variables are named after it: "ll.rodata". The kernel takes 15 characters, so that it has to be short. */
const OBJECT_NAME = 'll';
const OBJECT_NAME_BYTES = Buffer.from(`${OBJECT_NAME}\0`);
const MAX_LISTED = 1024;

/** A function of an object. */
export interface ObjectFunction {
  readonly name: string;
  readonly section: string;
  /** enum bpf_prog_type; 0 if its section doesn't tell. */
  readonly type: number;
  readonly address: Address;
}

/** A map of an object. */
export interface ObjectMap {
  readonly name: string;
  /** True for those that hold variables: ".rodata", ".data", ".bss". */
  readonly internal: boolean;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** 0 for none. */
  readonly btfKeyTypeId: number;
  readonly btfValueTypeId: number;
  readonly address: Address;
}

/** How loading ended. */
export type ObjectLoad =
  | { readonly kind: 'loaded' }
  | { readonly kind: 'refused'; readonly function: string; readonly errno: number; readonly log: string }
  /** Before anything was verified, or for want of privileges. */
  | { readonly kind: 'failed'; readonly errno: number };

/** An object. It can be loaded once. Disposing it lets go of what is loaded, unless that is pinned. */
export class ObjectFile implements Disposable {
  readonly functions: readonly ObjectFunction[];
  readonly maps: readonly ObjectMap[];
  /** Undefined if it has none. */
  readonly types: Btf | undefined;
  readonly #address: Address;
  readonly #logs = new Map<string, Buffer>();
  #running: Promise<unknown> | undefined;
  #disposed = false;

  /** Throws `invalid` with what libbpf says. */
  constructor(object: Uint8Array) {
    checkElf(object);
    // libbpf reads numbers as they lie, and not every processor does that anywhere.
    const bytes = object.byteOffset % 8 === 0 ? object : new Uint8Array(object);
    const options = sized(OPEN_OPTIONS_SIZE);
    writeU64(options, 8, libbpf().addressOf(OBJECT_NAME_BYTES));
    const open = () => libbpf().address('bpf_object__open_mem', bytes, bytes.length, options);
    // In silence first: hearing costs more than opening.
    const address = open() ?? openAgain(open, libbpf().errno());
    this.#address = address;
    try {
      this.functions = this.#readFunctions();
      this.maps = this.#readMaps();
      this.types = this.#readTypes();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Has only these loaded. */
  choose(chosen: readonly ObjectFunction[]): void {
    const share = Math.max(MAX_LOG_BYTES, Math.floor(MAX_LOG_BUFFERS_BYTES / Math.max(1, chosen.length)));
    for (const one of this.functions) {
      const wanted = chosen.includes(one);
      libbpf().number('bpf_program__set_autoload', one.address, wanted);
      if (!wanted) continue;
      const log = Buffer.alloc(Math.min(share, LOG_BUFFER_BYTES));
      this.#logs.set(one.name, log);
      libbpf().number('bpf_program__set_log_buf', one.address, log, log.length);
    }
  }

  /** What a map of variables begins with, to be changed before loading. Not to be used any longer. Undefined for others. */
  initialValue(map: ObjectMap): Buffer | undefined {
    const size = Buffer.alloc(8);
    const address = map.internal ? libbpf().address('bpf_map__initial_value', map.address, size) : null;
    return address === null ? undefined : libbpf().memory(address, Number(readU64(size, 0)));
  }

  /** Loads on a thread: the verifier may take seconds. If the signal aborts it goes on, and is let go of once it ends. */
  async load(signal: AbortSignal): Promise<ObjectLoad> {
    signal.throwIfAborted();
    const loading = libbpf().threaded('bpf_object__load', this.#address);
    this.#running = loading.then(
      () => this.#ended(),
      () => this.#ended(),
    );
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      return this.#outcome(await Promise.race([loading, aborted.promise]));
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** Loads here and now, for what fails at once, with what libbpf says. */
  loadAloud(): { readonly outcome: ObjectLoad; readonly said: string } {
    const { result, said } = libbpf().listen(() => libbpf().number('bpf_object__load', this.#address));
    return { outcome: this.#outcome(result), said };
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#running === undefined) libbpf().nothing('bpf_object__close', this.#address);
  }

  #ended(): void {
    this.#running = undefined;
    if (this.#disposed) libbpf().nothing('bpf_object__close', this.#address);
  }

  #outcome(result: number): ObjectLoad {
    if (result >= 0) return { kind: 'loaded' };
    for (const [name, log] of this.#logs) {
      // A function that is taken at the first go has no log.
      if (log[0] !== 0) return { kind: 'refused', errno: -result, function: name, log: logText(log) };
    }
    return { kind: 'failed', errno: -result };
  }

  #readFunctions(): readonly ObjectFunction[] {
    return this.#walk('bpf_object__next_program').map((address) => ({
      address,
      name: libbpf().text('bpf_program__name', address),
      section: libbpf().text('bpf_program__section_name', address),
      type: libbpf().number('bpf_program__type', address),
    }));
  }

  #readMaps(): readonly ObjectMap[] {
    return this.#walk('bpf_object__next_map').map((address) => {
      // Where an object would like its maps to be pinned is nobody's business but ours.
      libbpf().number('bpf_map__set_pin_path', address, null);
      return {
        address,
        btfKeyTypeId: libbpf().number('bpf_map__btf_key_type_id', address),
        btfValueTypeId: libbpf().number('bpf_map__btf_value_type_id', address),
        flags: libbpf().number('bpf_map__map_flags', address),
        internal: libbpf().number('bpf_map__is_internal', address) !== 0,
        keySize: libbpf().number('bpf_map__key_size', address),
        maxEntries: libbpf().number('bpf_map__max_entries', address),
        name: libbpf().text('bpf_map__name', address).replace(`${OBJECT_NAME}.`, '.'),
        type: libbpf().number('bpf_map__type', address),
        valueSize: libbpf().number('bpf_map__value_size', address),
      };
    });
  }

  #readTypes(): Btf | undefined {
    const btf = libbpf().address('bpf_object__btf', this.#address);
    if (btf === null) return undefined;
    const size = Buffer.alloc(4);
    const bytes = libbpf().address('btf__raw_data', btf, size);
    // A copy: libbpf's own goes with the object.
    return bytes === null ? undefined : new Btf(Buffer.from(libbpf().memory(bytes, size.readUInt32LE(0))));
  }

  #walk(next: 'bpf_object__next_program' | 'bpf_object__next_map'): readonly Address[] {
    const found: Address[] = [];
    let address = libbpf().address(next, this.#address, null);
    while (address !== null) {
      if (found.length === MAX_LISTED) {
        throw new LonglineError('invalid', `the object has more than ${MAX_LISTED} functions or maps`);
      }
      found.push(address);
      address = libbpf().address(next, this.#address, address);
    }
    return found;
  }
}

function openAgain(open: () => Address | null, errno: number): Address {
  const { result, said } = libbpf().listen(open);
  if (result !== null) return result;
  const message = `the object can't be read as a BPF object (${errnoName(errno)})${said === '' ? '' : `: ${said}`}`;
  if (errno === ERRNO.ENOMEM) throw kernelError('opening the object', errno);
  throw new LonglineError('invalid', message);
}

function logText(log: Buffer): string {
  const text = textAt(log, 0, log.length);
  return Buffer.from(text, 'latin1').subarray(-MAX_LOG_BYTES).toString('utf8').trimEnd();
}
