// Makes the record of a revision from what it will be loaded from. Pure.
import { hash } from 'node:crypto';
import { BOUND_TYPES } from '../../core/programs/resolved-spec.ts';
import type { ProgramOrder } from './order.ts';
import { placesOf } from './place.ts';
import type { FoundRevision, ParameterWrite, TypeSupport } from './ports.ts';
import type { Prepared } from './preparation.ts';
import type { RevisionRecord } from './revision-record.ts';

/** What a revision is made for. */
export interface RevisionParts {
  readonly number: number;
  readonly order: ProgramOrder;
  readonly prepared: Prepared;
  readonly types: readonly TypeSupport[];
  readonly nowMs: number;
}

/** A revision that is to be loaded. */
export function newRevision({ number, order, prepared, types, nowMs }: RevisionParts): RevisionRecord {
  const { metadata, resolved, signers } = prepared;
  return {
    number,
    artifact: order.spec.artifact,
    settings: order.settings,
    layout: order.layout,
    whole: order.whole,
    spec: Buffer.from(order.bytes).toString('base64'),
    artifactName: metadata.name,
    version: metadata.version,
    objectSha256: metadata.objectSha256,
    signers,
    functions: resolved.functions.map(({ name, type }) => ({ name, type })),
    places: placesOf(resolved.functions, number, types),
    mapWrites: mapWritesOf(resolved.writes),
    counters: metadata.counters,
    events: metadata.events,
    thresholds: metadata.thresholds,
    ttlMs: metadata.ttlMs,
    loadedAtMs: nowMs,
    activeAtMs: undefined,
    probation: undefined,
  };
}

/**
 * The same revision at other places, if what is loaded can go there as it is; undefined if it has to be loaded anew: for other
 * functions, or for types that the kernel takes only together with where they go.
 */
export function movedRevision(
  current: RevisionRecord,
  loaded: FoundRevision | undefined,
  parts: Omit<RevisionParts, 'number'>,
): RevisionRecord | undefined {
  const { order, prepared } = parts;
  if (current.artifact !== order.spec.artifact || current.settings !== order.settings) return undefined;
  const { functions } = prepared.resolved;
  const has = new Set(loaded?.functions.map(({ name }) => name));
  if (functions.some(({ name, type }) => !has.has(name) || BOUND_TYPES.has(type))) return undefined;
  const moved = newRevision({ ...parts, number: current.number });
  const { functions: kept, loadedAtMs, activeAtMs, probation } = current;
  return { ...moved, functions: kept, loadedAtMs, activeAtMs, probation };
}

/** The revision as it is here by an order that asks for nothing else to be loaded; the same if it is here by another. */
export function notedRevision(current: RevisionRecord, order: ProgramOrder): RevisionRecord {
  const { artifact, settings, layout } = current;
  const isSame = artifact === order.spec.artifact && settings === order.settings && layout === order.layout;
  if (!isSame) return current;
  return { ...current, whole: order.whole, spec: Buffer.from(order.bytes).toString('base64') };
}

function mapWritesOf(writes: readonly ParameterWrite[]): Readonly<Record<string, string>> {
  const texts = new Map<string, string[]>();
  for (const write of writes) {
    if (write.kind === 'variable') continue;
    const text =
      write.kind === 'map' ? `${write.key}=${write.value.text}` : write.keys.map(({ text: key }) => key).join();
    texts.set(write.map, [...(texts.get(write.map) ?? []), text]);
  }
  return Object.fromEntries([...texts].map(([map, all]) => [map, hash('sha256', JSON.stringify(all)).slice(0, 16)]));
}
