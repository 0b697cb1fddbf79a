// Has a revision use maps of an earlier one, contents and all, where name, type, sizes, flags, and the shapes of key and value are
// the same. Others are made anew. Maps of variables never are carried over, as each revision has its own constants; nor are arrays of
// functions, whose functions are those of their revision.
import { createHash } from 'node:crypto';
import type { RevisionPlace } from '../../capabilities/programs/ports.ts';
import { checked, type MapInfo, mapInfo } from './bpf-syscall.ts';
import { libbpf } from './libbpf.ts';
import { MAP_TYPE } from './map-type.ts';
import type { ObjectFile, ObjectMap } from './object-file.ts';
import type { Pins } from './pins.ts';

const PAGE_BYTES = 4096;
const SHAPE_DIGITS = 12;

/** Has the object use those of the earlier revision that are the same, save for fresh ones. Gives their names. */
export function carryMaps(
  object: ObjectFile,
  pins: Pins,
  from: RevisionPlace,
  fresh: readonly string[],
): readonly string[] {
  const pinned = new Map(pins.maps(from).map((one) => [one.name, one]));
  return object.maps.flatMap((map) => {
    const there = pinned.get(map.name);
    const own = map.internal || map.type === MAP_TYPE.programArray || fresh.includes(map.name);
    if (there === undefined || own || there.shape !== mapShape(object, map)) return [];
    using former = pins.openPinnedMap(from, there);
    if (former === undefined || !isSame(map, mapInfo(former.fd))) return [];
    checked(`using map ${map.name} again`, libbpf().number('bpf_map__reuse_fd', map.address, former.fd));
    return [map.name];
  });
}

/** Hex digits for the fields of a map's key and value. */
export function mapShape({ types }: ObjectFile, { btfKeyTypeId, btfValueTypeId }: ObjectMap): string {
  const shapes = [btfKeyTypeId, btfValueTypeId].map((id) => (id === 0 || types === undefined ? '' : types.shapeOf(id)));
  return createHash('sha256').update(shapes.join('\n')).digest('hex').slice(0, SHAPE_DIGITS);
}

function isSame(map: ObjectMap, former: MapInfo): boolean {
  return (
    map.type === former.type &&
    map.keySize === former.keySize &&
    map.valueSize === former.valueSize &&
    map.flags === former.flags &&
    entriesOf(map) === former.maxEntries
  );
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
