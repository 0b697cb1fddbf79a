// Replicas of one agent as on several hosts: a data folder, a key and a certificate for each, and Redis to elect by. One is
// killed, one is revoked, and in the end Redis and all folders are lost: whoever is left is let in by the controller.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { missingRedis, RedisServer } from '../fixtures/redis-server.ts';

const ID = 'spread';
const BOUND = ['--agent-id', ID] as const;

interface StatusView {
  readonly link_state: string;
  readonly leadership: { readonly role: string; readonly epoch: number };
}

interface AgentView {
  readonly state: string;
  readonly instance_id: string;
  readonly certificates: readonly { readonly serial: string; readonly instance_id: string }[];
}

/** What would be one host's. */
class Replica {
  readonly agent: TestAgent;
  readonly folder: string;
  readonly #fleet: Fleet;
  readonly #socket: string;

  constructor(fleet: Fleet, name: string, redisUrl: string) {
    this.#fleet = fleet;
    this.#socket = join(fleet.folder, `${name}.sock`);
    this.folder = join(fleet.folder, `host-${name}`);
    const ha = ['--enable-ha', '--leader-election-backend', 'redis', '--redis-url', redisUrl];
    this.agent = fleet.agent(ID, ['--data-dir', this.folder, '--local-socket', this.#socket, ...ha]);
  }

  async instanceId(): Promise<string> {
    return (await readFile(join(this.folder, 'instance-id'), 'utf8')).trim();
  }

  async status(): Promise<StatusView | undefined> {
    const outcome = await this.#fleet.longline('status', '--socket', this.#socket, '--json');
    return outcome.code === 0 ? outcome.json<StatusView>() : undefined;
  }
}

describe('replicas on several hosts', { skip: missingRedis ?? false }, () => {
  let redis: RedisServer;
  let fleet: Fleet;
  let replicas: Replica[];
  const told = () => replicas.map(({ agent }) => agent.command.stderr.slice(-4000)).join('\n---\n');
  const known = async () => (await fleet.longline('agents', 'get', ID, '--json')).json<AgentView>();
  const inRole = async (role: string, afterEpoch = 0) => {
    const found = await Promise.all(replicas.map(async (replica) => ({ replica, status: await replica.status() })));
    return found.find(({ status }) => status?.leadership.role === role && status.leadership.epoch > afterEpoch);
  };
  const standby = async () => (await fleet.until('a standby', async () => await inRole('standby'), told)).replica;
  /** Whoever leads in a later epoch, with its link open. */
  const leader = async (afterEpoch = 0) =>
    await fleet.until(
      `a leader after epoch ${afterEpoch}`,
      async () => {
        const found = await inRole('leader', afterEpoch);
        if (found?.status?.link_state !== 'open') return undefined;
        return { ...found.replica, ...found.status.leadership, instanceId: await found.replica.instanceId() };
      },
      told,
    );

  before(async () => {
    redis = await RedisServer.start();
    const environment = { LONGLINE_HA_LEASE_TTL: '2s', LONGLINE_HA_RENEW_INTERVAL: '500ms' };
    fleet = await startFleet({ environment });
    replicas = ['a', 'b'].map((name) => new Replica(fleet, name, redis.url));
    const token = await fleet.token(...BOUND, '--uses', '3');
    for (const { agent } of replicas) agent.start(['--token', token]);
  });
  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await redis?.[Symbol.asyncDispose]();
  });

  test('each has a certificate of its own, by a token that is bound to the id; another token gives none', async () => {
    const first = await leader();
    const other = await standby();
    const { certificates, instance_id: linked } = await known();
    const holders = certificates.map(({ instance_id }) => instance_id).toSorted();
    assert.deepEqual(holders, [first.instanceId, await other.instanceId()].toSorted());
    assert.equal(linked, first.instanceId);
    const stranger = new Replica(fleet, 'stranger', redis.url);
    stranger.agent.start(['--token', await fleet.token('--uses', '5')]);
    const outcome = await stranger.agent.command.outcome();
    assert.notEqual(outcome.code, 0);
    assert.match(outcome.stderr, /belongs to a live agent .*token create --agent-id spread/);
    assert.equal((await known()).certificates.length, 2);
  });

  test('the leader is killed: the other leads, and is let in with its own certificate', async () => {
    const first = await leader();
    await first.agent.kill9();
    const second = await leader(first.epoch);
    assert.notEqual(second.instanceId, first.instanceId);
    const { state, instance_id: linked } = await known();
    assert.deepEqual([state, linked], ['online', second.instanceId]);
    first.agent.start();
    await standby();
  });

  test('the leader is revoked: it is refused and leaves the lead to the other, which goes on', async () => {
    const first = await leader();
    const revoked = await fleet.longline('agents', 'revoke', ID, '--replica', first.instanceId);
    assert.equal(revoked.code, 0, revoked.stderr);
    const second = await leader(first.epoch);
    assert.notEqual(second.instanceId, first.instanceId);
    assert.match(first.agent.command.stderr, /gives up the lead.*replica .* was revoked/);
    const { state, certificates } = await known();
    assert.equal(state, 'online');
    assert.deepEqual(new Set(certificates.map(({ instance_id }) => instance_id)), new Set([second.instanceId]));
    await first.agent.stop();
  });

  test('Redis and the data folders are lost: a new replica learns the epoch from the controller and leads above it', async () => {
    const last = await leader();
    await last.agent.kill9();
    await redis.kill();
    await redis.resume();
    const fresh = new Replica(fleet, 'fresh', redis.url);
    replicas = [fresh];
    fresh.agent.start(['--token', await fleet.token(...BOUND)]);
    const next = await leader(last.epoch);
    assert.equal(next.epoch, last.epoch + 1);
    assert.match(fresh.agent.command.stderr, /"epoch":"1".*gives up the lead.*epoch 1 is over/s);
    assert.deepEqual((await readdir(join(fresh.folder, 'leader-epochs'))).map(Number), [next.epoch]);
    assert.equal((await known()).instance_id, next.instanceId);
  });
});
