// The lock on a Lease, beyond what the contract of all locks says: what kubectl and other tools find in it, whose it may be, and what is
// told of each thing that an API server refuses, breaks or never says.
import assert from 'node:assert/strict';
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import type { LeaderLock } from '../../../src/core/leader-lock.ts';
import { LeaseLock } from '../../../src/core/lease-lock.ts';
import { KubernetesLeaseStore, type LeaseStoreOptions } from '../../../src/platform/kubernetes/lease-store.ts';
import { type ApiFault, KubernetesApi } from '../../fixtures/kubernetes-api.ts';
import { makePki } from '../../link/certificates.ts';

const TTL_MS = 10_000;
const KEY = 'longline/longline-a';
const never = new AbortController().signal;

let api: KubernetesApi;
let nowMs = 0;
/** Where the wall clock is; it stands still. */
const WALL = Date.parse('2026-02-03T04:05:06.789Z');
before(async () => {
  api = await KubernetesApi.start();
});
after(() => api?.[Symbol.asyncDispose]());
beforeEach(async () => {
  nowMs = 0;
  api.leases.clear();
  api.asked.length = 0;
  api.fault = () => undefined;
  await api.rotate();
});
afterEach(() => assert.deepEqual(api.violations.splice(0), []));

function lock(holder: string, init: Partial<LeaseStoreOptions> = {}): LeaderLock {
  const elapsed = () => nowMs;
  const store = new KubernetesLeaseStore({
    ...{ ...api.place, namespace: 'longline', name: 'longline-a', agentId: 'a' },
    ...{ ttlMs: TTL_MS, timeoutMs: 60_000, elapsed, now: () => WALL, ...init },
  });
  return new LeaseLock(store, { holder, ttlMs: init.ttlMs ?? TTL_MS, elapsed });
}

describe('what stands in the Lease', () => {
  const T = '2026-02-03T04:05:06.789';

  test('what kubectl and other software read of a holder; the wall clock may stand still', async () => {
    await using first = lock('host-1/7/uuid');
    assert.deepEqual(
      await first.acquire(4n, never),
      { kind: 'taken' },
      'a cluster that knows of no epoch, though we do',
    );
    nowMs += TTL_MS;
    assert.deepEqual(await first.acquire(4n, never), { kind: 'acquired', epoch: 5n });
    const made = api.leases.get(KEY)!;
    assert.deepEqual(made['spec'], {
      ...{ holderIdentity: 'host-1/7/uuid', leaseDurationSeconds: 10, leaseTransitions: 5 },
      ...{ acquireTime: `${T}000Z`, renewTime: `${T}000Z` },
    });
    const { labels, annotations } = made['metadata'];
    assert.deepEqual(labels, { 'app.kubernetes.io/managed-by': 'longline', 'longline.agent/id': 'a' });
    assert.deepEqual(annotations, { 'longline.agent/id': 'a', 'longline.agent/epoch': '5' });
    assert.equal(await first.renew(5n, never), true);
    assert.equal(api.leases.get(KEY)!['spec'].renewTime, `${T}001Z`, 'each renewal is a change, so that it is seen');
    assert.equal(api.leases.get(KEY)!['spec'].acquireTime, `${T}000Z`);
    await first.release(5n, never);
    assert.equal(api.leases.get(KEY)!['spec'].holderIdentity, '');
    assert.equal(api.leases.get(KEY)!['metadata'].annotations['longline.agent/epoch'], '5');
  });

  test('what others wrote stays, and does not take the lead away', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    api.edit(KEY, ({ metadata, spec, ...lease }) => ({
      ...lease,
      metadata: {
        ...metadata,
        labels: { ...metadata.labels, team: 'edge' },
        finalizers: ['example.org/kept'],
        ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'u' }],
      },
      spec: { ...spec, strategy: 'OldestEmulationVersion' },
    }));
    assert.equal(await first.renew(1n, never), true);
    const { metadata, spec } = api.leases.get(KEY)!;
    assert.equal(metadata.labels.team, 'edge');
    assert.deepEqual(metadata.finalizers, ['example.org/kept']);
    assert.equal(spec.strategy, 'OldestEmulationVersion');
  });

  test('a duration is told in whole seconds that suffice; one that somebody took out is ours', async () => {
    await using first = lock('one', { ttlMs: 1200 });
    await first.acquire(0n, never);
    assert.equal(api.leases.get(KEY)!['spec'].leaseDurationSeconds, 2);
    await using second = lock('two', { ttlMs: 5000 });
    await second.acquire(0n, never);
    nowMs += 1999;
    assert.equal((await second.acquire(0n, never)).kind, 'taken');
    api.edit(KEY, ({ spec: { leaseDurationSeconds: _, ...spec }, ...lease }) => ({ ...lease, spec }));
    assert.equal((await second.acquire(0n, never)).kind, 'taken');
    nowMs += 4999;
    assert.equal((await second.acquire(0n, never)).kind, 'taken');
    nowMs += 1;
    assert.equal((await second.acquire(0n, never)).kind, 'acquired');
  });

  test('a duration beyond what any replica has keeps nobody from following for longer than that', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    api.edit(KEY, ({ spec, ...lease }) => ({ ...lease, spec: { ...spec, leaseDurationSeconds: 2 ** 31 - 1 } }));
    await using second = lock('two');
    await second.acquire(0n, never);
    nowMs += 599_999;
    assert.equal((await second.acquire(0n, never)).kind, 'taken');
    nowMs += 1;
    assert.equal((await second.acquire(0n, never)).kind, 'acquired');
  });

  test('an epoch whose annotation was taken away is counted by the transitions', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    await first.release(1n, never);
    api.edit(KEY, ({ spec, ...lease }) => ({ ...lease, spec: { ...spec, leaseTransitions: 9 } }));
    assert.deepEqual(await first.acquire(1n, never), { kind: 'acquired', epoch: 10n });
  });

  test('epochs beyond what a count of transitions holds go on, and so do ids that make no label', async () => {
    const agentId = `${'x'.repeat(70)}.`;
    await using first = lock('one', { agentId });
    await first.acquire(2n ** 40n, never);
    nowMs += TTL_MS;
    assert.deepEqual(await first.acquire(2n ** 40n, never), { kind: 'acquired', epoch: 2n ** 40n + 1n });
    await first.release(2n ** 40n + 1n, never);
    assert.deepEqual(await first.acquire(0n, never), { kind: 'acquired', epoch: 2n ** 40n + 2n });
    assert.equal(api.leases.get(KEY)!['spec'].leaseTransitions, 2 ** 31 - 1);
    assert.deepEqual(api.leases.get(KEY)!['metadata'].labels, { 'app.kubernetes.io/managed-by': 'longline' });
  });

  test("what is another agent's, or other software's, is left alone by name; one made beforehand for us is taken", async () => {
    await using other = lock('one', { agentId: 'b' });
    await other.acquire(0n, never);
    await using first = lock('two');
    await assert.rejects(first.acquire(0n, never), {
      reason: 'already_exists',
      message: /Lease longline\/longline-a is of agent b, held by one; name another in ha\.kubernetes_lease/,
    });
    const bare = { metadata: { name: 'longline-a', namespace: 'longline', uid: 'u' }, spec: {} };
    api.leases.set(KEY, { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', ...bare });
    api.edit(KEY, (lease) => ({ ...lease, spec: { holderIdentity: 'scheduler' } }));
    await assert.rejects(first.acquire(0n, never), {
      reason: 'already_exists',
      message: /not of Longline, held by scheduler/,
    });
    await assert.rejects(first.renew(1n, never), { reason: 'already_exists' });
    api.edit(KEY, ({ metadata, ...lease }) => ({
      ...lease,
      metadata: { ...metadata, annotations: { 'longline.agent/id': 'a' } },
      spec: {},
    }));
    assert.deepEqual(await first.acquire(0n, never), { kind: 'acquired', epoch: 1n });
  });

  test('an annotation that is no epoch is an error that names it', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    api.edit(KEY, ({ metadata, ...lease }) => {
      return {
        ...lease,
        metadata: { ...metadata, annotations: { ...metadata.annotations, 'longline.agent/epoch': '-1' } },
      };
    });
    await assert.rejects(first.renew(1n, never), { reason: 'wrong_state', message: /longline\.agent\/epoch is "-1"/ });
  });

  test('a Lease that was deleted between look and write is not written over, but made', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    let gone = false;
    api.fault = ({ method }) => {
      if (method === 'PUT' && !gone) gone = api.leases.delete(KEY);
      return undefined;
    };
    assert.equal(await first.renew(1n, never), true);
    assert.deepEqual(
      api.asked.slice(-4).map(({ method }) => method),
      ['GET', 'PUT', 'GET', 'POST'],
    );
  });
});

describe('what an API server refuses', () => {
  test('a token that was changed under us is read anew; one that is not known is an error that does not tell it', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    await api.rotate();
    assert.equal(await first.renew(1n, never), true);
    const tokenFile = join(api.tokenFile, '..', 'wrong');
    await writeFile(tokenFile, 'herring');
    await using second = lock('two', { tokenFile });
    await assert.rejects(second.acquire(0n, never), (error: LonglineError) => {
      assert.equal(error.reason, 'identity');
      assert.match(error.message, /answered 401.*ha\.kubernetes_token_file.*Unauthorized/);
      assert.doesNotMatch(error.message, /herring/);
      return true;
    });
    await writeFile(tokenFile, 'two\nlines');
    await assert.rejects(second.acquire(0n, never), { reason: 'wrong_state', message: /holds no token/ });
    await using third = lock('three', { tokenFile: '/nowhere/token' });
    await assert.rejects(third.acquire(0n, never), { message: /ha\.kubernetes_token_file can't be read.*ENOENT/ });
  });

  test('a verb that no rule allows is named, with the rule that is missing', async () => {
    const rule = 'verbs get, create, update on leases \\(coordination.k8s.io\\) in namespace longline';
    await using first = lock('one');
    await using second = lock('two');
    await api.rotate({ verbs: [] });
    await assert.rejects(first.acquire(0n, never), {
      reason: 'policy',
      message: new RegExp(`may not get Lease longline/longline-a.*${rule}`),
    });
    await api.rotate({ verbs: ['get'] });
    await assert.rejects(first.acquire(0n, never), {
      reason: 'policy',
      message: new RegExp(`may not create .*${rule}`),
    });
    await api.rotate({ verbs: ['get', 'create'] });
    await second.acquire(0n, never);
    await assert.rejects(second.renew(1n, never), {
      reason: 'policy',
      message: new RegExp(`may not update .*${rule}`),
    });
  });

  test('a namespace that is not there is named', async () => {
    await using first = lock('one', { namespace: 'elsewhere' });
    await assert.rejects(first.acquire(0n, never), { reason: 'not_found', message: /no namespace elsewhere; make it/ });
  });

  test('a server that asks to be left alone is, for as long as it says', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    api.fault = () => ({ kind: 'status', status: 429, reason: 'TooManyRequests', retryAfter: '2' });
    await assert.rejects(first.renew(1n, never), {
      reason: 'unavailable',
      retryAfterMs: 2000,
      message: /429.*for 2000 ms/,
    });
    api.fault = () => undefined;
    const { length } = api.asked;
    nowMs += 1999;
    await assert.rejects(first.renew(1n, never), { reason: 'unavailable' });
    assert.equal(api.asked.length, length);
    nowMs += 1;
    assert.equal(await first.renew(1n, never), true);
  });

  const rows: readonly (readonly [string, ApiFault, string, RegExp])[] = [
    [
      '500',
      { kind: 'status', status: 500, reason: 'InternalError' },
      'unavailable',
      /answered 500: it can not serve now/,
    ],
    [
      '429 that says no time',
      { kind: 'status', status: 429, reason: 'TooManyRequests' },
      'unavailable',
      /answered 429/,
    ],
    ['422', { kind: 'status', status: 422, reason: 'Invalid' }, 'invalid', /does not take Lease.*made to say 422/],
    ['409 for a question', { kind: 'status', status: 409, reason: 'Conflict' }, 'invalid', /answered 409/],
    [
      '404 of an API that has no Leases',
      { kind: 'status', status: 404, reason: 'NotFound' },
      'not_found',
      /has no Leases/,
    ],
    [
      'a redirect',
      { kind: 'redirect', location: 'https://example.net/x?secret' },
      'unavailable',
      /says 307, and redirects to https:\/\/example\.net\/x;/,
    ],
    ['a page of something before it', { kind: 'html' }, 'unavailable', /is no Kubernetes API server: it says 404/],
    ['a list', { kind: 'list' }, 'unavailable', /no JSON object/],
    ['something else than a Lease', { kind: 'pod' }, 'wrong_state', /gave a Pod/],
    ['more than there may be', { kind: 'huge' }, 'unavailable', /more than 1048576 bytes/],
    ['half an answer', { kind: 'cut' }, 'unavailable', /can't be reached: aborted|socket hang up/],
    ['no answer, as the connection breaks', { kind: 'lostQuestion' }, 'unavailable', /can't be reached/],
  ];
  test('whatever it says or does not say is told, is no answer, and is over when it is over', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    for (const [name, fault, reason, message] of rows) {
      api.fault = () => fault;
      for (const step of [
        () => first.renew(1n, never),
        () => first.acquire(1n, never),
        () => first.release(1n, never),
      ]) {
        await assert.rejects(step(), (error) => {
          assert.ok(error instanceof LonglineError, name);
          assert.equal(error.reason, reason, name);
          assert.match(error.message, message, name);
          assert.doesNotMatch(error.message, /secret|token-/, name);
          return true;
        });
      }
      api.fault = () => undefined;
      assert.equal(await first.renew(1n, never), true, name);
    }
  });

  test('a server that is silent is left when time is up, for a new connection', async () => {
    await using first = lock('one', { timeoutMs: 50 });
    api.fault = () => ({ kind: 'silent' });
    await assert.rejects(first.acquire(0n, never), { reason: 'late', message: /no answer within 50 ms/ });
    await using second = lock('two');
    const stop = new AbortController();
    api.fault = () => {
      stop.abort(new Error('time is up'));
      return { kind: 'silent' };
    };
    await assert.rejects(second.acquire(0n, stop.signal), /time is up/);
    api.fault = () => undefined;
    assert.equal((await second.acquire(0n, never)).kind, 'acquired');
  });

  test('a server of another authority is not told our token', async () => {
    const { authority } = await makePki();
    const caFile = join(api.caFile, '..', 'other.crt');
    await writeFile(caFile, authority);
    const { length } = api.asked;
    await using first = lock('one', { caFile });
    await assert.rejects(first.acquire(0n, never), { reason: 'unavailable', message: /certificate|signature/ });
    assert.equal(api.asked.length, length);
    await copyFile(api.caFile, caFile);
    assert.equal((await first.acquire(0n, never)).kind, 'acquired', 'the CA is read anew, too');
  });
});

describe('what is lost on the way', () => {
  test('a write whose answer was lost is found, and is no second term of somebody else', async () => {
    await using first = lock('one');
    api.fault = ({ method }) => (method === 'POST' ? { kind: 'lostAnswer' } : undefined);
    await assert.rejects(first.acquire(0n, never), { reason: 'unavailable' });
    await using second = lock('two');
    assert.deepEqual(await second.acquire(0n, never), { kind: 'taken', holder: 'one', epoch: 1n });
    assert.deepEqual(await first.acquire(0n, never), { kind: 'acquired', epoch: 2n });
    api.fault = ({ method }) => (method === 'PUT' ? { kind: 'lostAnswer' } : undefined);
    await assert.rejects(first.renew(2n, never), { reason: 'unavailable' });
    await assert.rejects(first.release(2n, never), { reason: 'unavailable' });
    api.fault = () => undefined;
    assert.equal((await second.acquire(2n, never)).kind, 'acquired', 'it was let go of');
    assert.equal(await first.renew(2n, never), false);
  });

  test('a write that is carried out late changes nothing that came after', async () => {
    await using first = lock('one');
    await first.acquire(0n, never);
    const { promise: when, resolve: carryOut } = Promise.withResolvers<void>();
    const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
    api.fault = ({ method }) => {
      if (method !== 'PUT') return undefined;
      arrive();
      return { kind: 'late', when };
    };
    const stop = new AbortController();
    const renewal = first.renew(1n, stop.signal);
    await arrived;
    stop.abort(new Error('time is up'));
    await assert.rejects(renewal, /time is up/);
    api.fault = () => undefined;
    await first.release(1n, never);
    await using second = lock('two');
    assert.equal((await second.acquire(1n, never)).kind, 'acquired');
    carryOut();
    assert.equal(await second.renew(2n, never), true);
    assert.equal(await first.renew(1n, never), false);
  });
});
