// Replicas of one agent as on several hosts: a data folder, a key and a certificate for each, and Redis to elect by. One is
// killed, one is revoked, and in the end Redis and all folders are lost: whoever is left is let in by the controller. And two that
// share a folder, of which the leader is stopped: the other ends it and goes on.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { missingRedis, RedisServer } from '../fixtures/redis-server.ts';

const ID = 'spread';

interface AgentView {
  readonly state: string;
  readonly instance_id: string;
  readonly certificates: readonly { readonly serial: string; readonly instance_id: string }[];
}

interface LogLine {
  readonly msg: string;
  readonly epoch?: string;
}

/** What would be one host's. */
class Replica {
  readonly agent: TestAgent;
  readonly folder: string;

  constructor(fleet: Fleet, id: string, folder: string, redisUrl: string) {
    this.folder = join(fleet.folder, folder);
    const ha = ['--enable-ha', '--leader-election-backend', 'redis', '--redis-url', redisUrl];
    this.agent = fleet.agent(id, ['--data-dir', this.folder, ...ha]);
  }

  async instanceId(): Promise<string> {
    return (await readFile(join(this.folder, 'instance-id'), 'utf8')).trim();
  }

  /** Where its process says that it stands: the epoch that it leads in, with its link open. */
  get stands(): 'starting' | 'standby' | 'leading' | bigint {
    let stands: 'starting' | 'standby' | 'leading' | bigint = 'starting';
    let epoch = 0n;
    const { stderr, running } = this.agent.command;
    if (!running) return 'starting';
    for (const text of stderr
      .slice(0, stderr.lastIndexOf('\n'))
      .split('\n')
      .filter((line) => line.startsWith('{'))) {
      const { msg, epoch: told = '0' } = JSON.parse(text) as LogLine;
      if (msg === 'this replica stands by' || msg === 'this replica no longer leads') stands = 'standby';
      if (msg === 'this replica leads') [stands, epoch] = ['leading', BigInt(told)];
      if (msg === 'link is open') stands = epoch;
    }
    return stands;
  }
}

describe('replicas with Redis', { skip: missingRedis ?? false }, () => {
  let redis: RedisServer;
  let fleet: Fleet;
  let replicas: Replica[];
  const known = async () => (await fleet.longline('agents', 'get', ID, '--json')).json<AgentView>();
  const until = async <T>(what: string, found: () => T | undefined): Promise<T> =>
    await fleet.until(
      what,
      async () => {
        await pause(20);
        return found();
      },
      () => replicas.map(({ agent }) => agent.command.stderr.slice(-4000)).join('\n---\n'),
    );
  const standby = async () => await until('a standby', () => replicas.find(({ stands }) => stands === 'standby'));
  /** Whoever leads in a later epoch, with its link open. */
  const leader = async (afterEpoch = 0n) => {
    const found = await until(`a leader after epoch ${afterEpoch}`, () => {
      const replica = replicas.find(({ stands }) => typeof stands === 'bigint' && stands > afterEpoch);
      return replica === undefined ? undefined : { replica, epoch: replica.stands as bigint };
    });
    return { ...found, instanceId: await found.replica.instanceId() };
  };

  before(async () => {
    redis = await RedisServer.start();
    const environment = { LONGLINE_HA_LEASE_TTL: '2s', LONGLINE_HA_RENEW_INTERVAL: '500ms' };
    fleet = await startFleet({ environment });
    replicas = ['host-a', 'host-b'].map((folder) => new Replica(fleet, ID, folder, redis.url));
    const token = await fleet.token('--agent-id', ID, '--uses', '3');
    for (const { agent } of replicas) agent.start(['--token', token]);
  });
  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    await redis?.[Symbol.asyncDispose]();
  });

  test('each has a certificate of its own, by a token that is bound to the id; another token gives none', async () => {
    const stranger = new Replica(fleet, ID, 'stranger', redis.url);
    const first = await leader();
    const other = await standby();
    stranger.agent.start(['--token', await fleet.token('--uses', '5')]);
    const outcome = await stranger.agent.command.outcome();
    assert.notEqual(outcome.code, 0);
    assert.match(outcome.stderr, /belongs to a live agent .*token create --agent-id spread/);
    const { certificates, instance_id: linked } = await known();
    const holders = certificates.map(({ instance_id }) => instance_id).toSorted();
    assert.deepEqual(holders, [first.instanceId, await other.instanceId()].toSorted());
    assert.equal(linked, first.instanceId);
  });

  test('the leader is killed: the other leads, and is let in with its own certificate', async () => {
    const first = await leader();
    await first.replica.agent.kill9();
    const second = await leader(first.epoch);
    assert.notEqual(second.instanceId, first.instanceId);
    const { state, instance_id: linked } = await known();
    assert.deepEqual([state, linked], ['online', second.instanceId]);
    first.replica.agent.start();
    await standby();
  });

  test('the leader is revoked: it is refused and leaves the lead to the other, which goes on', async () => {
    const first = await leader();
    const revoked = await fleet.longline('agents', 'revoke', ID, '--replica', first.instanceId);
    assert.equal(revoked.code, 0, revoked.stderr);
    const second = await leader(first.epoch);
    assert.notEqual(second.instanceId, first.instanceId);
    assert.match(
      first.replica.agent.command.stderr,
      /replica [0-9a-f-]+ of agent spread was revoked.*no longer accepted.*gives up the lead/s,
    );
    const { state, certificates } = await known();
    assert.equal(state, 'online');
    assert.deepEqual(new Set(certificates.map(({ instance_id }) => instance_id)), new Set([second.instanceId]));
    await first.replica.agent.stop();
  });

  test('Redis and the data folders are lost: a new replica learns the epoch from the controller and leads above it', async () => {
    const last = await leader();
    await last.replica.agent.kill9();
    await redis.kill();
    await redis.resume();
    const fresh = new Replica(fleet, ID, 'host-fresh', redis.url);
    fresh.agent.start(['--token', await fleet.token('--agent-id', ID)]);
    replicas = [fresh];
    const next = await leader(last.epoch);
    // One term that is refused, and one above it: what Redis counts from one on would take more.
    const { stderr } = fresh.agent.command;
    const led = Array.from(stderr.matchAll(/"epoch":"([0-9]+)"[^\n]*"this replica leads"/g), ([, told]) =>
      BigInt(told!),
    );
    assert.equal(led.length, 2, `${led}`);
    assert.ok(led[0]! <= last.epoch && led[1] === next.epoch, `${led} after ${last.epoch}`);
    assert.match(
      stderr,
      new RegExp(`epoch ${led[0]} is over or another's, epoch ${last.epoch} was seen.*gives up the lead`, 's'),
    );
    assert.deepEqual((await readdir(join(fresh.folder, 'leader-epochs'))).map(BigInt), [next.epoch]);
    assert.equal((await known()).instance_id, next.instanceId);
    await fresh.agent.stop();
  });

  test('a leader that is stopped keeps a shared folder: the next one ends it, and acts', async () => {
    replicas = ['one', 'other'].map(() => new Replica(fleet, 'sharing', 'shared', redis.url));
    const token = await fleet.token();
    for (const { agent } of replicas) agent.start(['--token', token]);
    const first = await leader();
    await standby();
    const { command } = first.replica.agent;
    const ended = command.outcome();
    command.process.kill('SIGSTOP');
    try {
      const second = await leader(first.epoch);
      const { signal, stderr } = await ended;
      assert.equal(signal, 'SIGKILL');
      assert.doesNotMatch(stderr, /no longer leads/);
      const words = /"process":([0-9]+),"epoch":"([0-9]+)","msg":"[^"]*its process was ended"/;
      const told = words.exec(second.replica.agent.command.stderr);
      assert.deepEqual(told?.slice(1), [String(command.process.pid), String(first.epoch)]);
    } finally {
      command.process.kill('SIGCONT');
    }
  });
});
