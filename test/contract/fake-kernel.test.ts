import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { LonglineError } from '../../src/core/errors.ts';
import { FakeBpfHost, fakeObject } from '../fixtures/fake-bpf-host.ts';
import { FakeKernel, FakeKill } from '../fixtures/fake-kernel-programs.ts';
import { failsWith, kernelContract, loadedOf, loadRequest } from './kernel-contract.ts';

const INTERFACES = ['eth0', 'eth1'] as const;
const CGROUP = '/sys/fs/cgroup/web';

/** Has each program at the first interface count packets as those of test/fixtures/bpf do. */
function send(host: FakeBpfHost, packets: number): void {
  for (const place of host.runningAt(`xdp:${INTERFACES[0]}`)) {
    const limit = host.revision(place)?.writes.find((one) => one.kind === 'variable')?.value;
    for (let number = 0; number < packets; number++) {
      host.count(place, 1);
      if (limit !== undefined && number >= Number(limit.text)) host.count(place, 1, 'counters', '0', 8);
      host.run(place, 1, 100);
      if (place.program === 'teller') {
        const record = Buffer.alloc(16);
        record.writeBigUInt64LE(BigInt(number + 1));
        host.emit(place, 'events', record);
      }
    }
  }
}

kernelContract('fake', async () => {
  const host = new FakeBpfHost();
  host.remove('ll-absent0');
  host.remove(`${CGROUP}/absent`);
  const renew = async (what: string) => {
    host.remove(what);
    host.restore(what);
  };
  return {
    kernel: new FakeKernel(host, 'agent'),
    other: new FakeKernel(host, 'other'),
    interfaces: INTERFACES,
    cgroup: CGROUP,
    send: async (packets) => send(host, packets),
    renewInterface: async () => await renew(INTERFACES[1]),
    renewCgroup: async () => await renew(CGROUP),
    [Symbol.asyncDispose]: async () => host.reboot(),
  };
});

const PLACE = { program: 'counter', revision: 1 } as const;
const ORDER = {
  place: PLACE,
  function: 'count_packets',
  type: 'xdp',
  point: { kind: 'xdp', interface: 'eth0', mode: 'auto' },
  slot: 'main',
} as const;

test('fails before a call or after it, as often as it should', async () => {
  const kernel = new FakeKernel();
  kernel.failNext('load', new LonglineError('unavailable', 'not now'), { times: 2, about: /counter/ });
  loadedOf(await kernel.load(loadRequest('other', 1, 'xdp-counter')));
  for (let time = 0; time < 2; time++) {
    await assert.rejects(kernel.load(loadRequest('counter', 1, 'xdp-counter')), failsWith('unavailable', 'not now'));
  }
  loadedOf(await kernel.load(loadRequest('counter', 1, 'xdp-counter')));
  kernel.failNext('attach', new LonglineError('late', 'no answer'), { moment: 'after' });
  await assert.rejects(kernel.attach(ORDER), failsWith('late', 'no answer'));
  assert.deepEqual(kernel.host.runningAt('xdp:eth0'), [PLACE]);
});

test('is dead after a kill; the next on the host finds what was done', async () => {
  const host = new FakeBpfHost();
  const kernel = new FakeKernel(host);
  kernel.killIn('load', 'midway');
  await assert.rejects(kernel.load(loadRequest('counter', 1, 'xdp-counter')), FakeKill);
  await assert.rejects(kernel.list(), FakeKill);
  assert.ok(kernel.killed);
  const next = new FakeKernel(host);
  assert.deepEqual(await next.list(), [
    { program: 'counter', revisions: [{ place: PLACE, functions: [], maps: [] }], links: [] },
  ]);
  loadedOf(await next.load(loadRequest('counter', 1, 'xdp-counter')));
  await next.attach(ORDER);
  host.reboot();
  assert.deepEqual(await next.list(), []);
  assert.equal((await next.support()).bootId, 'boot-2');
});

test('waits until it is let go, or cancelled', async () => {
  const kernel = new FakeKernel();
  const letGo = kernel.hold('support');
  const abort = new AbortController();
  const slow = kernel.support();
  const cancelled = kernel.support(abort.signal);
  assert.equal(kernel.waiting, 2);
  abort.abort();
  await assert.rejects(cancelled, failsWith('cancelled', 'support'));
  assert.equal(kernel.waiting, 1);
  letGo();
  assert.equal((await slow).missing, undefined);
});

test('refuses with a log of the test, and what is not to be had', async () => {
  const kernel = new FakeKernel();
  kernel.refuseNext('first line\nR0 !read_ok', { about: /counter\/1/ });
  const outcome = await kernel.load(loadRequest('counter', 1, 'xdp-counter'));
  assert.ok(outcome.kind === 'refused');
  assert.equal(outcome.verifierLog, 'first line\nR0 !read_ok');
  kernel.host.missingTypes.set('xdp', 'no drivers');
  await assert.rejects(kernel.load(loadRequest('counter', 1, 'xdp-counter')), failsWith('unsupported', 'no drivers'));
  kernel.host.missing = 'needs CAP_BPF';
  await assert.rejects(kernel.load(loadRequest('counter', 1, 'xdp-counter')), failsWith('unsupported', 'CAP_BPF'));
});

test('takes objects that a test thinks up', async () => {
  const kernel = new FakeKernel();
  const object = fakeObject({ functions: [{ name: 'watch', type: 'lsm' }], maps: ['seen'], mark: 'second' });
  assert.notDeepEqual(object, fakeObject({ functions: [{ name: 'watch', type: 'lsm' }], maps: ['seen'] }));
  const functions = [{ name: 'watch', type: 'lsm', points: [] }] as const;
  const objectSha256 = createHash('sha256').update(object).digest('hex');
  const revision = loadedOf(
    await kernel.load({ ...loadRequest('watcher', 1, 'lsm'), object, objectSha256, functions }),
  );
  assert.deepEqual(
    revision.maps.map(({ name }) => name),
    ['seen'],
  );
});
