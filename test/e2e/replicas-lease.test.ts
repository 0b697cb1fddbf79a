// Two replicas of one agent that elect by a Lease, on an API server as strict as can be: what a pod is told is all that they need, kubectl
// would show who leads, and both ways to end a leader hand over within what the documentation promises.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { KubernetesApi } from '../fixtures/kubernetes-api.ts';

const ID = 'leased';
const KEY = `longline/longline-${ID}`;

interface StatusView {
  readonly leadership: { readonly role: string; readonly epoch: number; readonly leader: string | null };
}

interface Replica {
  readonly agent: TestAgent;
  readonly socket: string;
}

describe('replicas by a Lease', () => {
  let api: KubernetesApi;
  let fleet: Fleet;
  const replicas: Replica[] = [];
  before(async () => {
    api = await KubernetesApi.start();
    const { host, port, tokenFile, caFile } = api.place;
    fleet = await startFleet({
      environment: {
        // The first two are those of Kubernetes.
        ...{ KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: String(port) },
        ...{ LONGLINE_HA_KUBERNETES_TOKEN_FILE: tokenFile, LONGLINE_HA_KUBERNETES_CA_FILE: caFile },
        ...{
          LONGLINE_HA_KUBERNETES_NAMESPACE: 'longline',
          LONGLINE_HA_LEASE_TTL: '3s',
          LONGLINE_HA_RENEW_INTERVAL: '1s',
        },
        ...{ ENABLE_HA: 'true', LEADER_ELECTION_BACKEND: 'kubernetes' },
      },
    });
    const token = await fleet.token();
    for (const name of ['a', 'b']) {
      const socket = join(fleet.folder, `${name}.sock`);
      const agent = fleet.agent(ID, ['--local-socket', socket]);
      replicas.push({ agent, socket });
      agent.start(['--token', token]);
    }
  });
  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await api?.[Symbol.asyncDispose]();
    assert.deepEqual(api?.violations, []);
  });

  const told = () => replicas.map(({ agent }) => agent.command.stderr).join('\n---\n');
  /** Who the Lease says leads, in a later epoch than the one before. */
  const leader = async (afterEpoch = 0) =>
    await fleet.until(
      `a leader after epoch ${afterEpoch}`,
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        const lease = api.leases.get(KEY);
        const epoch = Number(lease?.['metadata'].annotations['longline.agent/epoch'] ?? 0);
        const holder = String(lease?.['spec'].holderIdentity ?? '');
        return epoch > afterEpoch && holder !== '' ? { epoch, holder, atMs: performance.now() } : undefined;
      },
      told,
    );
  const status = async ({ socket }: Replica) => {
    const outcome = await fleet.longline('status', '--socket', socket, '--json');
    return outcome.code === 0 ? outcome.json<StatusView>().leadership : undefined;
  };
  /** Resolves with the replica that leads, once all that run say that the holder does. */
  const leading = async (epoch: number, holder: string, running: readonly Replica[]) =>
    await fleet.until(
      `all say that ${holder} leads`,
      async () => {
        const views = await Promise.all(running.map(status));
        const leaders = running.filter((_, index) => views[index]?.role === 'leader');
        assert.ok(leaders.length <= 1, 'never two leaders');
        return views.every((view) => view?.epoch === epoch && view.leader === holder) ? leaders[0] : undefined;
      },
      told,
    );

  test('one leads and the other knows who; after a kill -9 the other leads, and so it does after a stop', async () => {
    const first = await leader();
    const killed = await leading(first.epoch, first.holder, replicas);
    const standby = replicas.find((replica) => replica !== killed)!;
    await killed.agent.online();
    const killedAtMs = performance.now();
    await killed.agent.kill9();
    const second = await leader(first.epoch);
    assert.ok(second.atMs - killedAtMs < 15_000, `took ${second.atMs - killedAtMs} ms`);
    assert.equal(await leading(second.epoch, second.holder, [standby]), standby);
    killed.agent.start();
    assert.equal(await leading(second.epoch, second.holder, replicas), standby);
    await standby.agent.stop();
    const third = await leader(second.epoch);
    assert.equal(await leading(third.epoch, third.holder, [killed]), killed);
    assert.equal(third.epoch, second.epoch + 1);
  });
});
