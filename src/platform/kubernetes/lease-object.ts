// A Lease (coordination.k8s.io/v1) as a record of leader election, and back. Its fields are what kubectl and other tools read;
// the epoch stands in an annotation, as a Lease has none. What others wrote into it stays as it is.
import { LonglineError } from '../../core/errors.ts';
import type { FoundLease, LeaseRecord } from '../../core/observed-lease.ts';
import { isObject, type JsonObject } from './api-answer.ts';

/** Says whose Lease it is, exactly. */
export const AGENT_ANNOTATION = 'longline.agent/id';
/** The highest epoch there was. */
export const EPOCH_ANNOTATION = 'longline.agent/epoch';

const MANAGED_BY = 'app.kubernetes.io/managed-by';
/** What Kubernetes takes as the value of a label. */
const LABEL = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
const MAX_INT32 = 2 ** 31 - 1;
/** No replica may hold longer, so that whoever writes a longer duration keeps nobody from following for that. */
const MAX_TTL_MS = 600_000;

/** Which Lease, and whose. */
export interface LeaseIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly agentId: string;
}

/** A hold, with the object that it was read from. */
export interface FoundObject extends FoundLease {
  readonly object: JsonObject;
}

/**
 * Reads a Lease. `defaultTtlMs` is for one that has a holder and no duration. Throws `already_exists` for one of other
 * software or another agent, and `wrong_state` for one that isn't as Kubernetes has them.
 */
export function readLease(object: JsonObject, identity: LeaseIdentity, defaultTtlMs: number): FoundObject {
  const wrong = (what: string) => new LonglineError('wrong_state', `${nameOf(identity)}: ${what}`);
  const metadata = part(object, 'metadata');
  const spec = part(object, 'spec');
  const { resourceVersion, uid } = metadata;
  // Without its uid a Lease that was taken away meanwhile would be made by the write over it.
  if (object['kind'] !== 'Lease' || !isText(resourceVersion) || !isText(uid)) {
    throw wrong(
      `the API server gave a ${String(object['kind'])} with version ${String(resourceVersion)} and uid ${String(uid)} in its place`,
    );
  }
  const annotations = part(metadata, 'annotations');
  const owner = annotations[AGENT_ANNOTATION];
  const holder = spec['holderIdentity'] ?? '';
  if (owner !== identity.agentId) {
    const whose = typeof owner === 'string' ? `of agent ${owner}` : 'not of Longline';
    const held = holder === '' ? '' : `, held by ${String(holder)}`;
    const mend = `name another in ha.kubernetes_lease, or annotate it ${AGENT_ANNOTATION}=${identity.agentId}`;
    throw new LonglineError('already_exists', `${nameOf(identity)} is ${whose}${held}; ${mend}`);
  }
  const seconds = spec['leaseDurationSeconds'];
  const epoch = readEpoch(annotations[EPOCH_ANNOTATION] ?? '0');
  const transitions = spec['leaseTransitions'] ?? 0;
  if (typeof holder !== 'string') throw wrong('spec.holderIdentity is no text');
  if (epoch === undefined)
    throw wrong(
      `annotation ${EPOCH_ANNOTATION} is ${JSON.stringify(annotations[EPOCH_ANNOTATION])}, which is no epoch`,
    );
  if (!isCount(transitions)) throw wrong(`spec.leaseTransitions is ${JSON.stringify(transitions)}, which is no count`);
  const counted = BigInt(transitions);
  return {
    holder,
    // Who took the annotation away took no epoch back.
    epoch: counted > epoch ? counted : epoch,
    ttlMs: isCount(seconds) && seconds > 0 ? Math.min(seconds * 1000, MAX_TTL_MS) : defaultTtlMs,
    version: `${uid}/${resourceVersion}`,
    object,
  };
}

/** The Lease that says `record`, to be written over `found` (undefined: to be made) at wall time `nowMs`. */
export function writeLease(
  found: FoundObject | undefined,
  record: LeaseRecord,
  identity: LeaseIdentity,
  nowMs: number,
): JsonObject {
  const metadata = part(found?.object, 'metadata');
  const spec = part(found?.object, 'spec');
  const isTaken = record.holder !== '' && (found?.epoch !== record.epoch || found.holder !== record.holder);
  // A write that changes nothing would leave the version as it is, and with it a leader that counts as gone.
  const stamp = stampOf(nowMs, spec['renewTime']);
  const { namespace, name, agentId } = identity;
  const labels = { [MANAGED_BY]: 'longline', ...(LABEL.test(agentId) ? { [AGENT_ANNOTATION]: agentId } : {}) };
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: {
      ...metadata,
      namespace,
      name,
      labels: { ...part(metadata, 'labels'), ...labels },
      annotations: {
        ...part(metadata, 'annotations'),
        [AGENT_ANNOTATION]: agentId,
        [EPOCH_ANNOTATION]: String(record.epoch),
      },
    },
    spec: {
      ...spec,
      holderIdentity: record.holder,
      leaseDurationSeconds: Math.ceil(record.ttlMs / 1000),
      ...(isTaken ? { acquireTime: stamp } : {}),
      renewTime: stamp,
      leaseTransitions: record.epoch > MAX_INT32 ? MAX_INT32 : Number(record.epoch),
    },
  };
}

/** Names a Lease in messages. */
export function nameOf({ namespace, name }: LeaseIdentity): string {
  return `Lease ${namespace}/${name}`;
}

/** RFC 3339 with microseconds, in the one form that Kubernetes reads; another than the one before. */
function stampOf(nowMs: number, before: unknown): string {
  const millis = new Date(nowMs).toISOString().slice(0, -1);
  return `${millis}000Z` === before ? `${millis}001Z` : `${millis}000Z`;
}

function readEpoch(text: unknown): bigint | undefined {
  return typeof text === 'string' && /^[0-9]{1,18}$/.test(text) ? BigInt(text) : undefined;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** What isn't an object holds nothing. */
function part(of: JsonObject | undefined, key: string): JsonObject {
  const value = of?.[key];
  return isObject(value) ? value : {};
}
