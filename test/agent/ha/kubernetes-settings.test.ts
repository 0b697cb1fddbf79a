// What is told of an election by a Lease, by Kubernetes in a pod and by settings elsewhere.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agentConfig } from '../../../src/agent/config.ts';
import { makeKubernetesLock } from '../../../src/agent/ha/kubernetes-lock.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { resolveConfig } from '../../../src/core/config/resolve.ts';

const HA = { LONGLINE_HA_ENABLED: 'true', LEADER_ELECTION_BACKEND: 'kubernetes', LONGLINE_AGENT_ID: 'host-1' };
/** As Kubernetes sets it in each pod; the last is none of ours. */
const POD = {
  KUBERNETES_SERVICE_HOST: 'fd00:10:96::1',
  KUBERNETES_SERVICE_PORT: '443',
  KUBERNETES_PORT: 'tcp://[fd00:10:96::1]:443',
};

function problems(env: Readonly<Record<string, string>>): string {
  const resolved = resolveConfig(agentConfig, { env });
  return resolved.ok ? '' : resolved.problems.map((one) => JSON.stringify(one)).join('\n');
}

test('a pod needs the backend and the id of the agent, and nothing else', async () => {
  const resolved = resolveConfig(agentConfig, { env: { ...HA, ...POD, LONGLINE_HA_KUBERNETES_NAMESPACE: 'edge' } });
  assert.ok(resolved.ok);
  await using lock = await makeKubernetesLock(resolved.config, 'me', () => 0, systemClock);
  assert.equal(lock.name, 'Lease edge/longline-host-1');
  await assert.rejects(lock.acquire(0n, new AbortController().signal), {
    message: /ha\.kubernetes_(token|ca)_file can't be read.*\/var\/run\/secrets\/kubernetes\.io\/serviceaccount/,
  });
});

test('what is missing is named, and only where Leases are elected by', async () => {
  assert.match(problems(HA), /ha\.kubernetes_host.*is missing/);
  assert.equal(problems({ ...HA, LEADER_ELECTION_BACKEND: 'file' }), '');
  const resolved = resolveConfig(agentConfig, { env: { ...HA, ...POD } });
  assert.ok(resolved.ok);
  const made = makeKubernetesLock(resolved.config, 'me', () => 0, systemClock);
  await assert.rejects(made, {
    reason: 'invalid',
    message: /ha\.kubernetes_namespace is missing.*serviceaccount\/namespace/,
  });
});

test('an id that makes no name of a Lease needs one; names are those that Kubernetes takes', () => {
  const env = { ...HA, ...POD, LONGLINE_AGENT_ID: 'Host_1' };
  assert.match(problems(env), /ha\.kubernetes_lease.*longline-Host_1 is no name for a Lease/);
  assert.equal(problems({ ...env, LONGLINE_HA_KUBERNETES_LEASE: 'host-1.edge' }), '');
  for (const wrong of ['Host', 'a_b', '-a', 'a-', 'a..b', 'a'.repeat(254)]) {
    assert.match(problems({ ...env, LONGLINE_HA_KUBERNETES_LEASE: wrong }), /ha\.kubernetes_lease/, wrong);
  }
  for (const wrong of ['Edge', 'a.b', 'a'.repeat(64)]) {
    assert.match(
      problems({ ...HA, ...POD, LONGLINE_HA_KUBERNETES_NAMESPACE: wrong }),
      /ha\.kubernetes_namespace/,
      wrong,
    );
  }
});
