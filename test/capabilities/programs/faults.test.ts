import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import { type ArtifactDraft, applyFull, ProgramsWorld, spec, until, untilLife } from './programs-fixture.ts';

interface Fault {
  readonly what: string;
  readonly artifact?: ArtifactDraft;
  readonly spec?: Parameters<typeof spec>[2];
  readonly world?: (world: ProgramsWorld, digest: string) => void;
  readonly before?: (world: ProgramsWorld) => void;
  readonly field: string;
  readonly reason: LonglineError['reason'];
  readonly message: RegExp;
}

const FAULTS: readonly Fault[] = [
  {
    what: 'an artifact that is nowhere',
    world: (world) => world.artifacts.clear(),
    ...{ field: 'fetch', reason: 'not_found', message: /sha256/ },
  },
  {
    what: 'bytes that are no artifact',
    world: (world, digest) => world.artifacts.set(digest, Buffer.from('nothing of the kind')),
    ...{ field: 'artifact', reason: 'invalid', message: /zstd|artifact/ },
  },
  {
    what: 'an artifact that expired',
    artifact: { more: { expireTime: '2020-01-01T00:00:00Z' } },
    ...{ field: 'signature', reason: 'policy', message: /expired at 2020/ },
  },
  {
    what: 'a kernel that is too old',
    artifact: { more: { minimumKernel: '99.1' } },
    ...{ field: 'artifact', reason: 'unsupported', message: /99\.1.*6\.18/ },
  },
  {
    what: 'an object that is another than the metadata says',
    artifact: { more: { objectSha256: 'f'.repeat(64) } },
    ...{ field: 'artifact', reason: 'invalid', message: /object/ },
  },
  {
    what: 'a parameter that there is not',
    spec: { parameters: { lmit: '3' } },
    ...{ field: 'parameters.lmit', reason: 'invalid', message: /has limit/ },
  },
  {
    what: 'a parameter of another type',
    spec: { parameters: { limit: 'many' } },
    ...{ field: 'parameters.limit', reason: 'invalid', message: /many/ },
  },
  {
    what: 'a variable that the object has not',
    artifact: { variables: [] },
    spec: { parameters: { limit: '3' } },
    ...{ field: 'parameters.limit', reason: 'invalid', message: /variable/ },
  },
  {
    what: 'a place that no function can go to',
    spec: { attach: ['tc:eth0:ingress'] },
    ...{ field: 'attach[0]', reason: 'invalid', message: /no function can go to/ },
  },
  {
    what: 'a type that this kernel has not',
    before: ({ host }) => host.missingTypes.set('xdp', 'this kernel was built without it'),
    ...{ field: 'attach', reason: 'unsupported', message: /built without it/ },
  },
  {
    what: 'an interface that is not there',
    world: ({ host }) => host.remove('eth0'),
    ...{ field: 'attach[0]', reason: 'not_found', message: /eth0/ },
  },
  {
    what: 'missing privileges',
    world: ({ kernel }) => kernel.failNext('load', new LonglineError('policy', 'needs CAP_BPF'), { times: 99 }),
    ...{ field: 'kernel', reason: 'policy', message: /CAP_BPF/ },
  },
  {
    what: 'the verifier',
    artifact: { verifierLog: 'unbounded memory access' },
    ...{ field: 'verifier', reason: 'invalid', message: /unbounded/ },
  },
];

describe('a program that can not be had', () => {
  for (const fault of FAULTS) {
    it(`because of ${fault.what} says so, and leaves nothing behind`, async () => {
      await using world = new ProgramsWorld();
      fault.before?.(world);
      const capability = await world.start();
      const digest = await world.artifact(fault.artifact);
      fault.world?.(world, digest);
      await applyFull(capability, 1, [spec('counter', digest, fault.spec)]);
      const view = await untilLife(capability, 'counter', 'failed');
      const problem = view.problems.find(({ error }) => error.reason === fault.reason);
      assert.deepEqual([problem?.field, problem?.error.reason], [fault.field, fault.reason]);
      assert.match(problem!.error.message, fault.message);
      await world.settle();
      assert.deepEqual([world.host.revisions.size, world.host.attachments.size], [0, 0]);
      assert.deepEqual(
        world.changes.map(({ what }) => what).filter((what) => what !== 'rolled_back'),
        ['error'],
      );
      assert.ok(world.events.some(({ type }) => type === 'program.error'));
      const told = await until('it is told', () => world.observations.at(-1));
      assert.deepEqual(
        told.items.map(({ item }) => item),
        ['counter'],
      );
      assert.equal((await capability.health()).ok, false);
    });
  }

  it('is tried again at growing intervals, and told once', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const digest = await world.artifact();
    const bytes = world.artifacts.get(digest)!;
    world.artifacts.clear();
    await applyFull(capability, 1, [spec('counter', digest)]);
    await untilLife(capability, 'counter', 'failed');
    await world.pass(600_000, 100);
    assert.equal(world.changes.length, 1);
    world.artifacts.set(digest, bytes);
    await until('it is there', async () => {
      await world.pass(10_000);
      return capability.look().find(({ life }) => life.kind === 'probation' || life.kind === 'active');
    });
  });
});

describe('an interface that goes while something is attached', () => {
  it('is told, and attached to again when it is back', async () => {
    await using world = new ProgramsWorld({ defaultTtlMs: 0 });
    const capability = await world.start();
    await applyFull(capability, 1, [spec('counter', await world.artifact(), { attach: ['xdp:eth0', 'xdp:eth1'] })]);
    await untilLife(capability, 'counter', 'probation');
    await world.pass(61_000, 6);
    world.host.remove('eth1');
    await world.pass(11_000);
    const view = await until('it is told', () => capability.look().find(({ problems }) => problems.length > 0));
    assert.equal(view.problems[0]?.field, 'attach[1]');
    assert.equal(view.life.kind, 'active', 'it runs elsewhere');
    world.host.remove('eth0');
    await world.pass(11_000);
    await until('it runs nowhere', async () => {
      await world.pass(5_000);
      return capability.look().find(({ life }) => life.kind === 'detached');
    });
    world.host.restore('eth0');
    world.host.restore('eth1');
    await until('it runs again', async () => {
      await world.pass(5_000);
      return capability.look().find(({ life, problems }) => life.kind === 'active' && problems.length === 0);
    });
    assert.equal(world.host.runningAt('xdp:eth0').length, 1);
    assert.equal(world.host.runningAt('xdp:eth1').length, 1);
    assert.equal(capability.look()[0]?.current?.number, 1, 'what was loaded is still the same');
  });
});

describe('a kernel that has nothing for programs', () => {
  it('is told with the reason and the mend', async () => {
    await using world = new ProgramsWorld();
    world.host.missing = 'bpffs is not mounted';
    const { availability } = await world.open();
    assert.ok(!availability.available);
    assert.match(availability.reason, /bpffs/);
    assert.match(availability.mend, /CAP_BPF/);
  });

  it('says which types there are, and why others are not', async () => {
    await using world = new ProgramsWorld();
    world.host.missingTypes.set('lsm', 'not in the list of security modules');
    const { availability } = await world.open();
    assert.ok(availability.available);
    assert.deepEqual(availability.limits, { max_programs: 10 });
    assert.ok(availability.attributes['types']?.split(',').includes('xdp'));
    assert.match(availability.attributes['missing_types'] ?? '', /lsm: not in the list/);
  });
});

describe('what is found at the start', () => {
  it('goes if nobody knows what it is for, and foreign things stay', async () => {
    await using world = new ProgramsWorld();
    const first = await world.start();
    await applyFull(first, 1, [spec('counter', await world.artifact())]);
    await untilLife(first, 'counter', 'probation');
    await world.letGo();
    for (const key of [...world.state.values.keys()]) world.state.values.delete(key);
    const { FakeKernel } = await import('../../fixtures/fake-kernel-programs.ts');
    const foreign = new FakeKernel(world.host, 'somebody-else');
    const [mine] = [...world.host.revisions];
    world.host.revisions.add({ ...mine!, instance: 'somebody-else', place: { program: 'theirs', revision: 1 } });
    await world.start();
    await until('ours is gone', () => (world.host.revisions.size === 1 ? true : undefined));
    assert.equal((await foreign.list()).length, 1);
    assert.equal(world.host.attachments.size, 0);
  });

  it('is mended if a kill left it half loaded', async () => {
    await using world = new ProgramsWorld();
    const first = await world.start();
    const artifact = await world.artifact();
    world.kernel.killIn('load', 'midway');
    await applyFull(first, 1, [spec('counter', artifact)]);
    await until('it is killed', () => (world.kernel.killed ? true : undefined));
    await world.letGo();
    const second = await world.start();
    await untilLife(second, 'counter', 'probation');
    assert.deepEqual(
      [...world.host.revisions].map(({ functions }) => functions.length),
      [1],
    );
  });

  it('is gone on with although a record of it is damaged', async () => {
    await using world = new ProgramsWorld();
    const first = await world.start();
    await applyFull(first, 1, [spec('counter', await world.artifact())]);
    await untilLife(first, 'counter', 'probation');
    await world.letGo();
    world.state.values.set('program/counter', Buffer.from('{ no JSON'));
    const second = await world.start();
    await untilLife(second, 'counter', 'probation');
    assert.equal(world.host.runningAt('xdp:eth0').length, 1);
  });
});
