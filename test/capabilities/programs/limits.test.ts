import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { applyFull, ProgramsWorld, spec, until, untilLife } from './programs-fixture.ts';

/** Programs each at an interface of its own. */
async function specsOf(world: ProgramsWorld, ...names: readonly string[]) {
  const artifact = await world.artifact();
  return names.map((name) => spec(name, artifact, { attach: [`xdp:if-${name}`] }));
}

const loaded = (world: ProgramsWorld) => [...world.host.revisions].map(({ place }) => place.program).sort();

describe('more programs than may be loaded', () => {
  it('are refused where that is so, and come once there is room', async () => {
    await using world = new ProgramsWorld({ maxPrograms: 2, whenFull: 'refuse' });
    const capability = await world.start();
    const [a, b, c] = await specsOf(world, 'a', 'b', 'c');
    // Whose artifact is open first has the place: all at once, any of the three could be the one that is refused.
    await applyFull(capability, 1, [a!, b!]);
    for (const name of ['a', 'b']) await untilLife(capability, name, 'probation');
    await applyFull(capability, 2, [a!, b!, c!]);
    const view = await untilLife(capability, 'c', 'failed');
    assert.equal(view.problems[0]?.field, 'max_programs');
    assert.equal(view.problems[0]?.error.reason, 'limit');
    assert.deepEqual(loaded(world), ['a', 'b']);
    await applyFull(capability, 3, [b!, c!]);
    await untilLife(capability, 'c', 'probation');
    assert.deepEqual(loaded(world), ['b', 'c']);
  });

  it('take the place of those that were loaded first where that is so, and are left in peace then', async () => {
    await using world = new ProgramsWorld({ maxPrograms: 2, whenFull: 'replace_oldest' });
    const capability = await world.start();
    const [a, b, c] = await specsOf(world, 'a', 'b', 'c');
    await applyFull(capability, 1, [b!]);
    await untilLife(capability, 'b', 'probation');
    await applyFull(capability, 2, [a!, b!]);
    await untilLife(capability, 'a', 'probation');
    await applyFull(capability, 3, [a!, b!, c!]);
    await untilLife(capability, 'c', 'probation');
    const gone = await untilLife(capability, 'b', 'unloaded');
    assert.match(gone.problems[0]!.error.message, /program c took its place/);
    assert.deepEqual(loaded(world), ['a', 'c']);
    await world.pass(600_000, 60);
    assert.deepEqual(loaded(world), ['a', 'c'], 'they do not take turns');
    await world.letGo();
    const second = await world.start();
    await world.pass(60_000, 6);
    assert.deepEqual(loaded(world), ['a', 'c'], 'nor after a restart');
    await applyFull(second, 4, [a!, { ...b!, renewal: 1n }, c!]);
    await untilLife(second, 'b', 'probation');
    assert.deepEqual(loaded(world), ['b', 'c']);
  });

  it('that were loaded when more were allowed stay', async () => {
    await using world = new ProgramsWorld();
    const first = await world.start();
    const specs = await specsOf(world, 'a', 'b', 'c');
    await applyFull(first, 1, specs);
    for (const name of ['a', 'b', 'c']) await untilLife(first, name, 'probation');
    await world.letGo();
    world.config = { ...world.config, maxPrograms: 1, whenFull: 'refuse' };
    const second = await world.start();
    await world.pass(60_000, 6);
    assert.deepEqual(loaded(world), ['a', 'b', 'c']);
    assert.ok(second.look().every(({ problems }) => problems.length === 0));
  });

  it('do not push anybody out who could not be loaded themselves', async () => {
    await using world = new ProgramsWorld({ maxPrograms: 1 });
    const capability = await world.start();
    const [a] = await specsOf(world, 'a');
    await applyFull(capability, 1, [a!]);
    await untilLife(capability, 'a', 'probation');
    await applyFull(capability, 2, [a!, spec('b', `sha256:${'1'.repeat(64)}`)]);
    await untilLife(capability, 'b', 'failed');
    assert.deepEqual(loaded(world), ['a']);
  });
});

describe('an agent that is shut down', () => {
  it('keeps its programs unless the host is to be left clean, and has them again either way', async () => {
    for (const atShutdown of ['keep', 'unload'] as const) {
      await using world = new ProgramsWorld({ atShutdown });
      const capability = await world.start();
      await applyFull(capability, 1, await specsOf(world, 'a', 'b'));
      for (const name of ['a', 'b']) await untilLife(capability, name, 'probation');
      await world.letGo();
      assert.deepEqual(loaded(world), atShutdown === 'keep' ? ['a', 'b'] : []);
      const second = await world.start();
      for (const name of ['a', 'b']) await untilLife(second, name, 'probation', 'active');
      await until('both are loaded', () => (loaded(world).length === 2 ? true : undefined));
      if (atShutdown === 'keep') assert.ok(!world.kernel.calls.some((call) => call.startsWith('load')));
    }
  });

  it('waits for no kernel that does not answer', async () => {
    await using world = new ProgramsWorld({ atShutdown: 'unload' });
    const capability = await world.start();
    await applyFull(capability, 1, await specsOf(world, 'a'));
    await untilLife(capability, 'a', 'probation');
    const release = world.kernel.hold('detach');
    const disposed = capability[Symbol.asyncDispose]();
    await until('it waits', () => (world.kernel.waiting > 0 ? true : undefined));
    await world.pass(11_000);
    await disposed;
    release();
    assert.deepEqual(loaded(world), ['a']);
  });
});
