// The lock of an election as a service of Docker Swarm that nothing ever runs of: what it is called, what its labels say, and how
// it is created. Pure. Labels are anybody's to change: whatever can't be read as a hold is an error that names label and value.
import { createHash } from 'node:crypto';
import { LonglineError } from '../../../core/errors.ts';
import type { LeaseRecord } from '../../../core/observed-lease.ts';

/** What Swarm takes as the name of a service. */
const SERVICE_NAME = /^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$/;

const AGENT = 'longline.leader.agent';
const HOLDER = 'longline.leader.holder';
const EPOCH = 'longline.leader.epoch';
const TTL = 'longline.leader.ttl_ms';

const MAX_TTL_MS = 600_000;

/** Labels by name. */
export type Labels = Readonly<Record<string, string>>;

/** The lock service of an agent if no other is named. Ids that make no name of a service are told apart by a hash. */
export function lockServiceName(agentId: string): string {
  const plain = `longline-leader-${agentId}`;
  if (SERVICE_NAME.test(plain)) return plain;
  const mark = createHash('sha256').update(agentId).digest('hex').slice(0, 12);
  return `longline-leader-${agentId.replaceAll(/[^A-Za-z0-9-]/g, '-').slice(0, 34)}-${mark}`;
}

/** A hold as labels. */
export function labelsOf(agentId: string, { holder, epoch, ttlMs }: LeaseRecord): Labels {
  return { [AGENT]: agentId, [HOLDER]: holder, [EPOCH]: String(epoch), [TTL]: String(ttlMs) };
}

/** The hold that labels of the service `name` tell. Throws `already_exists` if that isn't this agent's lock, `unavailable` for other faults. */
export function holdOf(name: string, agentId: string, labels: Labels): LeaseRecord {
  const agent = labels[AGENT];
  if (agent === undefined) {
    const text = `${name} is no lock of Longline, as it has no label ${AGENT}; give ha.swarm_service a name of its own`;
    throw new LonglineError('already_exists', text);
  }
  if (agent !== agentId) {
    const text = `${name} is the lock of agent ${JSON.stringify(agent)}; give ha.swarm_service of ${agentId} another name`;
    throw new LonglineError('already_exists', text);
  }
  const epoch = read(name, labels, EPOCH, /^[0-9]{1,18}$/, 'an epoch');
  const ttl = Number(read(name, labels, TTL, /^[1-9][0-9]{0,5}$/, `1 to ${MAX_TTL_MS} milliseconds`));
  const ttlMs = Math.min(ttl, MAX_TTL_MS);
  return { holder: read(name, labels, HOLDER, /^.{0,512}$/, 'a replica'), epoch: BigInt(epoch), ttlMs };
}

/** What the service is created with. The image's name is reserved: no engine pulls or has one that is called so. */
export function lockService(name: string, labels: Labels): object {
  return {
    Name: name,
    Labels: labels,
    Mode: { Replicated: { Replicas: 0 } },
    TaskTemplate: { ContainerSpec: { Image: 'scratch' } },
  };
}

function read(name: string, labels: Labels, label: string, pattern: RegExp, right: string): string {
  const value = labels[label];
  if (value !== undefined && pattern.test(value)) return value;
  const found = value === undefined ? 'is missing' : `is ${JSON.stringify(value.slice(0, 200))}`;
  const text = `${name}: label ${label} ${found}, not ${right}; "docker service rm" has the replicas make it anew`;
  throw new LonglineError('unavailable', text);
}
