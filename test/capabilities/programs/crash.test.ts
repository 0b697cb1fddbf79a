import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ProgramsCapability } from '../../../src/capabilities/programs/capability.ts';
import type { ProgramsConfig } from '../../../src/capabilities/programs/config.ts';
import { isOver, isRunning } from '../../../src/capabilities/programs/lifecycle.ts';
import type { FakeBpfHost } from '../../fixtures/fake-bpf-host.ts';
import { applyFull, ProgramsWorld, spec, until, untilLife } from './programs-fixture.ts';

const TRACE = { name: 'count_calls', type: 'tracepoint', attach: ['tracepoint:syscalls:sys_enter_openat'] } as const;

/** What is on a host, for comparison. */
function picture(host: FakeBpfHost) {
  const links = [...host.attachments].map(
    ({ program, runs, gone }) => `${program}/${runs.owner.place.revision}${gone ? ' gone' : ''}`,
  );
  const revisions = [...host.revisions].map(
    ({ place, functions }) => `${place.program}/${place.revision} ${functions.length}`,
  );
  return { links: links.sort(), revisions: revisions.sort() };
}

/** Artifacts of a scenario. */
async function artifactsOf(world: ProgramsWorld) {
  return {
    xdp1: await world.artifact({ version: '1.0.0' }),
    xdp2: await world.artifact({ version: '2.0.0' }),
    trace1: await world.artifact({ version: '1.0.0', functions: [TRACE] }),
    trace2: await world.artifact({ version: '2.0.0', functions: [TRACE] }),
    tc: await world.artifact({ functions: [{ name: 'count_in', type: 'tc', attach: ['tc:eth1:ingress'] }] }),
    cgroup: await world.artifact({
      functions: [{ name: 'look', type: 'cgroup_skb', attach: ['cgroup:/sys/fs/cgroup/web'] }],
    }),
  };
}

type Names = Awaited<ReturnType<typeof artifactsOf>>;

const before = (names: Names) => [
  spec('gone', names.cgroup),
  spec('stays', names.tc),
  spec('trace', names.trace1),
  spec('xdp', names.xdp1),
];
const after = (names: Names) => [
  spec('new', names.cgroup),
  spec('stays', names.tc),
  spec('trace', names.trace2),
  spec('xdp', names.xdp2),
];

/** True if something of ours runs wherever it did before. */
function checkNoGap(host: FakeBpfHost): void {
  for (const place of ['xdp:eth0', 'tc:eth1:ingress', 'tracepoint:syscalls:sys_enter_openat']) {
    assert.ok(host.runningAt(place).length >= 1, `nothing runs at ${place}`);
  }
  assert.deepEqual(host.runningAt('tc:eth1:ingress'), [{ program: 'stays', revision: 1 }]);
}

interface Scenario {
  readonly config?: Partial<ProgramsConfig>;
  /** Time that passes from try to try. */
  readonly stepMs?: number;
  /** Brings the world to where the killed process begins. */
  prepare(world: ProgramsWorld, capability: ProgramsCapability, names: Names): Promise<void>;
  /** What the killed process was about; done again by the one after it as its sender would. */
  act(world: ProgramsWorld, capability: ProgramsCapability, names: Names): Promise<void>;
  /** True once it has come to where it should. */
  done(world: ProgramsWorld, capability: ProgramsCapability): boolean;
  /** What has to be true at any moment. */
  always?(world: ProgramsWorld): void;
  /** Between the two processes. */
  between?(world: ProgramsWorld): void;
  /** What has to be true in the end. */
  check(world: ProgramsWorld, capability: ProgramsCapability, names: Names): Promise<void>;
}

/** The same again and again, killed after one effect more each time, until it comes through. */
async function killEverywhere(scenario: Scenario): Promise<number> {
  for (let points = 0; ; points++) {
    await using world = new ProgramsWorld(scenario.config);
    const names = await artifactsOf(world);
    const first = await world.start();
    await scenario.prepare(world, first, names);
    world.onPoint = () => scenario.always?.(world);
    world.killAfter = points;
    await scenario.act(world, first, names).catch(() => undefined);
    await until('it is done or killed', () => (world.isKilled || scenario.done(world, first) ? true : undefined));
    await world.settle();
    const wasKilled = world.isKilled;
    await world.letGo();
    scenario.between?.(world);
    const second = await world.start();
    await scenario.act(world, second, names).catch(() => undefined);
    await until('the second process has done it', async () => {
      if (scenario.done(world, second)) return true;
      // Whatever has to be tried again is.
      await world.pass(scenario.stepMs ?? 5_000);
      return undefined;
    });
    await scenario.check(world, second, names);
    assert.equal(world.seen, undefined);
    if (!wasKilled) return points;
  }
}

/** True once the second state is there. */
function isAfter({ host }: ProgramsWorld, capability: ProgramsCapability): boolean {
  const views = capability.look();
  const versions = views.map(({ name, life, current }) => `${name} ${isRunning(life)} ${current?.version}`);
  const right = ['new true 1.0.0', 'stays true 1.0.0', 'trace true 2.0.0', 'xdp true 2.0.0'];
  return (
    JSON.stringify(versions) === JSON.stringify(right) &&
    [...host.revisions].every(({ place }) => place.program !== 'gone')
  );
}

const untilAll = async (capability: ProgramsCapability, ...names: string[]) => {
  for (const name of names) await untilLife(capability, name, 'probation', 'active');
};

describe('a process that is killed', () => {
  it('while programs come, change and go is followed by one that converges, and what runs is never without', async () => {
    const points = await killEverywhere({
      prepare: async (_world, capability, names) => {
        await applyFull(capability, 1, before(names));
        await untilAll(capability, 'gone', 'stays', 'trace', 'xdp');
      },
      act: async (_world, capability, names) => {
        await applyFull(capability, 2, after(names));
      },
      done: (world, capability) => isAfter(world, capability),
      always: ({ host }) => checkNoGap(host),
      check: async (world, capability) => {
        await untilAll(capability, 'new', 'stays', 'trace', 'xdp');
        const { links, revisions } = picture(world.host);
        assert.deepEqual(links, ['new/1', 'stays/1', 'trace/2', 'xdp/2']);
        assert.deepEqual(revisions, ['new/1 1', 'stays/1 1', 'trace/1 1', 'trace/2 1', 'xdp/1 1', 'xdp/2 1']);
        assert.deepEqual(
          world.kernel.calls.filter((call) => /^(detach|attach|replace|load|unload) stays/.test(call)),
          [],
        );
      },
    });
    assert.ok(points > 30, `${points} points are few for such a change`);
  });

  it('while a program is rolled back is followed by one that sees it through, and does so once', async () => {
    await killEverywhere({
      prepare: async (world, capability, names) => {
        await applyFull(capability, 1, [spec('xdp', names.xdp1)]);
        await untilLife(capability, 'xdp', 'probation');
        await world.pass(61_000, 10);
        await applyFull(capability, 2, [spec('xdp', names.xdp2)]);
        await until('it is updated', () => (capability.look()[0]?.current?.number === 2 ? true : undefined));
      },
      act: async (_world, capability, names) => {
        const request = { program: 'xdp', artifact: names.xdp2, reason: 'it drops too much', requestedBy: 'local' };
        await capability.rollBack(request).catch(() => undefined);
      },
      done: (_world, capability) => {
        const view = capability.look()[0];
        return view?.life.kind === 'active' && view.current?.number === 1 && capability.rollbacks().length > 0;
      },
      always: ({ host }) => assert.equal(host.runningAt('xdp:eth0').length, 1),
      check: async (world, capability, names) => {
        const view = await untilLife(capability, 'xdp', 'active');
        assert.deepEqual(picture(world.host), { links: ['xdp/1'], revisions: ['xdp/1 1'] });
        assert.equal(view.quarantined, true);
        assert.equal(view.lastRollback?.from.artifact, names.xdp2);
        assert.equal(capability.rollbacks().length, 1);
        assert.deepEqual(
          capability.quarantined().map(({ artifact }) => artifact),
          [names.xdp2],
        );
      },
    });
  });

  it('after a boot of the host in between is followed by one that loads anew what ran', async () => {
    await killEverywhere({
      prepare: async (_world, capability, names) => {
        await applyFull(capability, 1, before(names));
        await untilAll(capability, 'gone', 'stays', 'trace', 'xdp');
      },
      act: async (_world, capability, names) => {
        await applyFull(capability, 2, after(names));
      },
      done: (world, capability) => isAfter(world, capability),
      between: ({ host }) => host.reboot(),
      check: async (world, capability) => {
        await untilAll(capability, 'new', 'stays', 'trace', 'xdp');
        const { links } = picture(world.host);
        assert.deepEqual(
          links.map((link) => link.split('/')[0]),
          ['new', 'stays', 'trace', 'xdp'],
        );
        assert.deepEqual(
          world.host.runningAt('xdp:eth0').map(({ program }) => program),
          ['xdp'],
        );
        assert.equal(capability.look().find(({ name }) => name === 'xdp')?.current?.version, '2.0.0');
      },
    });
  });

  it('while the time of a program ends is followed by one that unloads it, and lets it be', async () => {
    await killEverywhere({
      prepare: async (_world, capability, names) => {
        await applyFull(capability, 1, [spec('xdp', names.xdp1, { ttl: { seconds: 100n, nanos: 0 } })]);
        await untilLife(capability, 'xdp', 'probation');
      },
      act: async (world) => await world.pass(110_000, 20),
      done: (_world, capability) => capability.look()[0]?.life.kind === 'expired' && isOver(capability.look()[0]!.life),
      check: async (world, capability) => {
        await untilLife(capability, 'xdp', 'expired');
        assert.deepEqual(picture(world.host), { links: [], revisions: [] });
      },
    });
  });
});
