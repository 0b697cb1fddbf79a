// CRC-32C (Castagnoli, RFC 3720 appendix B.4), slicing by 16. node:zlib has only the other polynomial.

const POLYNOMIAL = 0x82f63b78;
const SLICES = 16;
/** Shorter runs aren't worth a view in words. */
const WORDS_FROM_BYTES = 64;
/** What is added word by word relies on it. */
const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

const TABLE = new Int32Array(SLICES * 256);
for (let index = 0; index < 256; index++) {
  let crc = index;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  TABLE[index] = crc;
}
for (let index = 0; index < 256; index++) {
  let crc = TABLE[index]!;
  for (let slice = 1; slice < SLICES; slice++) {
    crc = TABLE[crc & 0xff]! ^ (crc >>> 8);
    TABLE[slice * 256 + index] = crc;
  }
}

/** CRC-32C of `data`, continuing from `seed`, the CRC of the bytes before. Unsigned. */
export function crc32c(data: Uint8Array, seed = 0): number {
  let crc = ~seed;
  let at = 0;
  if (LITTLE_ENDIAN && data.length >= WORDS_FROM_BYTES) {
    const aligned = (4 - (data.byteOffset & 3)) & 3;
    for (; at < aligned; at++) crc = TABLE[(crc ^ data[at]!) & 0xff]! ^ (crc >>> 8);
    const words = new Int32Array(data.buffer, data.byteOffset + at, Math.floor((data.length - at) / 16) * 4);
    crc = addWords(words, crc);
    at += words.length * 4;
  }
  for (; at < data.length; at++) crc = TABLE[(crc ^ data[at]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Takes in words, a multiple of four. */
function addWords(words: Int32Array, before: number): number {
  let crc = before;
  for (let at = 0; at < words.length; at += 4) {
    const a = words[at]! ^ crc;
    const b = words[at + 1]!;
    const c = words[at + 2]!;
    const d = words[at + 3]!;
    crc =
      TABLE[3840 + (a & 0xff)]! ^
      TABLE[3584 + ((a >>> 8) & 0xff)]! ^
      TABLE[3328 + ((a >>> 16) & 0xff)]! ^
      TABLE[3072 + (a >>> 24)]! ^
      TABLE[2816 + (b & 0xff)]! ^
      TABLE[2560 + ((b >>> 8) & 0xff)]! ^
      TABLE[2304 + ((b >>> 16) & 0xff)]! ^
      TABLE[2048 + (b >>> 24)]! ^
      TABLE[1792 + (c & 0xff)]! ^
      TABLE[1536 + ((c >>> 8) & 0xff)]! ^
      TABLE[1280 + ((c >>> 16) & 0xff)]! ^
      TABLE[1024 + (c >>> 24)]! ^
      TABLE[768 + (d & 0xff)]! ^
      TABLE[512 + ((d >>> 8) & 0xff)]! ^
      TABLE[256 + ((d >>> 16) & 0xff)]! ^
      TABLE[d >>> 24]!;
  }
  return crc;
}

/** The bit that stands for 1, and for x, in reflected order. */
const ONE = 0x80000000;
const X = 0x40000000;

/** Product of two polynomials modulo the CRC's. */
function multiply(left: number, right: number): number {
  let product = 0;
  for (let rest = left; rest !== 0; rest <<= 1) {
    if (rest < 0) product ^= right;
    right = right & 1 ? (right >>> 1) ^ POLYNOMIAL : right >>> 1;
  }
  return product;
}

/** x to the power of 8, 16, 32, … : what so many bytes more make of a CRC. */
const BYTE_SHIFTS = new Int32Array(32);
{
  let power = X;
  for (let doubling = 0; doubling < 3; doubling++) power = multiply(power, power);
  for (let index = 0; index < BYTE_SHIFTS.length; index++) {
    BYTE_SHIFTS[index] = power;
    power = multiply(power, power);
  }
}

/** CRC-32C of two runs of bytes that follow each other, from the CRC of each; the second has `secondBytes` (below 4 GiB). */
export function joinCrc32c(first: number, second: number, secondBytes: number): number {
  let shift = ONE | 0;
  for (let rest = secondBytes, index = 0; rest > 0; rest = Math.floor(rest / 2), index++) {
    if (rest % 2 === 1) shift = multiply(shift, BYTE_SHIFTS[index]!);
  }
  return (multiply(shift, first | 0) ^ second) >>> 0;
}
