// The certificates that an agent is known by, replica by replica. Each replica has its own, renews its own and loses its own; none
// pushes out another's. Pure.
import { LonglineError } from '../../core/errors.ts';
import type { AgentIdentity, IssuedCertificate, ReplicaRevocation } from './ports.ts';

/** Replicas of one agent that may have certificates at once. */
export const MAX_REPLICAS = 10;
/** Certificates accepted from one replica at once. */
const MAX_CERTIFICATES = 8;

/** Those that haven't ended, in the order they came in. */
export function living(certificates: readonly IssuedCertificate[], nowMs: number): readonly IssuedCertificate[] {
  return certificates.filter((issued) => issued.expiresAtMs > nowMs);
}

/** The living ones and another. Its replica's oldest goes where there would be too many. */
export function withCertificate(
  before: readonly IssuedCertificate[],
  added: IssuedCertificate,
  nowMs: number,
): readonly IssuedCertificate[] {
  const alive = living(before, nowMs);
  const own = alive.filter(({ instanceId }) => instanceId === added.instanceId);
  const dropped = new Set(own.slice(0, Math.max(0, own.length + 1 - MAX_CERTIFICATES)));
  return [...alive.filter((issued) => !dropped.has(issued)), added];
}

/** Throws unless one more replica may have a certificate beside these. A place is free again once its certificates have ended. */
export function checkRoom(agentId: string, others: readonly IssuedCertificate[]): void {
  const replicas = new Set(others.map(({ instanceId }) => instanceId)).size;
  if (replicas < MAX_REPLICAS) return;
  const soonest = Math.min(...lastEnds(others));
  throw new LonglineError(
    'wrong_state',
    `agent_id: ${agentId} has ${replicas} replicas with certificates, and no more than ${MAX_REPLICAS} (MAX_REPLICAS) may have them: ` +
      `revoke one that is retired with "longline agents revoke ${agentId} --replica ID"; the first certificate lapses by itself at ${new Date(soonest).toISOString()}`,
  );
}

/** When each replica's last certificate ends. */
function lastEnds(certificates: readonly IssuedCertificate[]): Iterable<number> {
  const ends = new Map<string, number>();
  for (const { instanceId, expiresAtMs } of certificates) {
    ends.set(instanceId, Math.max(expiresAtMs, ends.get(instanceId) ?? 0));
  }
  return ends.values();
}

/** An agent without one of its replicas, and the tokens that this replica knows; or why that can't be. */
export function withoutReplica(
  identity: AgentIdentity,
  instanceId: string,
  nowMs: number,
): { readonly identity: AgentIdentity; readonly tokenIds: readonly string[] } | Exclude<ReplicaRevocation, 'revoked'> {
  const alive = living(identity.certificates, nowMs);
  const lost = alive.filter((issued) => issued.instanceId === instanceId);
  if (lost.length === 0) return 'missing';
  const certificates = alive.filter((issued) => issued.instanceId !== instanceId);
  if (certificates.length === 0 && identity.apiKeyHash === undefined) return 'last';
  // Without the key's hash nobody enrols again for having the key.
  const changed = { ...identity, certificates, publicKeyHash: undefined, version: identity.version + 1 };
  return { identity: changed, tokenIds: [...new Set(lost.map(({ tokenId }) => tokenId))] };
}
