// The little of tar (POSIX ustar) that an artifact needs: plain files with plain names, one after the other. Strict on purpose: what
// a general reader would take (links, devices, folders, long names, extensions, sparse files, anything after the end) is refused, so
// that no two readers can see two different archives in the same bytes. Pure.
import { LonglineError } from '../errors.ts';

/** A file in an archive. */
export interface TarFile {
  readonly name: string;
  readonly data: Uint8Array;
}

/** What an archive may hold. */
export interface TarRules {
  /** Largest size by name, in bytes; other names are refused. */
  readonly files: ReadonlyMap<string, number>;
}

const BLOCK = 512;
/** Writers fill up to a whole record, of 10 KiB mostly. */
const MAX_END = 64 * 1024;
const KINDS: Readonly<Record<string, string>> = {
  '1': 'a hard link',
  '2': 'a symbolic link',
  '3': 'a device',
  '4': 'a device',
  '5': 'a folder',
  '6': 'a pipe',
  x: 'an extended header; archives in the format ustar have none',
  g: 'an extended header; archives in the format ustar have none',
  L: 'a long name',
  K: 'a long name',
  S: 'a sparse file',
};

/** Files by name; their bytes are those of the archive, not copies. Throws `invalid`, or `limit` for a file that is too large. */
export function readTar(archive: Uint8Array, { files: allowed }: TarRules): ReadonlyMap<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (let at = 0; ; ) {
    const header = archive.subarray(at, at + BLOCK);
    if (header.length < BLOCK) throw broken(`it ends at byte ${archive.length}, within a header`);
    if (isZero(header)) {
      checkEnd(archive, at);
      return files;
    }
    const { name, size } = readHeader(header, at, allowed);
    if (files.has(name)) throw broken(`"${name}" is there twice`);
    const start = at + BLOCK;
    if (size > archive.length - start) throw broken(`it ends at byte ${archive.length}, within "${name}"`);
    at = start + Math.ceil(size / BLOCK) * BLOCK;
    if (!isZero(archive.subarray(start + size, at)))
      throw broken(`there is something between "${name}" and the next file`);
    files.set(name, archive.subarray(start, start + size));
  }
}

/** An archive with these files, in this order. The same files give the same bytes. */
export function writeTar(files: readonly TarFile[]): Uint8Array {
  const parts = files.flatMap(({ name, data }) => [
    writeHeader(name, data.length),
    data,
    new Uint8Array(-data.length & (BLOCK - 1)),
  ]);
  return new Uint8Array(Buffer.concat([...parts, new Uint8Array(2 * BLOCK)]));
}

function readHeader(header: Uint8Array, at: number, allowed: TarRules['files']) {
  const stored = octal(header.subarray(148, 156));
  if (stored !== checksum(header)) throw broken(`the header at byte ${at} is damaged, or this is no tar`);
  const name = text(header.subarray(0, 100));
  const shown = JSON.stringify(name.slice(0, 100));
  if (text(header.subarray(257, 262)) !== 'ustar') throw broken(`the header of ${shown} is not in the format ustar`);
  const kind = String.fromCharCode(header[156]!);
  if (kind !== '0' && kind !== '\0')
    throw broken(`${shown} is ${KINDS[kind] ?? 'no plain file'}; only plain files are taken`);
  const limit = header[345] === 0 ? allowed.get(name) : undefined;
  if (limit === undefined)
    throw broken(`${shown} has no place in it; only ${[...allowed.keys()].join(', ')} are taken`);
  const size = octal(header.subarray(124, 136));
  if (size === undefined) throw broken(`the size of ${shown} can't be read`);
  if (size > limit) {
    throw new LonglineError('limit', `"${name}" has ${size} bytes; at most ${limit}`, { retryable: false });
  }
  return { name, size };
}

function writeHeader(name: string, size: number): Uint8Array {
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0, 100, 'latin1');
  header.write('0000644\0', 100);
  // Nobody's, from the beginning of time: who packed when is not part of what is packed.
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('0', 156);
  header.write('ustar\u000000', 257);
  header.write(`${checksum(header).toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

/** Sum of all bytes of a header, those of the sum itself taken for blanks. */
function checksum(header: Uint8Array): number {
  let sum = 8 * 0x20;
  for (const [at, byte] of header.entries()) if (at < 148 || at >= 156) sum += byte;
  return sum;
}

/** A number in octal, ended by NUL or blank; undefined for anything else. */
function octal(field: Uint8Array): number | undefined {
  const match = /^ *([0-7]{1,11})[ \0]*$/.exec(Buffer.from(field).toString('latin1'));
  return match === null ? undefined : Number.parseInt(match[1]!, 8);
}

/** Up to the first NUL. Bytes beyond ASCII become characters that no allowed name has. */
function text(field: Uint8Array): string {
  const end = field.indexOf(0);
  return Buffer.from(field.subarray(0, end < 0 ? field.length : end)).toString('latin1');
}

/** Two blocks of zeros at least, and nothing but zeros after them. */
function checkEnd(archive: Uint8Array, at: number): void {
  const rest = archive.subarray(at);
  if (rest.length < 2 * BLOCK || rest.length % BLOCK !== 0)
    throw broken(`it ends at byte ${archive.length}, too early`);
  if (rest.length > MAX_END || !isZero(rest)) throw broken('there is something after its end');
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

function broken(what: string): LonglineError {
  return new LonglineError('invalid', `not a good archive: ${what}`);
}
