// Numbers in structures of the kernel and in maps, which are in the byte order of this machine. Pure.

/** A structure of options as libbpf wants it: zeros, with its own size first. */
export function sized(size: number): Buffer {
  const options = Buffer.alloc(size);
  writeU64(options, 0, BigInt(size));
  return options;
}

const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Numbers are in the byte order of this machine, here and in maps. */
export function readU32(from: Buffer, offset: number): number {
  return LITTLE ? from.readUInt32LE(offset) : from.readUInt32BE(offset);
}

export function readU64(from: Buffer, offset: number): bigint {
  return LITTLE ? from.readBigUInt64LE(offset) : from.readBigUInt64BE(offset);
}

export function writeU32(to: Buffer, offset: number, value: number): void {
  if (LITTLE) to.writeUInt32LE(value >>> 0, offset);
  else to.writeUInt32BE(value >>> 0, offset);
}

export function writeU64(to: Buffer, offset: number, value: bigint): void {
  if (LITTLE) to.writeBigUInt64LE(value, offset);
  else to.writeBigUInt64BE(value, offset);
}

/** Text that ends at a zero, or fills its field. */
export function textAt(from: Buffer, offset: number, size: number): string {
  const field = from.subarray(offset, offset + size);
  const end = field.indexOf(0);
  return field.toString('latin1', 0, end < 0 ? size : end);
}
