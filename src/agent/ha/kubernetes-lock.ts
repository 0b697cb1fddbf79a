// The lock by a Lease, from settings. Loaded where it was chosen only.
import { readFile } from 'node:fs/promises';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { LeaderLock } from '../../core/leader-lock.ts';
import { LeaseLock } from '../../core/lease-lock.ts';
import { KubernetesLeaseStore } from '../../platform/kubernetes/lease-store.ts';
import type { AgentConfig } from '../config.ts';
import { leaseName, POD_NAMESPACE_FILE } from '../ha-settings.ts';

/** Longest that one request may take; a renewal that hangs is tried again while the lease still holds. */
const REQUEST_LIMIT_MS = 3_000;

/** Throws `invalid` if it isn't told, and can't be known, in which namespace the Lease is. */
export async function makeKubernetesLock(
  { agentId, ha }: Pick<AgentConfig, 'agentId' | 'ha'>,
  holder: string,
  elapsed: () => number,
  clock: Pick<Clock, 'now'>,
): Promise<LeaderLock> {
  const { ttlMs, renewMs, kubernetes } = ha;
  const { host, port, tokenFile, caFile } = kubernetes;
  const store = new KubernetesLeaseStore({
    ...{ host: host!, port, tokenFile, caFile, agentId, ttlMs, elapsed, now: clock.now },
    name: leaseName(kubernetes, agentId)!,
    namespace: kubernetes.namespace ?? (await ownNamespace()),
    timeoutMs: Math.min(renewMs, REQUEST_LIMIT_MS),
  });
  return new LeaseLock(store, { holder, ttlMs, elapsed });
}

async function ownNamespace(): Promise<string> {
  try {
    return (await readFile(POD_NAMESPACE_FILE, 'utf8')).trim();
  } catch (error) {
    const text = `ha.kubernetes_namespace is missing, and there is no ${POD_NAMESPACE_FILE}, as a pod has it; name the namespace of the Lease`;
    throw new LonglineError('invalid', text, { cause: error });
  }
}
