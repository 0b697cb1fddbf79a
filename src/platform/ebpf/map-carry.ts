// Has a revision use maps of an earlier one, contents and all, where name, type, sizes, flags, and the shapes of key and value are
// the same. Others are made anew. Maps of variables never are carried over, as each revision has its own constants; nor are arrays of
// functions, whose functions are those of their revision.
import { type BpfFd, checked, type MapInfo, mapInfo, rawBtf } from './bpf-syscall.ts';
import { Btf } from './btf.ts';
import { libbpf } from './libbpf.ts';
import { MAP_TYPE } from './map-type.ts';
import type { ObjectFile, ObjectMap } from './object-file.ts';

const PAGE_BYTES = 4096;

/** Gives the names of those that are used again. `open` has the map of the earlier revision by name. */
export function carryMaps(
  object: ObjectFile,
  fresh: readonly string[],
  open: (name: string) => BpfFd | undefined,
): readonly string[] {
  const types = new Map<number, Btf>();
  return object.maps.flatMap((map) => {
    if (map.internal || map.type === MAP_TYPE.programArray || fresh.includes(map.name)) return [];
    using former = open(map.name);
    if (former === undefined || !isSame(object, map, mapInfo(former.fd), types)) return [];
    checked(`using map ${map.name} again`, libbpf().number('bpf_map__reuse_fd', map.address, former.fd));
    return [map.name];
  });
}

function isSame(object: ObjectFile, map: ObjectMap, former: MapInfo, types: Map<number, Btf>): boolean {
  const same =
    map.type === former.type &&
    map.keySize === former.keySize &&
    map.valueSize === former.valueSize &&
    map.flags === former.flags &&
    entriesOf(map) === former.maxEntries;
  // The kernel keeps no types of some maps, such as ring buffers; those have no shape either.
  if (!same || former.btfId === 0 || object.types === undefined) return same;
  const known = types.get(former.btfId) ?? new Btf(rawBtf(former.btfId));
  types.set(former.btfId, known);
  return (
    shapeOf(object.types, map.btfKeyTypeId) === shapeOf(known, former.btfKeyTypeId) &&
    shapeOf(object.types, map.btfValueTypeId) === shapeOf(known, former.btfValueTypeId)
  );
}

function shapeOf(types: Btf, id: number): string {
  return id === 0 ? '' : types.shapeOf(id);
}

/** What libbpf asks the kernel for. */
function entriesOf({ maxEntries, type }: ObjectMap): number {
  if (type === MAP_TYPE.perfEventArray && maxEntries === 0) {
    return libbpf().number('libbpf_num_possible_cpus');
  }
  if (type !== MAP_TYPE.ringBuffer) return maxEntries;
  let size = PAGE_BYTES;
  while (size < maxEntries) size *= 2;
  return size;
}
