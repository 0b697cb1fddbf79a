// The lock on a real swarm: the contract of all locks, and what only a swarm can do to it. One engine for all; a second one joins
// for what a node may be. In this order, as the nodes go from no swarm to one that is locked and has lost its leader.
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { LeaseLock } from '../../../../src/core/lease-lock.ts';
import { parseEngineAddress } from '../../../../src/platform/docker/engine-address.ts';
import { LeaseService } from '../../../../src/platform/docker/swarm/lease-service.ts';
import { remoteLockContract } from '../../../contract/leader-lock-contract.ts';
import { call } from '../../../fixtures/engine-query.ts';
import { dockerMissing, startDocker, type TestEngine } from '../../../fixtures/engines.ts';
import { LosingEngine, type Loss } from '../../../fixtures/losing-engine.ts';
import {
  initSwarm,
  joinSwarm,
  promote,
  removeService,
  rewrite,
  type ServiceSpec,
  service,
  swarmState,
  untilManaged,
  untilState,
} from '../../../fixtures/swarm.ts';

const TTL_MS = 60_000;
const never = new AbortController().signal;
const NAME = 'longline-leader-a';

describe('lock by a Swarm service', { skip: dockerMissing() ?? false }, () => {
  let engine: TestEngine;
  let nowMs = 0;
  before(async () => {
    engine = await startDocker({ network: 'own' });
  });
  after(() => engine?.dispose());

  const lockAt = (host: string, holder: string, agentId = 'a', more: { service?: string } = {}) =>
    new LeaseLock(new LeaseService({ address: parseEngineAddress(host), agentId, ...more }), {
      ...{ holder, ttlMs: TTL_MS, elapsed: () => nowMs },
    });
  const lock = (holder: string, agentId?: string, more?: { service?: string }) =>
    lockAt(engine.host, holder, agentId, more);

  test('an engine in no swarm: says so, and what would be right', async () => {
    await using first = lock('one');
    await assert.rejects(first.acquire(0n, never), {
      reason: 'unavailable',
      message: /unix:.* is in no swarm: "docker swarm init"/,
    });
    await initSwarm(engine);
  });

  remoteLockContract('a Swarm service', async () => ({
    lock: (holder, agentId) => lock(holder, agentId),
    pass: async () => {
      nowMs += TTL_MS;
    },
    forget: async () => {
      const services = (await call(engine.socketPath, 'GET', '/services')) as { ID: string }[];
      for (const { ID } of services) await removeService(engine, ID);
    },
    away: () => engine.kill9(),
    back: async () => {
      await engine.restart();
      await untilManaged(engine);
    },
    [Symbol.asyncDispose]: async () => undefined,
  }));

  test('nothing runs; each renewal is another version; what operators set stays', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    await rewrite(engine, NAME, (spec) => ({ ...spec, Labels: { ...spec.Labels, team: 'edge' } }));
    const before = await service(engine, NAME);
    assert.equal(await first.renew(1n, never), true);
    const after = await service(engine, NAME);
    assert.ok(after.Version.Index > before.Version.Index, 'although it says the same');
    assert.deepEqual(after.Spec, before.Spec);
    assert.deepEqual(after.Spec.Labels, {
      'longline.leader.agent': 'a',
      'longline.leader.holder': 'one',
      'longline.leader.epoch': '1',
      'longline.leader.ttl_ms': String(TTL_MS),
      team: 'edge',
    });
    assert.deepEqual(after.Spec['Mode'], { Replicated: { Replicas: 0 } });
    assert.deepEqual(await call(engine.socketPath, 'GET', '/tasks'), []);
  });

  test('a rollback of the lock by an operator: the leader writes its hold again', async () => {
    await using first = lock('one');
    const { epoch } = await first.acquire(1n, never);
    await first.release(epoch!, never);
    await using second = lock('two');
    const next = await second.acquire(epoch!, never);
    await rewrite(engine, NAME, (spec) => spec, '&rollback=previous');
    assert.equal((await service(engine, NAME)).Spec.Labels['longline.leader.epoch'], String(epoch));
    assert.equal(await second.renew(next.epoch!, never), true);
    assert.equal((await service(engine, NAME)).Spec.Labels['longline.leader.holder'], 'two');
    await removeService(engine, NAME);
  });

  test('a service that is no lock, or the lock of another agent, is refused and not written to', async () => {
    const Labels = { purpose: 'web' };
    const spec = {
      ...{ Name: 'web', Labels, Mode: { Replicated: { Replicas: 0 } } },
      TaskTemplate: { ContainerSpec: { Image: 'web:1' } },
    };
    await call(engine.socketPath, 'POST', '/services/create', spec);
    const { Version } = await service(engine, 'web');
    await using first = lock('one', 'a', { service: 'web' });
    const refused = { reason: 'already_exists', message: /Swarm service web is no lock .*ha\.swarm_service/ };
    await assert.rejects(first.acquire(0n, never), refused);
    await assert.rejects(first.renew(1n, never), refused);
    assert.deepEqual((await service(engine, 'web')).Version, Version);
    await using other = lock('two', 'b', { service: 'shared' });
    await other.acquire(0n, never);
    await using wrong = lock('three', 'a', { service: 'shared' });
    await assert.rejects(wrong.acquire(0n, never), { reason: 'already_exists', message: /is the lock of agent "b"/ });
  });

  test('a label that tells no epoch is an error with the mend, which works', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    const garbled = (spec: ServiceSpec) => ({ ...spec, Labels: { ...spec.Labels, 'longline.leader.epoch': 'many' } });
    await rewrite(engine, NAME, garbled);
    const told = { reason: 'unavailable', message: /longline\.leader\.epoch is "many".*docker service rm/ };
    await assert.rejects(first.renew(1n, never), told);
    await removeService(engine, NAME);
    assert.equal(await first.renew(1n, never), true);
    await removeService(engine, NAME);
  });

  test('a write whose answer was lost, and one that comes late', async () => {
    let loss: Loss = { kind: 'pass' };
    const decide = ({ method }: IncomingMessage): Loss => (method === 'POST' ? loss : { kind: 'pass' });
    await using losing = await LosingEngine.start(engine, decide);
    await using first = lockAt(losing.host, 'one');
    await using second = lock('two');
    const lost = { reason: 'unavailable' };
    loss = { kind: 'answer' };
    await assert.rejects(first.acquire(0n, never), lost);
    assert.deepEqual(
      await second.acquire(0n, never),
      { kind: 'taken', holder: 'one', epoch: 1n },
      'it was carried out',
    );
    loss = { kind: 'pass' };
    assert.deepEqual(await first.acquire(0n, never), { kind: 'acquired', epoch: 2n }, 'nobody waits for a period');
    loss = { kind: 'answer' };
    await assert.rejects(first.renew(2n, never), lost);
    loss = { kind: 'pass' };
    assert.equal(await first.renew(2n, never), true);
    // This one is carried out once another leads: the swarm must refuse it.
    loss = { kind: 'late', ms: 300 };
    await assert.rejects(first.renew(2n, never), lost);
    await second.acquire(2n, never);
    nowMs += TTL_MS;
    assert.deepEqual(await second.acquire(2n, never), { kind: 'acquired', epoch: 3n });
    await losing.settled();
    assert.equal((await service(engine, NAME)).Spec.Labels['longline.leader.holder'], 'two');
    assert.equal(await second.renew(3n, never), true);
    loss = { kind: 'pass' };
    assert.equal(await first.renew(2n, never), false);
    await second.release(3n, never);
  });

  test('a worker, a second manager, a locked swarm, and one without most of its managers', async () => {
    await using other = await startDocker({ network: engine });
    await joinSwarm(other, engine);
    const { NodeID } = await swarmState(other);
    await using there = lockAt(other.host, 'there');
    await assert.rejects(there.acquire(3n, never), {
      reason: 'unavailable',
      message: new RegExp(`is a worker \\(node ${NodeID}\\): "docker node promote ${NodeID}"`),
    });
    await promote(other, engine);
    await using here = lock('here');
    assert.equal((await here.acquire(3n, never)).epoch, 4n);
    assert.deepEqual(await there.acquire(4n, never), { kind: 'taken', holder: 'here', epoch: 4n });
    await here.release(4n, never);
    assert.deepEqual(await there.acquire(4n, never), { kind: 'acquired', epoch: 5n });
    assert.equal(await here.renew(4n, never), false);

    const { Version, Spec } = (await call(engine.socketPath, 'GET', '/swarm')) as Awaited<ReturnType<typeof service>>;
    const locked = { ...Spec, EncryptionConfig: { AutoLockManagers: true } };
    await call(engine.socketPath, 'POST', `/swarm/update?version=${Version.Index}`, locked);
    const key = await call(engine.socketPath, 'GET', '/swarm/unlockkey');
    await other.kill9();
    await engine.kill9();
    await engine.restart();
    await untilState(engine, ({ LocalNodeState }) => LocalNodeState === 'locked');
    await assert.rejects(here.acquire(5n, never), {
      reason: 'unavailable',
      message: /is locked: "docker swarm unlock"/,
    });
    // Half of the managers are no quorum: not even the unlocking is answered, and whatever else is asked is an error.
    call(engine.socketPath, 'POST', '/swarm/unlock', key).catch(() => undefined);
    const told = async () => {
      const error = await here.acquire(5n, AbortSignal.timeout(500)).then(String, (reason: unknown) => reason);
      assert.ok(error instanceof Error, `answered with ${error}`);
      return error.message;
    };
    for (const endsAt = performance.now() + 30_000; /is locked/.test(await told()); ) {
      assert.ok(performance.now() < endsAt, 'it stays locked');
    }
    await told();
  });
});
