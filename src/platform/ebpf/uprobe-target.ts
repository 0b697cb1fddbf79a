// Where a function of a program or library lies in its file, which is what the kernel wants of a probe. Reads ELF of 64 bits: the
// tables of symbols, and the segments that the file is mapped by. Reads no more than those; a file that lies about their sizes is
// refused.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { LonglineError } from '../../core/errors.ts';

const HEADER_SIZE = 64;
const SECTION_SIZE = 64;
const SEGMENT_SIZE = 56;
const SYMBOL_SIZE = 24;
const MAX_TABLE_BYTES = 256 * 1024 * 1024;

const SECTION_SYMBOLS = 2;
const SECTION_DYNAMIC_SYMBOLS = 11;
const SEGMENT_LOAD = 1;
const SYMBOL_FUNCTION = 2;
const SYMBOL_INDIRECT = 10;

interface Section {
  readonly type: number;
  readonly offset: bigint;
  readonly size: bigint;
  readonly link: number;
}

/** Offset in the file. Throws `not_found` naming file or symbol, `invalid` for what is no such program. */
export function findSymbol(path: string, symbol: string): bigint {
  const fd = openFile(path);
  try {
    return new ElfFile(path, fd).offsetOf(symbol);
  } finally {
    closeSync(fd);
  }
}

class ElfFile {
  readonly #path: string;
  readonly #fd: number;
  readonly #size: bigint;
  readonly #header: Buffer;

  constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
    const stat = fstatSync(fd, { bigint: true });
    this.#size = stat.size;
    if (!stat.isFile() || stat.size < HEADER_SIZE) throw this.#wrong('is no ELF file');
    this.#header = this.#read(0n, BigInt(HEADER_SIZE));
    if (this.#header.readUInt32BE(0) !== 0x7f454c46) throw this.#wrong('is no ELF file');
    if (this.#header[4] !== 2 || this.#header[5] !== 1) {
      throw this.#wrong('is no ELF file of 64 bits with the lowest byte first');
    }
  }

  offsetOf(symbol: string): bigint {
    const sections = this.#sections();
    let indirect = false;
    for (const section of sections) {
      if (section.type !== SECTION_SYMBOLS && section.type !== SECTION_DYNAMIC_SYMBOLS) continue;
      const found = this.#findIn(section, sections[section.link], symbol);
      if (found === undefined) continue;
      if (found.type === SYMBOL_FUNCTION) return this.#fileOffset(symbol, found.address);
      indirect = true;
    }
    const path = this.#path;
    if (indirect) {
      const message = `${symbol} of ${path} only picks one of several functions when the program starts: name that one`;
      throw new LonglineError('invalid', message);
    }
    const mend = 'it may be stripped, or have the function inlined or under another name';
    throw new LonglineError('not_found', `${path} has no function ${symbol}: ${mend}`);
  }

  #sections(): readonly Section[] {
    const offset = this.#header.readBigUInt64LE(0x28);
    const count = this.#header.readUInt16LE(0x3c);
    const table = this.#table(offset, count, this.#header.readUInt16LE(0x3a), SECTION_SIZE);
    return table.map((entry) => ({
      type: entry.readUInt32LE(4),
      offset: entry.readBigUInt64LE(24),
      size: entry.readBigUInt64LE(32),
      link: entry.readUInt32LE(40),
    }));
  }

  #findIn(
    { offset, size }: Section,
    names: Section | undefined,
    symbol: string,
  ): { readonly type: number; readonly address: bigint } | undefined {
    if (names === undefined) throw this.#wrong('has symbols without names');
    const symbols = this.#read(offset, size);
    const texts = this.#read(names.offset, names.size);
    const wanted = Buffer.from(`${symbol}\0`);
    for (let at = 0; at + SYMBOL_SIZE <= symbols.length; at += SYMBOL_SIZE) {
      const type = symbols[at + 4]! & 15;
      if (type !== SYMBOL_FUNCTION && type !== SYMBOL_INDIRECT) continue;
      // Those of other files, that are only wanted here.
      if (symbols.readUInt16LE(at + 6) === 0) continue;
      const name = symbols.readUInt32LE(at);
      if (texts.subarray(name, name + wanted.length).equals(wanted)) {
        return { type, address: symbols.readBigUInt64LE(at + 8) };
      }
    }
    return undefined;
  }

  #fileOffset(symbol: string, address: bigint): bigint {
    const offset = this.#header.readBigUInt64LE(0x20);
    const count = this.#header.readUInt16LE(0x38);
    for (const segment of this.#table(offset, count, this.#header.readUInt16LE(0x36), SEGMENT_SIZE)) {
      if (segment.readUInt32LE(0) !== SEGMENT_LOAD) continue;
      const start = segment.readBigUInt64LE(16);
      if (address >= start && address < start + segment.readBigUInt64LE(32)) {
        return address - start + segment.readBigUInt64LE(8);
      }
    }
    throw this.#wrong(`has ${symbol} at an address that it doesn't load`);
  }

  #table(offset: bigint, count: number, entrySize: number, wanted: number): readonly Buffer[] {
    if (count === 0) return [];
    if (entrySize < wanted) throw this.#wrong(`has a table with entries of ${entrySize} bytes`);
    const bytes = this.#read(offset, BigInt(count * entrySize));
    return Array.from({ length: count }, (_, index) => bytes.subarray(index * entrySize, (index + 1) * entrySize));
  }

  #read(offset: bigint, size: bigint): Buffer {
    if (offset + size > this.#size) throw this.#wrong('is cut short');
    if (size > MAX_TABLE_BYTES) throw this.#wrong(`has a table of ${size} bytes, at most ${MAX_TABLE_BYTES} are read`);
    const bytes = Buffer.alloc(Number(size));
    const got = readSync(this.#fd, bytes, 0, bytes.length, offset);
    if (got !== bytes.length) throw this.#wrong('is cut short');
    return bytes;
  }

  #wrong(what: string): LonglineError {
    return new LonglineError('invalid', `${this.#path} ${what}`);
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES') throw new LonglineError('policy', `${path} can't be read`, { cause: error });
    throw new LonglineError('not_found', `there is no file ${path} on this host`, { cause: error });
  }
}
