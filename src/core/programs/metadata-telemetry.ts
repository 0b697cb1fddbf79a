// Reads what an artifact's metadata says of counters and events. Pure.
import type { ArtifactCounter, ArtifactEvents, ArtifactMetadata, EventField } from './metadata.ts';
import { FIELD_NAME, FIELD_NAME_FORM, MAP_NAME, shownValue } from './metadata-names.ts';
import { isMapKey, MAP_KEY_FORM, sizeFault } from './parameter.ts';
import { PARAMETER_TYPES } from './program-type.ts';
import type { Refuse } from './thresholds.ts';

/** A longline.v1.ProgramCounter. */
export interface CounterMessage {
  readonly map: string;
  readonly key: string;
  readonly offset: number;
  readonly size: number;
}

/** A longline.v1.ProgramCounters. */
export interface CountersMessage {
  readonly packets?: CounterMessage | undefined;
  readonly violations?: CounterMessage | undefined;
  readonly errors?: CounterMessage | undefined;
  readonly others: Readonly<Record<string, CounterMessage>>;
}

/** A longline.v1.ProgramEvents. */
export interface EventsMessage {
  readonly map: string;
  readonly type: string;
  readonly fields: readonly {
    readonly name: string;
    readonly type: number;
    readonly offset: number;
    readonly size: number;
  }[];
  readonly perSecond: number;
}

const MAX_OTHERS = 32;
const MAX_EVENTS = 16;
const MAX_FIELDS = 64;
/** Of a value of a map, or of an event record. */
const MAX_RECORD_BYTES = 65_536;
const DEFAULT_PER_SECOND = 10;
const MAX_PER_SECOND = 10_000;

/** Reads counters. What is wrong is noted. */
export function readCounters(message: CountersMessage | undefined, refuse: Refuse): ArtifactMetadata['counters'] {
  const named = (field: 'packets' | 'violations' | 'errors') =>
    message?.[field] && readCounter(message[field], `counters.${field}`, refuse);
  const others = Object.entries(message?.others ?? {});
  if (others.length > MAX_OTHERS) refuse('counters.others', `${others.length} are too many; at most ${MAX_OTHERS}`);
  return {
    packets: named('packets'),
    violations: named('violations'),
    errors: named('errors'),
    others: Object.fromEntries(
      others.slice(0, MAX_OTHERS).map(([name, counter]) => {
        if (!FIELD_NAME.test(name)) refuse('counters.others', `${shownValue(name)}; must be ${FIELD_NAME_FORM}`);
        return [name, readCounter(counter, `counters.others.${name.slice(0, 63)}`, refuse)];
      }),
    ),
  };
}

function readCounter({ map, key, offset, size }: CounterMessage, at: string, refuse: Refuse): ArtifactCounter {
  if (!MAP_NAME.test(map)) refuse(`${at}.map`, `${shownValue(map)}; must be the name of a map`);
  if (!isMapKey(key)) refuse(`${at}.key`, `${shownValue(key)}; must be ${MAP_KEY_FORM}`);
  if (size !== 0 && size !== 4 && size !== 8) refuse(`${at}.size`, `got ${size}; must be 4 or 8 bytes, or 0 for 8`);
  checkEnd(offset, size || 8, at, refuse);
  return { map, key, offset, size: size === 4 ? 4 : 8 };
}

/** Reads ring buffers. What is wrong is noted. */
export function readEvents(messages: readonly EventsMessage[], refuse: Refuse): readonly ArtifactEvents[] {
  if (messages.length > MAX_EVENTS) {
    refuse('events', `${messages.length} ring buffers are too many; at most ${MAX_EVENTS}`);
    return [];
  }
  const maps = new Set<string>();
  return messages.map(({ map, type, fields, perSecond }, place) => {
    const at = `events[${place}]`;
    if (!MAP_NAME.test(map)) refuse(`${at}.map`, `${shownValue(map)}; must be the name of a map`);
    else if (maps.has(map)) refuse(`${at}.map`, `"${map}" is there twice; a ring buffer has one kind of record`);
    maps.add(map);
    if (!FIELD_NAME.test(type)) refuse(`${at}.type`, `${shownValue(type)}; must be ${FIELD_NAME_FORM}`);
    if (perSecond > MAX_PER_SECOND) refuse(`${at}.per_second`, `got ${perSecond}; at most ${MAX_PER_SECOND}`);
    return { map, type, fields: readFields(fields, at, refuse), perSecond: perSecond || DEFAULT_PER_SECOND };
  });
}

function readFields(messages: EventsMessage['fields'], at: string, refuse: Refuse): readonly EventField[] {
  if (messages.length > MAX_FIELDS) {
    refuse(`${at}.fields`, `${messages.length} fields are too many; at most ${MAX_FIELDS}`);
    return [];
  }
  const names = new Set<string>();
  return messages.flatMap(({ name, type: number, offset, size }, place) => {
    const field = `${at}.fields[${place}]`;
    if (!FIELD_NAME.test(name)) refuse(`${field}.name`, `${shownValue(name)}; must be ${FIELD_NAME_FORM}`);
    else if (names.has(name)) refuse(`${field}.name`, `"${name}" is there twice`);
    names.add(name);
    const type = PARAMETER_TYPES[number - 1];
    if (type === undefined) {
      refuse(
        `${field}.type`,
        `${number === 0 ? 'missing' : `got ${number}`}; must be one of ${PARAMETER_TYPES.join(', ')}`,
      );
      return [];
    }
    const misfit = sizeFault(type, size);
    if (misfit !== undefined) refuse(`${field}.size`, misfit);
    checkEnd(offset, size, field, refuse);
    return [{ name, type, offset, size }];
  });
}

function checkEnd(offset: number, size: number, at: string, refuse: Refuse): void {
  if (offset + size > MAX_RECORD_BYTES) refuse(`${at}.offset`, `ends at ${offset + size}; at most ${MAX_RECORD_BYTES}`);
}
