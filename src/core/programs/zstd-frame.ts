// Where a Zstandard frame (RFC 8878) ends. The decoder takes frames one after the other and passes over what follows them; an
// artifact is one frame and nothing else. Looks at lengths only, never at contents. Pure.
import { LonglineError } from '../errors.ts';

const MAGIC = 0xfd2fb528;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4];
const CONTENT_SIZE_BYTES = [0, 2, 4, 8];

/** Throws `invalid` unless the bytes are exactly one frame, without a dictionary. */
export function checkSingleFrame(bytes: Uint8Array): void {
  const end = frameEnd(bytes);
  if (end < bytes.length) throw broken(`there are ${bytes.length - end} bytes after its end`);
}

function frameEnd(bytes: Uint8Array): number {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 6 || view.readUInt32LE(0) !== MAGIC) throw broken("it doesn't begin as one");
  const descriptor = view[4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = DICTIONARY_ID_BYTES[descriptor & 3]!;
  if (dictionaryBytes > 0) throw broken('it needs a dictionary');
  const contentSizeBytes = CONTENT_SIZE_BYTES[descriptor >> 6]! || (isSingleSegment ? 1 : 0);
  const hasChecksum = (descriptor & 4) !== 0;
  let at = 5 + (isSingleSegment ? 0 : 1) + contentSizeBytes;
  for (let isLast = false; !isLast; ) {
    if (at + 3 > view.length) throw broken(`it ends at byte ${bytes.length}, too early`);
    const block = view.readUIntLE(at, 3);
    isLast = (block & 1) === 1;
    // A repeated byte is stored once, whatever its count.
    at += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
  }
  const end = at + (hasChecksum ? 4 : 0);
  if (end > bytes.length) throw broken(`it ends at byte ${bytes.length}, too early`);
  return end;
}

function broken(what: string): LonglineError {
  return new LonglineError('invalid', `not a good zstd frame: ${what}`);
}
