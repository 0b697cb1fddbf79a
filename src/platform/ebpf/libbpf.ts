// The functions of libbpf 1.x that are used here, through koffi. The library is loaded at the first call, so that hosts without
// it can run everything else. Knows signatures, and how libbpf tells failures; not what a program or a map is for. Fails with
// `unsupported` and a mend if koffi, the library or one of its functions can't be had.
import { createRequire } from 'node:module';
import { LonglineError } from '../../core/errors.ts';

/** Functions that return a number; a negative one is an errno with its sign turned. */
const NUMBERS = {
  bpf_enable_stats: 'int bpf_enable_stats(int type)',
  bpf_link__destroy: 'int bpf_link__destroy(void *link)',
  bpf_link__fd: 'int bpf_link__fd(void *link)',
  bpf_link_create: 'int bpf_link_create(int program, int target, int type, void *options)',
  bpf_link_detach: 'int bpf_link_detach(int link)',
  bpf_link_get_fd_by_id: 'int bpf_link_get_fd_by_id(uint32_t id)',
  bpf_link_get_next_id: 'int bpf_link_get_next_id(uint32_t start, void *next)',
  bpf_link_update: 'int bpf_link_update(int link, int program, void *options)',
  bpf_map__fd: 'int bpf_map__fd(void *map)',
  bpf_map__is_internal: 'bool bpf_map__is_internal(void *map)',
  bpf_map__key_size: 'uint32_t bpf_map__key_size(void *map)',
  bpf_map__map_flags: 'uint32_t bpf_map__map_flags(void *map)',
  bpf_map__max_entries: 'uint32_t bpf_map__max_entries(void *map)',
  bpf_map__btf_key_type_id: 'uint32_t bpf_map__btf_key_type_id(void *map)',
  bpf_map__btf_value_type_id: 'uint32_t bpf_map__btf_value_type_id(void *map)',
  bpf_map__reuse_fd: 'int bpf_map__reuse_fd(void *map, int fd)',
  bpf_map__set_autocreate: 'int bpf_map__set_autocreate(void *map, bool create)',
  bpf_map__set_pin_path: 'int bpf_map__set_pin_path(void *map, const char *path)',
  bpf_map__type: 'int bpf_map__type(void *map)',
  bpf_map__value_size: 'uint32_t bpf_map__value_size(void *map)',
  bpf_map_create:
    'int bpf_map_create(int type, const char *name, uint32_t key, uint32_t value, uint32_t entries, void *options)',
  bpf_map_delete_elem: 'int bpf_map_delete_elem(int map, void *key)',
  bpf_map_get_fd_by_id: 'int bpf_map_get_fd_by_id(uint32_t id)',
  bpf_map_get_next_key: 'int bpf_map_get_next_key(int map, void *key, void *next)',
  bpf_map_lookup_elem: 'int bpf_map_lookup_elem(int map, void *key, void *value)',
  bpf_map_update_elem: 'int bpf_map_update_elem(int map, void *key, void *value, uint64_t flags)',
  bpf_obj_get: 'int bpf_obj_get(const char *path)',
  bpf_obj_get_info_by_fd: 'int bpf_obj_get_info_by_fd(int fd, void *info, void *size)',
  bpf_obj_pin: 'int bpf_obj_pin(int fd, const char *path)',
  bpf_object__load: 'int bpf_object__load(void *object)',
  bpf_prog_attach: 'int bpf_prog_attach(int program, int target, int type, uint flags)',
  bpf_prog_detach2: 'int bpf_prog_detach2(int program, int target, int type)',
  bpf_prog_get_fd_by_id: 'int bpf_prog_get_fd_by_id(uint32_t id)',
  bpf_prog_load:
    'int bpf_prog_load(int type, const char *name, const char *licence, void *code, size_t instructions, void *options)',
  bpf_prog_query: 'int bpf_prog_query(int target, int type, uint32_t flags, void *attached, void *ids, void *count)',
  bpf_prog_test_run_opts: 'int bpf_prog_test_run_opts(int program, void *options)',
  bpf_program__expected_attach_type: 'int bpf_program__expected_attach_type(void *program)',
  bpf_program__fd: 'int bpf_program__fd(void *program)',
  bpf_program__set_attach_target: 'int bpf_program__set_attach_target(void *program, int target, const char *name)',
  bpf_program__set_autoload: 'int bpf_program__set_autoload(void *program, bool load)',
  bpf_program__set_expected_attach_type: 'int bpf_program__set_expected_attach_type(void *program, int type)',
  bpf_program__set_log_buf: 'int bpf_program__set_log_buf(void *program, void *log, size_t size)',
  bpf_program__set_type: 'int bpf_program__set_type(void *program, int type)',
  bpf_program__type: 'int bpf_program__type(void *program)',
  bpf_raw_tracepoint_open: 'int bpf_raw_tracepoint_open(const char *name, int program)',
  bpf_tc_attach: 'int bpf_tc_attach(void *hook, void *options)',
  bpf_tc_detach: 'int bpf_tc_detach(void *hook, void *options)',
  bpf_tc_hook_create: 'int bpf_tc_hook_create(void *hook)',
  bpf_tc_hook_destroy: 'int bpf_tc_hook_destroy(void *hook)',
  bpf_tc_query: 'int bpf_tc_query(void *hook, void *options)',
  bpf_xdp_query_id: 'int bpf_xdp_query_id(int index, int flags, void *id)',
  libbpf_find_vmlinux_btf_id: 'int libbpf_find_vmlinux_btf_id(const char *name, int type)',
  libbpf_major_version: 'uint32_t libbpf_major_version()',
  libbpf_num_possible_cpus: 'int libbpf_num_possible_cpus()',
  libbpf_probe_bpf_prog_type: 'int libbpf_probe_bpf_prog_type(int type, void *options)',
  ring_buffer__consume: 'int ring_buffer__consume(void *ring)',
} as const;

/** Functions that return an address; null is a failure or an end, and errno() says which. */
const ADDRESSES = {
  bpf_map__initial_value: 'void *bpf_map__initial_value(void *map, void *size)',
  bpf_object__btf: 'void *bpf_object__btf(void *object)',
  bpf_object__find_program_by_name: 'void *bpf_object__find_program_by_name(void *object, const char *name)',
  bpf_object__next_map: 'void *bpf_object__next_map(void *object, void *map)',
  bpf_object__next_program: 'void *bpf_object__next_program(void *object, void *program)',
  bpf_object__open_mem: 'void *bpf_object__open_mem(void *bytes, size_t size, void *options)',
  btf__raw_data: 'void *btf__raw_data(void *btf, void *size)',
  ring_buffer__new: 'void *ring_buffer__new(int map, void *callback, void *context, void *options)',
} as const;

const TEXTS = {
  bpf_map__name: 'const char *bpf_map__name(void *map)',
  bpf_program__name: 'const char *bpf_program__name(void *program)',
  bpf_program__section_name: 'const char *bpf_program__section_name(void *program)',
} as const;

const NOTHING = {
  bpf_object__close: 'void bpf_object__close(void *object)',
  ring_buffer__free: 'void ring_buffer__free(void *ring)',
} as const;

/** Where something of libbpf lies. */
export type Address = bigint;

/** What a parameter may be. A buffer is handed over as its address, and isn't copied. */
export type Argument = number | bigint | boolean | string | Uint8Array | null;

/** libbpf, by names of its functions. None of these throws for what the function itself says. */
export interface Libbpf {
  /** A negative number is an errno with its sign turned. */
  number(name: keyof typeof NUMBERS, ...args: readonly Argument[]): number;
  /** The same on a thread. Buffers, and what libbpf has been given before, have to stay as they are until it ends. */
  threaded(name: keyof typeof NUMBERS, ...args: readonly Argument[]): Promise<number>;
  /** Null for a failure, or an end. */
  address(name: keyof typeof ADDRESSES, ...args: readonly Argument[]): Address | null;
  text(name: keyof typeof TEXTS, ...args: readonly Argument[]): string;
  nothing(name: keyof typeof NOTHING, ...args: readonly Argument[]): void;
  /** Of the call before, if that returned an address. */
  errno(): number;
  /** Where a buffer lies, for structures that hold addresses. It has to be referred to for as long as that is used. */
  addressOf(buffer: Uint8Array): Address;
  /** Memory of libbpf itself. Never to be used after what it belongs to is gone. */
  memory(address: Address, size: number): Buffer;
  /**
   * What libbpf says while something is done, a line each, at most 64 KiB of its end; it is silent otherwise. Nothing is heard
   * while a threaded call runs: a thread would have to wait for this one to tell it.
   */
  listen<T>(work: () => T): { readonly result: T; readonly said: string };
  /** A callback `int (void *context, void *data, size_t size)`, as an address, until it is disposed. It may not throw. */
  sampleCallback(callback: (data: Address, size: number) => number): { readonly address: Address } & Disposable;
}

const LIBRARY = 'libbpf.so.1';
const MAX_SAID_LENGTH = 64 * 1024;
const MAX_LINE_LENGTH = 4096;
/** As libbpf numbers them: warnings, information, and what is only for those who look for faults in libbpf. */
const LEVEL_DEBUG = 2;

let loaded: Libbpf | undefined;

/** The library of this process. Throws `unsupported` with the mend if it can't be had. */
export function libbpf(): Libbpf {
  loaded ??= load();
  return loaded;
}

type Koffi = typeof import('koffi');
type KoffiLibrary = ReturnType<Koffi['load']>;
type KoffiFunction = ReturnType<KoffiLibrary['func']>;

function load(): Libbpf {
  const koffi = loadKoffi();
  const library = openLibrary(koffi, LIBRARY);
  const signatures: Readonly<Record<string, string>> = { ...NUMBERS, ...ADDRESSES, ...TEXTS, ...NOTHING };
  const functions = new Map<string, KoffiFunction>();
  const named = (name: string) => {
    const known = functions.get(name) ?? functionOf(library, name, signatures[name]!);
    functions.set(name, known);
    return known;
  };
  const print = printing(koffi, library);
  let threads = 0;
  const sampleType = koffi.pointer(koffi.proto('int SampleCallback(void *context, void *data, size_t size)'));
  return {
    number: (name, ...args) => Number(named(name)(...args)),
    threaded: async (name, ...args) => {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      const call = named(name);
      threads++;
      call.async(...args, (error: Error | null, result: number) => {
        threads--;
        if (error === null) resolve(result);
        else reject(new LonglineError('internal', `${name} of libbpf can't be called`, { cause: error }));
      });
      return await promise;
    },
    address: (name, ...args) => named(name)(...args) as Address | null,
    text: (name, ...args) => (named(name)(...args) as string | null) ?? '',
    nothing: (name, ...args) => {
      named(name)(...args);
    },
    errno: () => koffi.errno(),
    addressOf: (buffer) => koffi.address(buffer),
    memory: (address, size) => Buffer.from(koffi.view(address, size)),
    listen: (work) => (threads === 0 ? print(work) : { result: work(), said: '' }),
    sampleCallback: (callback) => {
      const address = koffi.register((_context: unknown, data: Address, size: number | bigint) => {
        return callback(data, Number(size));
      }, sampleType);
      return { address, [Symbol.dispose]: () => koffi.unregister(address) };
    },
  };
}

function loadKoffi(): Koffi {
  try {
    if (process.platform !== 'linux') throw new Error(`this is ${process.platform}`);
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch (error) {
    const machine = `${process.platform} on ${process.arch}`;
    const message = `BPF programs can't be had on ${machine}: they need Linux, and a build of koffi for the machine`;
    throw new LonglineError('unsupported', message, { cause: error });
  }
}

/** Throws `unsupported` with the mend. For a library of another name too, so that its absence can be tested. */
export function openLibrary(koffi: Koffi, name: string): KoffiLibrary {
  try {
    return koffi.load(name);
  } catch (error) {
    const mend = 'install libbpf 1.0 or newer ("libbpf1" on Debian and Ubuntu, "libbpf" on Fedora, Alpine and Arch)';
    throw new LonglineError('unsupported', `${name} can't be loaded: ${mend}`, { cause: error });
  }
}

function functionOf(library: KoffiLibrary, name: string, signature: string): KoffiFunction {
  try {
    return library.func(signature);
  } catch (error) {
    const message = `${LIBRARY} has no function ${name}: install libbpf 1.0 or newer`;
    throw new LonglineError('unsupported', message, { cause: error });
  }
}

/** libbpf prints to the error output unless told otherwise, and hands over a list of arguments that only C can read. */
function printing(koffi: Koffi, library: KoffiLibrary): Libbpf['listen'] {
  const vsnprintf = koffi.load(null).func('int vsnprintf(void *to, size_t size, void *format, void *arguments)');
  const callbackType = koffi.pointer(koffi.proto('int PrintCallback(int level, void *format, void *arguments)'));
  const setPrint = library.func('void *libbpf_set_print(void *callback)');
  const line = Buffer.alloc(MAX_LINE_LENGTH);
  setPrint(null);
  return (work) => {
    let said = '';
    const callback = koffi.register((level: number, format: Address, rest: Address) => {
      if (level >= LEVEL_DEBUG) return 0;
      const length = Number(vsnprintf(line, MAX_LINE_LENGTH, format, rest));
      const text = line.toString('utf8', 0, Math.max(0, Math.min(length, MAX_LINE_LENGTH - 1)));
      said = `${said}${text.replace(/^libbpf: /, '')}`.slice(-MAX_SAID_LENGTH);
      return length;
    }, callbackType);
    setPrint(callback);
    try {
      const result = work();
      return { result, said: said.trimEnd() };
    } finally {
      setPrint(null);
      koffi.unregister(callback);
    }
  };
}
