import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import { applyFull, ProgramsWorld, spec, until, untilLife } from './programs-fixture.ts';

const effects = (world: ProgramsWorld) =>
  world.kernel.calls.filter((call) => /^(load|attach|replace|detach|unload) /.test(call));

/** A world with one program that is active. */
async function withActive(world: ProgramsWorld, more: Parameters<typeof spec>[2] = {}) {
  const capability = await world.start();
  const first = await world.artifact();
  await applyFull(capability, 1, [spec('counter', first, more)]);
  await untilLife(capability, 'counter', 'probation');
  await world.pass(61_000);
  await untilLife(capability, 'counter', 'active');
  world.kernel.calls.length = 0;
  world.changes.length = 0;
  return { capability, first };
}

const untilRuns = async (capability: Awaited<ReturnType<ProgramsWorld['start']>>, number: number) =>
  await until(`revision ${number} runs`, () => {
    const view = capability.look()[0];
    return view?.current?.number === number && view.life.kind !== 'updating' ? view : undefined;
  });

describe('an update of a program', () => {
  it('is loaded beside, takes the place over in one step, and leaves the revision before loaded', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    const second = await world.artifact({ version: '2.0.0' });
    await applyFull(capability, 2, [spec('counter', second)]);
    const view = await untilRuns(capability, 2);
    assert.deepEqual(
      effects(world).map((call) => call.split(' ')[0]),
      ['load', 'replace'],
    );
    assert.equal(view.previous?.artifact, first);
    assert.equal(view.life.kind, 'probation');
    assert.ok(view.expiresAtMs !== undefined);
  });

  it('does nothing for a spec that says the same', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    await applyFull(capability, 2, [spec('counter', first)]);
    await world.pass(60_000, 12);
    assert.deepEqual(effects(world), []);
  });

  it('touches nothing in the kernel for other thresholds or another time', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    const ttl = { seconds: 7200n, nanos: 0 };
    await applyFull(capability, 2, [spec('counter', first, { ttl, thresholds: { maxErrors: 3n } })]);
    const began = world.clock.now() - 61_000;
    await until('its time is another', () =>
      capability.look()[0]?.expiresAtMs === began + 7_200_000 ? true : undefined,
    );
    assert.deepEqual(effects(world), []);
    assert.equal(capability.look()[0]?.life.kind, 'active');
  });

  it('moves what is loaded for other places, the new one before the old one goes', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    await applyFull(capability, 2, [spec('counter', first, { attach: ['xdp:eth1'] })]);
    await until('it moved', () => (world.host.runningAt('xdp:eth0').length === 0 ? true : undefined));
    assert.deepEqual(
      effects(world).map((call) => call.split(' ')[0]),
      ['attach', 'detach'],
    );
    const view = await untilLife(capability, 'counter', 'active');
    assert.equal(view.current?.number, 1);
    assert.deepEqual(
      view.links.map(({ attach }) => attach),
      ['xdp:eth1'],
    );
  });

  it('loads other parameters as a revision of their own, with the other maps carried over', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    world.host.count({ program: 'counter', revision: 1 }, 7);
    await applyFull(capability, 2, [spec('counter', first, { parameters: { limit: '100' } })]);
    await untilRuns(capability, 2);
    const loaded = world.host.revision({ program: 'counter', revision: 2 });
    assert.equal(loaded?.maps[0]?.numbers.get('0 0'), 7n);
    assert.deepEqual(
      loaded?.writes.map(({ parameter }) => parameter),
      ['limit'],
    );
  });

  it('makes maps anew that other parameters are written to, so that the revision before keeps its own', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const more = { parameters: [{ name: 'blocked', type: 'PROGRAM_PARAMETER_TYPE_IPV4', keySet: { map: 'blocked' } }] };
    const artifact = await world.artifact({ maps: ['blocked', 'counters'], more });
    await applyFull(capability, 1, [spec('counter', artifact, { parameters: { blocked: '192.0.2.1' } })]);
    await untilLife(capability, 'counter', 'probation');
    await applyFull(capability, 2, [spec('counter', artifact, { parameters: { blocked: '192.0.2.1,192.0.2.2' } })]);
    await untilRuns(capability, 2);
    const [one, two] = [1, 2].map((revision) => world.host.revision({ program: 'counter', revision }));
    const idOf = (name: string, of = one) => of?.maps.find((map) => map.name === name)?.id;
    assert.notEqual(idOf('blocked'), idOf('blocked', two));
    assert.equal(idOf('counters'), idOf('counters', two));
  });

  it('keeps the last good revision to go back to, over one that never was good', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    await applyFull(capability, 2, [spec('counter', await world.artifact({ version: '2.0.0' }))]);
    await untilRuns(capability, 2);
    await applyFull(capability, 3, [spec('counter', await world.artifact({ version: '3.0.0' }))]);
    const view = await untilRuns(capability, 3);
    assert.equal(view.previous?.artifact, first);
    await until('the one in between is unloaded', () => (world.host.revisions.size === 2 ? true : undefined));
  });

  it('that the verifier refuses leaves what runs alone, is told whole, and quarantined', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    const bad = await world.artifact({ version: '2.0.0', verifierLog: 'R1 type=ctx expected=fp' });
    await applyFull(capability, 2, [spec('counter', bad)]);
    const view = await until('it is quarantined', () => capability.look().find(({ quarantined }) => quarantined));
    assert.equal(view.current?.artifact, first);
    assert.equal(view.life.kind, 'active');
    assert.equal(view.lastRollback?.trigger, 'verifier');
    assert.match(view.problems.find(({ field }) => field === 'verifier')?.verifierLog ?? '', /expected=fp/);
    const told = await until('it is told', () => world.observations.findLast(({ items }) => items.length > 0));
    assert.deepEqual(
      told.items.map(({ item }) => item),
      ['counter'],
    );
    world.kernel.calls.length = 0;
    await world.pass(3_600_000 - 200_000, 60);
    assert.deepEqual(effects(world), [], 'it is not tried again');
    assert.deepEqual(
      world.changes.map(({ what }) => what),
      ['rolled_back', 'error'],
    );
  });

  it('that can not be attached is undone, and tried again later if the host is to blame', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    const second = await world.artifact({
      version: '2.0.0',
      functions: [{ name: 'count_packets', type: 'xdp', attach: ['xdp:eth0', 'xdp:eth7'] }],
    });
    world.host.remove('eth7');
    await applyFull(capability, 2, [spec('counter', second)]);
    const view = await until('it is given up', () => capability.look().find(({ problems }) => problems.length > 0));
    assert.match(view.problems[0]!.error.message, /eth7/);
    assert.equal(view.problems[0]!.field, 'attach[1]');
    assert.ok(view.problems[0]!.retryAtMs !== undefined);
    assert.equal(view.quarantined, false);
    await until('what was done is undone', () => (world.host.revisions.size === 1 ? true : undefined));
    assert.deepEqual(world.host.runningAt('xdp:eth0'), [{ program: 'counter', revision: 1 }]);
    assert.equal(capability.look()[0]?.current?.artifact, first);
    world.host.restore('eth7');
    await until('it is tried again', async () => {
      await world.pass(10_000);
      return world.host.runningAt('xdp:eth7').length === 1 ? true : undefined;
    });
    assert.deepEqual(capability.look()[0]?.problems, []);
  });

  it('that nothing can be attached for in this kernel is quarantined with these settings', async () => {
    await using world = new ProgramsWorld();
    const { capability } = await withActive(world);
    const second = await world.artifact({ version: '2.0.0' });
    world.kernel.failNext('replace', new LonglineError('invalid', 'the driver has no such mode'), {
      about: /counter\/2/,
    });
    await applyFull(capability, 2, [spec('counter', second)]);
    const view = await until('it is quarantined', () => capability.look().find(({ quarantined }) => quarantined));
    assert.equal(view.lastRollback?.trigger, 'attach');
    assert.deepEqual(world.host.runningAt('xdp:eth0'), [{ program: 'counter', revision: 1 }]);
  });

  it('that is wanted no more while its artifact comes is given up at once', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    world.unfetchable.set(`sha256:${'5'.repeat(64)}`, new LonglineError('unavailable', 'the controller is not there'));
    await applyFull(capability, 2, [spec('counter', `sha256:${'5'.repeat(64)}`)]);
    const view = await until('it is told', () => capability.look().find(({ problems }) => problems.length > 0));
    assert.deepEqual(
      view.problems.map(({ field, error }) => [field, error.reason]),
      [['fetch', 'unavailable']],
    );
    assert.equal(view.life.kind, 'active');
    await applyFull(capability, 3, [spec('counter', first)]);
    await until('all is well', () => (capability.look()[0]?.problems.length === 0 ? true : undefined));
    assert.deepEqual(effects(world), []);
  });

  it('under another name has the place once the one before has left it, without waiting for its next try', async () => {
    await using world = new ProgramsWorld();
    const { capability, first } = await withActive(world);
    await applyFull(capability, 2, [spec('renamed', first)]);
    await until('the one before is gone', () =>
      capability.look().some(({ name }) => name === 'counter') ? undefined : true,
    );
    await untilLife(capability, 'renamed', 'probation');
    assert.deepEqual(world.host.runningAt('xdp:eth0'), [{ program: 'renamed', revision: 1 }]);
  });
});

describe('a program that could not be brought about and is wanted no more', () => {
  it('leaves nothing behind, also on the disk, and looks no more', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    world.host.remove('eth0');
    await applyFull(capability, 1, [spec('counter', await world.artifact())]);
    await untilLife(capability, 'counter', 'failed');
    await applyFull(capability, 2, []);
    await until('it is gone', () => (capability.look().length === 0 ? true : undefined));
    assert.deepEqual(
      [...world.state.values.keys()].filter((key) => key.startsWith('program/')),
      [],
    );
    world.kernel.calls.length = 0;
    await world.pass(600_000, 20);
    assert.deepEqual(world.kernel.calls, []);
  });

  it('asks the kernel now and then while it waits, and not without end', async () => {
    await using world = new ProgramsWorld({ probationMs: 0, defaultTtlMs: 0 });
    const { capability } = await (async () => {
      const started = await world.start();
      await applyFull(started, 1, [spec('counter', await world.artifact())]);
      await untilLife(started, 'counter', 'active');
      return { capability: started };
    })();
    world.host.remove('eth0');
    await world.pass(11_000);
    await untilLife(capability, 'counter', 'detached');
    await capability.rollBack({ program: 'counter', artifact: undefined, reason: 'any', requestedBy: 'local' });
    await untilLife(capability, 'counter', 'failed');
    world.kernel.calls.length = 0;
    await world.pass(600_000, 600);
    assert.ok(world.kernel.calls.length < 100, `${world.kernel.calls.length} calls in ten minutes`);
  });
});
