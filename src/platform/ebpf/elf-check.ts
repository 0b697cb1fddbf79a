// Whether bytes are a BPF object that libbpf may be given. It takes much for granted: of an object that is cut off or bent it reads
// past the end, and takes the process with it. So all that it follows is followed here first: sections, names, symbols, relocations, types.
// What is wrong is `invalid`. Pure.
import { LonglineError } from '../../core/errors.ts';
import { Btf } from './btf.ts';

/** Largest object, as artifacts have it. */
export const MAX_OBJECT_BYTES = 64 * 1024 * 1024;

const HEADER = 64;
const SECTION_HEADER = 64;
const SYMBOL = 24;
const RELOCATION = 16;
const INSTRUCTION = 8;
const MAX_SECTIONS = 4096;
const FIRST_RESERVED_INDEX = 0xff00;
const RELOCATABLE = 1;
const MACHINE_BPF = 247;

const KIND = { code: 1, nothing: 8, relocation: 9, relocationWithAddend: 4, strings: 3, symbols: 2 } as const;
const EXECUTABLE = 4n;

interface Section {
  readonly index: number;
  readonly name: string;
  readonly kind: number;
  readonly flags: bigint;
  readonly size: number;
  readonly link: number;
  readonly info: number;
  readonly entrySize: number;
  /** Empty for one that takes no room in the file. */
  readonly bytes: Buffer;
}

/** Throws `invalid` unless it is one. */
export function checkElf(object: Uint8Array): void {
  const bytes = Buffer.from(object.buffer, object.byteOffset, object.byteLength);
  checkHeader(bytes);
  const sections = readSections(bytes);
  const names = new Set<string>();
  let symbols: Section | undefined;
  for (const section of sections) {
    if (section.kind === KIND.symbols) {
      if (symbols !== undefined) refuse('it has two tables of symbols');
      symbols = section;
      checkSymbols(section, sections);
    }
    if (section.kind === KIND.code && section.name !== '') {
      if (names.has(section.name)) refuse(`section ${section.name} is there twice`);
      names.add(section.name);
    }
    if ((section.flags & EXECUTABLE) !== 0n && section.size % INSTRUCTION !== 0) {
      refuse(`section ${section.name} ends in the middle of an instruction`);
    }
  }
  if (symbols === undefined) refuse('it has no symbols');
  const types = sections.find(({ name }) => name === '.BTF');
  if (types !== undefined) new Btf(types.bytes);
  for (const section of sections) {
    if (section.kind === KIND.relocation) checkRelocations(section, sections, symbols!);
    if (section.kind === KIND.relocationWithAddend)
      refuse(`section ${section.name} has relocations of another machine`);
  }
}

function checkHeader(bytes: Buffer): void {
  if (bytes.length > MAX_OBJECT_BYTES) refuse(`it has ${bytes.length} bytes, and may have ${MAX_OBJECT_BYTES}`);
  if (bytes.length < HEADER) refuse(`it has ${bytes.length} bytes, and an ELF file has at least ${HEADER}`);
  if (bytes.toString('latin1', 0, 4) !== '\x7fELF') refuse('it is no ELF file');
  if (bytes[4] !== 2 || bytes[5] !== 1 || bytes[6] !== 1) refuse('it is no ELF file of 64 bit, little-endian');
  const [kind, machine] = [bytes.readUInt16LE(16), bytes.readUInt16LE(18)];
  if (kind !== RELOCATABLE || machine !== MACHINE_BPF) {
    refuse(`it is an ELF file of type ${kind} for machine ${machine}, not ${RELOCATABLE} and ${MACHINE_BPF}`);
  }
  if (bytes.readUInt16LE(52) !== HEADER || bytes.readUInt16LE(58) !== SECTION_HEADER)
    refuse('its headers have odd sizes');
  if (bytes.readUInt16LE(56) !== 0) refuse('it has segments, as a program of its own would');
}

function readSections(bytes: Buffer): readonly Section[] {
  const start = safe(bytes.readBigUInt64LE(40));
  const count = bytes.readUInt16LE(60);
  const namesAt = bytes.readUInt16LE(62);
  if (count === 0 || count > MAX_SECTIONS) refuse(`it has ${count} sections`);
  if (start % 8 !== 0 || start < HEADER || start + count * SECTION_HEADER > bytes.length) {
    refuse('its table of sections goes past its end: was it cut off?');
  }
  if (namesAt === 0 || namesAt >= count) refuse('its sections have no names');
  const unnamed = Array.from({ length: count }, (_, index) =>
    readSection(bytes, start + index * SECTION_HEADER, index),
  );
  const names = unnamed[namesAt]!;
  if (names.section.kind !== KIND.strings) refuse('its sections have no names');
  for (const { section } of unnamed) {
    if (section.kind === KIND.strings) checkStrings(section);
  }
  return unnamed.map(({ section, nameAt }) => ({ ...section, name: nameIn(names.section, nameAt) }));
}

function readSection(bytes: Buffer, at: number, index: number): { readonly section: Section; readonly nameAt: number } {
  const kind = bytes.readUInt32LE(at + 4);
  const offset = safe(bytes.readBigUInt64LE(at + 24));
  const size = safe(bytes.readBigUInt64LE(at + 32));
  const inFile = kind !== KIND.nothing && kind !== 0;
  if (inFile && offset + size > bytes.length) refuse(`section ${index} goes past its end: was it cut off?`);
  if (size > MAX_OBJECT_BYTES) refuse(`section ${index} has ${size} bytes`);
  const flags = bytes.readBigUInt64LE(at + 8);
  // Compressed ones are for debuggers; libbpf would take the compressed bytes for the others.
  if ((flags & 0x800n) !== 0n) refuse(`section ${index} is compressed`);
  const section = {
    bytes: inFile ? bytes.subarray(offset, offset + size) : Buffer.alloc(0),
    entrySize: safe(bytes.readBigUInt64LE(at + 56)),
    flags,
    index,
    info: bytes.readUInt32LE(at + 44),
    kind,
    link: bytes.readUInt32LE(at + 40),
    name: '',
    size,
  };
  return { nameAt: bytes.readUInt32LE(at), section };
}

function checkStrings({ bytes, index }: Section): void {
  if (bytes.length === 0 || bytes[0] !== 0 || bytes.at(-1) !== 0) refuse(`the names in section ${index} have no end`);
}

function nameIn(strings: Section, at: number): string {
  if (at >= strings.bytes.length) refuse('a name lies past the end of the names');
  return strings.bytes.toString('latin1', at, strings.bytes.indexOf(0, at));
}

function checkSymbols(table: Section, sections: readonly Section[]): void {
  const strings = sections[table.link];
  if (strings?.kind !== KIND.strings) refuse('its symbols have no names');
  if (table.entrySize !== SYMBOL || table.size % SYMBOL !== 0) refuse('its table of symbols ends in the middle of one');
  for (let at = 0; at < table.bytes.length; at += SYMBOL) {
    const name = nameIn(strings!, table.bytes.readUInt32LE(at));
    const index = table.bytes.readUInt16LE(at + 6);
    if (index === 0 || index >= FIRST_RESERVED_INDEX) continue;
    const section = sections[index];
    if (section === undefined) refuse(`symbol ${name} lies in section ${index}, which there is not`);
    const [value, size] = [safe(table.bytes.readBigUInt64LE(at + 8)), safe(table.bytes.readBigUInt64LE(at + 16))];
    if (value + size > section!.size) refuse(`symbol ${name} goes past the end of section ${section!.name}`);
    const code = (section!.flags & EXECUTABLE) !== 0n;
    if (code && (value % INSTRUCTION !== 0 || size % INSTRUCTION !== 0))
      refuse(`function ${name} begins or ends oddly`);
  }
}

function checkRelocations(table: Section, sections: readonly Section[], symbols: Section): void {
  const target = sections[table.info];
  if (sections[table.link] !== symbols || target === undefined || target.index === 0) {
    refuse(`section ${table.name} is about no section`);
  }
  if (table.entrySize !== RELOCATION || table.size % RELOCATION !== 0) refuse(`section ${table.name} ends oddly`);
  const code = (target!.flags & EXECUTABLE) !== 0n;
  for (let at = 0; at < table.bytes.length; at += RELOCATION) {
    const offset = safe(table.bytes.readBigUInt64LE(at));
    const symbol = table.bytes.readUInt32LE(at + 12);
    if (symbol * SYMBOL >= symbols.size) refuse(`section ${table.name} names a symbol that there is not`);
    if (offset + (code ? INSTRUCTION : 4) > target!.size || (code && offset % INSTRUCTION !== 0)) {
      refuse(`section ${table.name} goes past the end of section ${target!.name}`);
    }
  }
}

/** Numbers that are larger than any object are as good as its limit. */
function safe(number: bigint): number {
  return number > BigInt(MAX_OBJECT_BYTES) ? 2 * MAX_OBJECT_BYTES : Number(number);
}

function refuse(what: string): never {
  throw new LonglineError('invalid', `the object is no BPF object: ${what}; must be what clang -target bpf makes`);
}
