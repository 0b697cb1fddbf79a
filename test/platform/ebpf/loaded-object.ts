// Objects of test/fixtures/bpf in the real kernel, without the loader: for tests of what comes after loading.

import type { LoadedFunction } from '../../../src/platform/ebpf/attach-task.ts';
import { type BpfFd, lookupElement, mapById, mapInfo, programInfo } from '../../../src/platform/ebpf/bpf-syscall.ts';
import { type Address, libbpf } from '../../../src/platform/ebpf/libbpf.ts';
import { bpfObject, type ObjectName } from '../../fixtures/bpf/objects.ts';

/** An object that is loaded until it is disposed. What is attached then stays. */
export class LoadedObject implements Disposable {
  readonly #bytes: Uint8Array;
  readonly #object: Address;
  readonly #name: ObjectName;

  /** `variables`: bytes by name. `prepare` is called for each function before they are loaded. */
  constructor(
    name: ObjectName,
    variables: Readonly<Record<string, Uint8Array>> = {},
    prepare: (program: Address, name: string) => void = () => undefined,
  ) {
    const { bytes, functions } = bpfObject(name);
    this.#name = name;
    this.#bytes = bytes;
    const object = libbpf().address('bpf_object__open_mem', bytes, bytes.length, null);
    if (object === null) throw new Error(`${name} can't be opened: errno ${libbpf().errno()}`);
    this.#object = object;
    this.#write(variables);
    for (const one of functions) prepare(this.#program(one.name), one.name);
    const { result, said } = libbpf().listen(() => libbpf().number('bpf_object__load', object));
    if (result === 0) return;
    this[Symbol.dispose]();
    throw new Error(`${name} can't be loaded: ${result}: ${said}`);
  }

  /** A function; without a name the only one. */
  function(name = bpfObject(this.#name).functions[0]!.name): LoadedFunction {
    const program = this.#program(name);
    const fd = libbpf().number('bpf_program__fd', program);
    const expectedAttachType = libbpf().number('bpf_program__expected_attach_type', program);
    return { name, fd, id: programInfo(fd).id, expectedAttachType };
  }

  /** A number of a map, added up over processors. */
  number(map = 'counters', key = 0, offset = 0): bigint {
    const { functions } = bpfObject(this.#name);
    for (const id of functions.flatMap(({ name }) => programInfo(this.function(name).fd).mapIds)) {
      using opened: BpfFd | undefined = mapById(id);
      if (opened === undefined) continue;
      const info = mapInfo(opened.fd);
      if (info.name !== map) continue;
      const keyBytes = Buffer.alloc(4);
      keyBytes.writeUInt32LE(key);
      const copies = info.type === PER_PROCESSOR ? libbpf().number('libbpf_num_possible_cpus') : 1;
      const value = Buffer.alloc(info.valueSize * copies);
      lookupElement(`reading ${map}`, opened.fd, keyBytes, value);
      const each = Array.from({ length: copies }, (_, copy) => value.readBigUInt64LE(copy * info.valueSize + offset));
      return each.reduce((sum, one) => sum + one, 0n);
    }
    throw new Error(`${this.#name} has no map ${map}`);
  }

  [Symbol.dispose](): void {
    libbpf().nothing('bpf_object__close', this.#object);
  }

  /** Objects with variables that are written have only one of them, at the beginning of their section. */
  #write(variables: Readonly<Record<string, Uint8Array>>): void {
    for (const bytes of Object.values(variables)) {
      for (let map: Address | null = null; ; ) {
        map = libbpf().address('bpf_object__next_map', this.#object, map);
        if (map === null) throw new Error(`${this.#name} has no variables`);
        if (!libbpf().text('bpf_map__name', map).endsWith('.rodata')) continue;
        const size = Buffer.alloc(8);
        const initial = libbpf().address('bpf_map__initial_value', map, size);
        libbpf()
          .memory(initial!, Number(size.readBigUInt64LE(0)))
          .set(bytes);
        break;
      }
    }
  }

  #program(name: string): Address {
    const program = libbpf().address('bpf_object__find_program_by_name', this.#object, name);
    if (program === null) throw new Error(`${this.#name} (${this.#bytes.length} bytes) has no function ${name}`);
    return program;
  }
}

const PER_PROCESSOR = 6;
