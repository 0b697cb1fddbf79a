// Types of maps, by enum bpf_map_type, as far as they are told apart. Pure.

/** By name. */
export const MAP_TYPE = {
  hash: 1,
  array: 2,
  programArray: 3,
  perfEventArray: 4,
  perCpuHash: 5,
  perCpuArray: 6,
  lruHash: 9,
  lruPerCpuHash: 10,
  lpmTrie: 11,
  ringBuffer: 27,
} as const;

/** Those whose keys come and go. */
export const HASHES: ReadonlySet<number> = new Set([
  MAP_TYPE.hash,
  MAP_TYPE.perCpuHash,
  MAP_TYPE.lruHash,
  MAP_TYPE.lruPerCpuHash,
  MAP_TYPE.lpmTrie,
]);

/** True if the map has a value for each processor. */
export function isPerProcessor(type: number): boolean {
  return type === MAP_TYPE.perCpuHash || type === MAP_TYPE.perCpuArray || type === MAP_TYPE.lruPerCpuHash;
}

/** Bytes of one value as the kernel hands it over: of maps per processor, each begins at a multiple of 8. */
export function valueBytes(type: number, valueSize: number): number {
  return isPerProcessor(type) ? Math.ceil(valueSize / 8) * 8 : valueSize;
}
