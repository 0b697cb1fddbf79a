// CRC-32C (Castagnoli, RFC 3720 appendix B.4), slicing by 8. node:zlib has only the other polynomial.

const POLYNOMIAL = 0x82f63b78;

const TABLE = new Uint32Array(8 * 256);
for (let index = 0; index < 256; index++) {
  let crc = index;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  TABLE[index] = crc >>> 0;
}
for (let index = 0; index < 256; index++) {
  let crc = TABLE[index]!;
  for (let slice = 1; slice < 8; slice++) {
    crc = TABLE[crc & 0xff]! ^ (crc >>> 8);
    TABLE[slice * 256 + index] = crc >>> 0;
  }
}

/** CRC-32C of `data`, continuing from `seed`, the CRC of the bytes before. Unsigned. */
export function crc32c(data: Uint8Array, seed = 0): number {
  let crc = ~seed;
  let at = 0;
  const end = data.length - 7;
  for (; at < end; at += 8) {
    const low = crc ^ (data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24));
    crc =
      TABLE[1792 + (low & 0xff)]! ^
      TABLE[1536 + ((low >>> 8) & 0xff)]! ^
      TABLE[1280 + ((low >>> 16) & 0xff)]! ^
      TABLE[1024 + (low >>> 24)]! ^
      TABLE[768 + data[at + 4]!]! ^
      TABLE[512 + data[at + 5]!]! ^
      TABLE[256 + data[at + 6]!]! ^
      TABLE[data[at + 7]!]!;
  }
  for (; at < data.length; at++) crc = TABLE[(crc ^ data[at]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
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
