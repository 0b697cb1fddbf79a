// Parameters that are values or keys of maps. They are read against the object before it is loaded, so that what doesn't fit is found
// while nothing has happened yet, and written once the maps are there. Knows nothing of variables.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ParameterWrite } from '../../capabilities/programs/ports.ts';
import type { FieldViolation } from '../../core/errors.ts';
import { encodeMapKey, encodeParameter } from '../../core/programs/parameter.ts';
import { deleteElement, nextKey, possibleCpus, updateElement } from './bpf-syscall.ts';
import { HASHES, isPerProcessor, MAP_TYPE, valueBytes } from './map-type.ts';
import type { ObjectFile, ObjectMap } from './object-file.ts';
import { faultOf, listed } from './variable-writes.ts';

/** A parameter that goes into a map. */
export type MapWrite = Exclude<ParameterWrite, { readonly kind: 'variable' }>;

/** What is to be written into a map. */
export interface PlannedWrite {
  readonly map: ObjectMap;
  /** By key in hex. */
  readonly elements: ReadonlyMap<string, Uint8Array>;
  /** True to have other keys go. */
  readonly exactly: boolean;
}

/** Elements between two chances for others to run. */
const ELEMENTS_A_TURN = 512;
const ARRAYS: ReadonlySet<number> = new Set([MAP_TYPE.array, MAP_TYPE.perCpuArray]);

/** Reads them against the object. What is wrong is added to `violations`. */
export function planMapWrites(
  object: ObjectFile,
  writes: readonly MapWrite[],
  violations: FieldViolation[],
): readonly PlannedWrite[] {
  return writes.flatMap((write) => {
    const map = object.maps.find((one) => one.name === write.map && !one.internal);
    const refuse = (description: string) => {
      violations.push({ description, field: write.parameter });
      return [];
    };
    if (map === undefined) {
      const names = object.maps.flatMap((one) => (one.internal ? [] : [one.name]));
      return refuse(`the object has no map ${write.map}; it has ${listed(names)}`);
    }
    const elements = new Map<string, Uint8Array>();
    const plan = () => (write.kind === 'map' ? planValue(map, write, elements) : planKeys(map, write, elements));
    let problem: string | undefined;
    const fault = faultOf(() => {
      problem = plan();
    });
    if (fault !== undefined) return refuse(`${fault}, for map ${map.name}`);
    if (problem !== undefined) return refuse(problem);
    return [{ elements, exactly: write.kind === 'key_set', map }];
  });
}

/** Writes into a map. Of a set, keys that stay are never away. */
export async function writeElements(mapFd: number, { elements, exactly, map }: PlannedWrite): Promise<void> {
  const doing = `writing map ${map.name}`;
  if (exactly) {
    let count = 0;
    for (const key of await keysOf(mapFd, map)) {
      if (elements.has(key.toString('hex'))) continue;
      deleteElement(doing, mapFd, key);
      if (++count % ELEMENTS_A_TURN === 0) await nextTurn();
    }
  }
  let count = 0;
  for (const [key, value] of elements) {
    updateElement(doing, mapFd, Buffer.from(key, 'hex'), forEveryProcessor(map.type, value));
    if (++count % ELEMENTS_A_TURN === 0) await nextTurn();
  }
}

async function keysOf(mapFd: number, map: ObjectMap): Promise<readonly Buffer[]> {
  const keys: Buffer[] = [];
  let key: Buffer | undefined;
  // A program may add keys meanwhile; there can't be more than this at once.
  while (keys.length < map.maxEntries) {
    key = nextKey(`listing map ${map.name}`, mapFd, key, map.keySize);
    if (key === undefined) break;
    keys.push(key);
    if (keys.length % ELEMENTS_A_TURN === 0) await nextTurn();
  }
  return keys;
}

function planValue(
  map: ObjectMap,
  write: Extract<MapWrite, { readonly kind: 'map' }>,
  elements: Map<string, Uint8Array>,
): string | undefined {
  const isArray = ARRAYS.has(map.type);
  if (!isArray && !HASHES.has(map.type)) return `map ${map.name} is of type ${map.type}, whose values can't be set`;
  const key = encodeMapKey(write.key, map.keySize);
  if (isArray && Buffer.from(key).readUInt32LE(0) >= map.maxEntries) {
    return `map ${map.name} has ${map.maxEntries} values, and key ${write.key} is past them`;
  }
  elements.set(Buffer.from(key).toString('hex'), encodeParameter(write.value, map.valueSize));
  return undefined;
}

function planKeys(
  map: ObjectMap,
  write: Extract<MapWrite, { readonly kind: 'key_set' }>,
  elements: Map<string, Uint8Array>,
): string | undefined {
  if (!HASHES.has(map.type)) {
    return `map ${map.name} is of type ${map.type}, which has no set of keys; must be a hash or a trie of prefixes`;
  }
  const value = new Uint8Array(map.valueSize);
  value[0] = 1;
  for (const key of write.keys) {
    elements.set(Buffer.from(encodeParameter(key, map.keySize)).toString('hex'), value);
  }
  const most = Math.min(map.maxEntries, write.maxKeys ?? map.maxEntries);
  return elements.size > most ? `has ${elements.size} keys; map ${map.name} takes ${most}` : undefined;
}

function forEveryProcessor(type: number, value: Uint8Array): Uint8Array {
  if (!isPerProcessor(type)) return value;
  const each = valueBytes(type, value.length);
  const all = new Uint8Array(each * possibleCpus());
  for (let at = 0; at < all.length; at += each) all.set(value, at);
  return all;
}
