// What is told of a revision that is loaded: its functions and maps, what they have done and take, and numbers in its maps. Changes
// nothing. Fails with `not_found` for a revision that isn't there.
import { readFileSync } from 'node:fs';
import type {
  ArtifactCounter,
  FoundRevision,
  RevisionPlace,
  RevisionStats,
} from '../../capabilities/programs/ports.ts';
import { LonglineError } from '../../core/errors.ts';
import { encodeMapKey } from '../../core/programs/parameter.ts';
import { lookupElement, mapById, mapInfo, possibleCpus, programInfo } from './bpf-syscall.ts';
import { HASHES, isPerProcessor, MAP_TYPE, valueBytes } from './map-type.ts';
import { readU32, readU64 } from './native-bytes.ts';
import { type Pins, placeText } from './pins.ts';

const READABLE: ReadonlySet<number> = new Set([...HASHES, MAP_TYPE.array, MAP_TYPE.perCpuArray]);

/** A revision with what is pinned of it. One that isn't there has nothing. */
export function readRevision(pins: Pins, place: RevisionPlace): FoundRevision {
  const functions = pins.functions(place).flatMap((pinned) => {
    using held = pins.openPinned(place, pinned);
    return held === undefined ? [] : [{ id: programInfo(held.fd).id, name: pinned.name }];
  });
  const maps = pins.maps(place).flatMap((pinned) => {
    // Those of variables aren't anybody's but the object's.
    if (pinned.name.startsWith('.')) return [];
    using map = pins.openPinnedMap(place, pinned);
    return map === undefined ? [] : [{ id: mapInfo(map.fd).id, name: pinned.name }];
  });
  return { functions, maps, place };
}

/** Runs are counted while statistics are held; memory is what the kernel accounts for functions and all maps they use. */
export function readStats(pins: Pins, place: RevisionPlace): RevisionStats {
  mustBeThere(pins, place);
  const mapIds = new Set<number>();
  let memoryBytes = 0;
  const functions = pins.functions(place).flatMap((pinned) => {
    using held = pins.openPinned(place, pinned);
    if (held === undefined) return [];
    const info = programInfo(held.fd);
    for (const id of info.mapIds) mapIds.add(id);
    memoryBytes += memoryOf(held.fd);
    return [{ name: pinned.name, runTimeNs: info.runTimeNs, runs: info.runs }];
  });
  for (const pinned of pins.maps(place)) {
    using map = pins.openPinnedMap(place, pinned);
    if (map === undefined) continue;
    mapIds.delete(mapInfo(map.fd).id);
    memoryBytes += memoryOf(map.fd);
  }
  for (const id of mapIds) {
    using map = mapById(id);
    if (map !== undefined) memoryBytes += memoryOf(map.fd);
  }
  return { functions, memoryBytes };
}

/** Undefined for one whose map isn't there, whose key isn't in it, or that lies outside of its value. */
export function readCounters(
  pins: Pins,
  place: RevisionPlace,
  counters: readonly ArtifactCounter[],
): readonly (bigint | undefined)[] {
  mustBeThere(pins, place);
  return counters.map((counter) => readCounter(pins, place, counter));
}

function readCounter(pins: Pins, place: RevisionPlace, counter: ArtifactCounter): bigint | undefined {
  using map = pins.openMap(place, counter.map);
  if (map === undefined) return undefined;
  const { keySize, type, valueSize } = mapInfo(map.fd);
  if (!READABLE.has(type) || counter.offset < 0 || counter.offset + counter.size > valueSize) return undefined;
  const key = keyOf(counter, keySize);
  const each = valueBytes(type, valueSize);
  const copies = isPerProcessor(type) ? possibleCpus() : 1;
  const values = Buffer.alloc(each * copies);
  if (key === undefined || !lookupElement(`reading map ${counter.map}`, map.fd, key, values)) return undefined;
  let sum = 0n;
  for (let copy = 0; copy < copies; copy++) {
    const at = copy * each + counter.offset;
    sum += counter.size === 8 ? readU64(values, at) : BigInt(readU32(values, at));
  }
  return BigInt.asUintN(64, sum);
}

function keyOf(counter: ArtifactCounter, size: number): Uint8Array | undefined {
  try {
    return encodeMapKey(counter.key, size);
  } catch (error) {
    if (error instanceof LonglineError && error.reason === 'invalid') return undefined;
    throw error;
  }
}

function mustBeThere(pins: Pins, place: RevisionPlace): void {
  if (!pins.has(place)) throw new LonglineError('not_found', `${placeText(place)} isn't loaded`);
}

/** The kernel tells it with what it tells of descriptors. */
function memoryOf(fd: number): number {
  const told = /^memlock:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'));
  return told === null ? 0 : Number(told[1]);
}
