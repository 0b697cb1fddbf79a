// Types of an object or a map in the kernel's type format (BTF), as far as parameters and maps need them: what a variable is, where
// it lies, and whether two types are the same. Reads bytes; asks nobody. What is no BTF is `invalid`, whatever is in it.
import { LonglineError } from '../../core/errors.ts';
import { textAt } from './native-bytes.ts';

const MAGIC = 0xeb9f;
const HEADER_SIZE = 24;
const TYPE_SIZE = 12;
const MAX_TYPES = 1 << 20;
const MAX_DEPTH = 32;
const MAX_SAME_LENGTH = 16_384;

const KIND = {
  int: 1,
  pointer: 2,
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  forward: 7,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  function: 12,
  functionType: 13,
  variable: 14,
  section: 15,
  float: 16,
  declarationTag: 17,
  typeTag: 18,
  enum64: 19,
} as const;

/** Bytes that follow each type: for the type itself, and for each of its members. */
const TAILS: Readonly<Record<number, readonly [number, number]>> = {
  [KIND.int]: [4, 0],
  [KIND.array]: [12, 0],
  [KIND.struct]: [0, 12],
  [KIND.union]: [0, 12],
  [KIND.enum]: [0, 8],
  [KIND.functionType]: [0, 8],
  [KIND.variable]: [4, 0],
  [KIND.section]: [0, 12],
  [KIND.declarationTag]: [4, 0],
  [KIND.enum64]: [0, 12],
};

const WRAPPERS: ReadonlySet<number> = new Set([
  KIND.typedef,
  KIND.volatile,
  KIND.const,
  KIND.restrict,
  KIND.typeTag,
  KIND.variable,
]);

/** Where a type names others: in place of its size, in its own tail, and in that of each member. */
interface References {
  readonly about?: boolean;
  readonly own?: readonly number[];
  readonly each?: number;
}

const ABOUT: References = { about: true };
const REFERENCES: Readonly<Record<number, References>> = {
  [KIND.pointer]: ABOUT,
  [KIND.array]: { own: [0, 4] },
  [KIND.struct]: { each: 4 },
  [KIND.union]: { each: 4 },
  [KIND.typedef]: ABOUT,
  [KIND.volatile]: ABOUT,
  [KIND.const]: ABOUT,
  [KIND.restrict]: ABOUT,
  [KIND.function]: ABOUT,
  [KIND.functionType]: { about: true, each: 4 },
  [KIND.variable]: ABOUT,
  [KIND.section]: { each: 0 },
  [KIND.declarationTag]: ABOUT,
  [KIND.typeTag]: ABOUT,
};

/** A variable of a section such as ".rodata". */
export interface BtfVariable {
  readonly name: string;
  /** Name of the section. */
  readonly section: string;
  readonly offset: number;
  readonly size: number;
  /** A number is written to numbers only, and an array takes bytes. */
  readonly shape: 'number' | 'array' | 'other';
}

interface Type {
  readonly name: string;
  readonly kind: number;
  readonly count: number;
  readonly flag: boolean;
  /** Size, or the type that it is about. */
  readonly size: number;
  /** Where its tail begins. */
  readonly tail: number;
}

/** Types by number, from 1. */
export class Btf {
  readonly #bytes: Buffer;
  readonly #types: readonly Type[];

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    try {
      this.#types = this.#read();
      for (const type of this.#types) this.#check(type);
    } catch (error) {
      if (error instanceof LonglineError) throw error;
      throw broken('it ends in the middle', error);
    }
  }

  /** Variables of all sections, in the order of the sections. */
  variables(): readonly BtfVariable[] {
    return this.#types.flatMap((type) => (type.kind === KIND.section ? this.#sectionVariables(type) : []));
  }

  /** Bytes of a type. 0 for what has none. */
  sizeOf(id: number): number {
    return this.#sizeOf(id, 0);
  }

  /**
   * The shape of a type: two with the same text hold the same things under the same names in the same places. Names of types and
   * what pointers point to don't count.
   */
  shapeOf(id: number): string {
    return this.#shapeOf(id, 0).slice(0, MAX_SAME_LENGTH);
  }

  #read(): readonly Type[] {
    const bytes = this.#bytes;
    if (bytes.length < HEADER_SIZE || bytes.readUInt16LE(0) !== MAGIC) throw broken('its first bytes are others');
    const header = bytes.readUInt32LE(4);
    const start = header + bytes.readUInt32LE(8);
    const end = start + bytes.readUInt32LE(12);
    const strings = header + bytes.readUInt32LE(16);
    const stringsEnd = strings + bytes.readUInt32LE(20);
    if (end > bytes.length || stringsEnd > bytes.length) throw broken('its parts go past its end');
    if (bytes[stringsEnd - 1] !== 0 || bytes[strings] !== 0) throw broken('its names have no end');
    const types: Type[] = [{ count: 0, flag: false, kind: 0, name: '', size: 0, tail: 0 }];
    for (let at = start; at < end; ) {
      const info = bytes.readUInt32LE(at + 4);
      const kind = (info >>> 24) & 0x1f;
      const count = info & 0xffff;
      const name = strings + bytes.readUInt32LE(at);
      const [own, each] = TAILS[kind] ?? [0, 0];
      const tail = at + TYPE_SIZE;
      at = tail + own + each * count;
      if (at > end || name >= stringsEnd || kind === 0 || kind > KIND.enum64) throw broken('a type goes past its end');
      if (types.length >= MAX_TYPES) throw broken(`it has more than ${MAX_TYPES} types`);
      const text = textAt(bytes, name, stringsEnd - name);
      types.push({ count, flag: info >>> 31 === 1, kind, name: text, size: bytes.readUInt32LE(tail - 4), tail });
    }
    return types;
  }

  /** libbpf takes it for granted that types it is led to are there, and that it gets to an end. */
  #check(type: Type): void {
    const references = REFERENCES[type.kind];
    const ids = references?.about === true ? [type.size] : [];
    for (const at of references?.own ?? []) ids.push(this.#bytes.readUInt32LE(type.tail + at));
    if (references?.each !== undefined) {
      const [own, each] = TAILS[type.kind]!;
      for (let at = 0; at < type.count; at++) {
        ids.push(this.#bytes.readUInt32LE(type.tail + own + each * at + references.each));
      }
    }
    const absent = ids.find((id) => id >= this.#types.length);
    if (absent !== undefined) throw broken(`it has no type ${absent}`);
    if (type.kind === KIND.section) this.#checkSection(type, ids);
    let end: Type | undefined = type;
    for (let depth = 0; end !== undefined && WRAPPERS.has(end.kind); depth++) {
      if (depth > MAX_DEPTH) throw broken('its types are nested without end');
      end = this.#types[end.size];
    }
  }

  #checkSection(section: Type, ids: readonly number[]): void {
    for (const id of ids) {
      const { kind } = this.#types[id]!;
      if (kind !== KIND.variable && kind !== KIND.function) throw broken(`section ${section.name} holds no variables`);
    }
  }

  #sectionVariables(section: Type): readonly BtfVariable[] {
    return Array.from({ length: section.count }, (_, index): BtfVariable => {
      const at = section.tail + 12 * index;
      const id = this.#bytes.readUInt32LE(at);
      return {
        name: this.#types[id]?.name ?? '',
        offset: this.#bytes.readUInt32LE(at + 4),
        section: section.name,
        shape: this.#shapeName(id),
        size: this.#bytes.readUInt32LE(at + 8),
      };
    });
  }

  #shapeName(id: number): BtfVariable['shape'] {
    const { kind } = this.#bare(id);
    if (kind === KIND.int || kind === KIND.enum || kind === KIND.enum64) return 'number';
    return kind === KIND.array ? 'array' : 'other';
  }

  /** What is left without typedefs, const, volatile and the like. */
  #bare(id: number): Type {
    let type = this.#types[id];
    for (let depth = 0; type !== undefined && WRAPPERS.has(type.kind) && depth < MAX_DEPTH; depth++) {
      type = this.#types[type.size];
    }
    if (type === undefined) throw broken(`it has no type ${id}`);
    return type;
  }

  #sizeOf(id: number, depth: number): number {
    if (depth > MAX_DEPTH) throw broken('its types are nested without end');
    const type = this.#bare(id);
    if (type.kind === KIND.pointer) return 8;
    if (type.kind !== KIND.array) return TAILS[type.kind] === undefined && type.kind !== KIND.float ? 0 : type.size;
    const length = this.#bytes.readUInt32LE(type.tail + 8);
    return length * this.#sizeOf(this.#bytes.readUInt32LE(type.tail), depth + 1);
  }

  #shapeOf(id: number, depth: number): string {
    if (depth > MAX_DEPTH) throw broken('its types are nested without end');
    const type = this.#bare(id);
    switch (type.kind) {
      case KIND.int:
        return `int ${this.#bytes.readUInt32LE(type.tail).toString(16)}`;
      case KIND.array: {
        const element = this.#shapeOf(this.#bytes.readUInt32LE(type.tail), depth + 1);
        return `[${this.#bytes.readUInt32LE(type.tail + 8)}]${element}`;
      }
      case KIND.struct:
      case KIND.union: {
        let text = `${type.kind === KIND.struct ? 'struct' : 'union'} ${type.size}{`;
        for (let index = 0; index < type.count && text.length < MAX_SAME_LENGTH; index++) {
          const at = type.tail + 12 * index;
          const name = this.#nameAt(at);
          const place = this.#bytes.readUInt32LE(at + 8);
          text += `${name}@${place.toString(16)} ${this.#shapeOf(this.#bytes.readUInt32LE(at + 4), depth + 1)};`;
        }
        return `${text}}`;
      }
      default:
        return `kind ${type.kind} ${type.kind === KIND.pointer ? 8 : type.size}`;
    }
  }

  #nameAt(at: number): string {
    const strings = this.#bytes.readUInt32LE(4) + this.#bytes.readUInt32LE(16);
    const end = strings + this.#bytes.readUInt32LE(20);
    const from = strings + this.#bytes.readUInt32LE(at);
    return textAt(this.#bytes, Math.min(from, end), Math.max(0, end - from));
  }
}

function broken(why: string, cause?: unknown): LonglineError {
  return new LonglineError('invalid', `the object's types (BTF) can't be read: ${why}`, { cause });
}
