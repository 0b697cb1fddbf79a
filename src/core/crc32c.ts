// CRC-32C (Castagnoli, RFC 3720 appendix B.4), slicing by 8. node:zlib has only the other polynomial.

const TABLE = new Uint32Array(8 * 256);
for (let index = 0; index < 256; index++) {
  let crc = index;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
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
