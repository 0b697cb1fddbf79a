import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeStateDetail, encodeSpec, specMessage } from '../../../src/capabilities/programs/wire.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { applyFull, ProgramsWorld, spec, until, untilLife } from './programs-fixture.ts';

const answer = (...specs: readonly Parameters<typeof specMessage>[0][]) => ({
  kind: 'programs' as const,
  specs: specs.map((one) => encodeSpec(specMessage(one))),
  refused: [],
});

describe('programs of a registry', () => {
  it('are had as the registry says, and stay when it is lost, also over a restart', async () => {
    await using world = new ProgramsWorld({ defaultTtlMs: 0 });
    const artifact = await world.artifact();
    world.registryAnswer = answer(spec('polled', artifact));
    const capability = await world.start();
    const view = await untilLife(capability, 'polled', 'probation');
    assert.equal(view.source, 'registry');
    world.registryAnswer = new LonglineError('unavailable', 'nobody answers at http://registry');
    await world.pass(31_000);
    const { ok, detail } = await capability.health();
    assert.equal(ok, false);
    assert.match(detail, /registry: nobody answers/);
    await world.letGo();
    world.kernel.calls.length = 0;
    const second = await world.start();
    await world.pass(300_000, 20);
    await untilLife(second, 'polled', 'active');
    assert.ok(!world.kernel.calls.some((call) => /^(load|attach|replace|detach|unload)/.test(call)));
    world.registryAnswer = answer();
    await world.pass(31_000);
    await until('it is gone', () => (world.host.revisions.size === 0 ? true : undefined));
  });

  it('are told to the controller, which may want nothing itself', async () => {
    await using world = new ProgramsWorld();
    world.registryAnswer = answer(spec('polled', await world.artifact()));
    const capability = await world.start();
    await untilLife(capability, 'polled', 'probation');
    const told = await until('it is told', () => world.observations.at(-1));
    assert.equal(told.generation, 0n);
    assert.equal(told.digest.length, 0);
    const [program] = decodeStateDetail(told.detail);
    assert.deepEqual([program?.name, program?.source], ['polled', 'registry']);
  });

  it('give their name up to what the controller or the host wants', async () => {
    await using world = new ProgramsWorld();
    const artifact = await world.artifact();
    const other = await world.artifact({ version: '2.0.0' });
    world.registryAnswer = answer(spec('counter', artifact));
    const capability = await world.start();
    await untilLife(capability, 'counter', 'probation');
    await applyFull(capability, 1, [spec('counter', other)]);
    const view = await until('it is the controllers', () =>
      capability.look().find(({ current }) => current?.artifact === other),
    );
    assert.equal(view.source, 'controller');
    await capability.applyLocal(spec('counter', artifact));
    await until('it is the hosts', () =>
      capability.look().find(({ source, current }) => source === 'local' && current?.number === 3),
    );
    const told = await until('the controller is told', () =>
      world.observations.findLast(({ items }) => items.length > 0),
    );
    assert.match(told.items[0]!.error.message, /asked for also on this host|on this host/);
    await capability.removeLocal('counter');
    await until('it is the controllers again', () =>
      capability.look().find(({ source, current }) => source === 'controller' && current?.artifact === other),
    );
  });

  it('that can not be made sense of are left as they are', async () => {
    await using world = new ProgramsWorld();
    world.registryAnswer = answer(spec('polled', await world.artifact()));
    const capability = await world.start();
    await untilLife(capability, 'polled', 'probation');
    world.registryAnswer = {
      kind: 'programs',
      specs: [],
      refused: [{ item: 'polled', error: new LonglineError('invalid', 'no sense') }],
    };
    await world.pass(31_000);
    await world.pass(31_000);
    assert.deepEqual(world.host.runningAt('xdp:eth0'), [{ program: 'polled', revision: 1 }]);
  });
});

describe('programs of a registry, in a later process', () => {
  const polled = async (world: ProgramsWorld) => {
    world.registryAnswer = answer(spec('polled', await world.artifact()));
    await untilLife(await world.start(), 'polled', 'probation');
  };
  const runsOn = (world: ProgramsWorld) => {
    assert.ok(!world.kernel.calls.some((call) => /^(detach|unload)/.test(call)), world.kernel.calls.join());
    assert.deepEqual(world.host.runningAt('xdp:eth0'), [{ program: 'polled', revision: 1 }]);
  };

  it('stay although what the registry said of them last made no sense', async () => {
    await using world = new ProgramsWorld({ defaultTtlMs: 0 });
    await polled(world);
    const error = new LonglineError('invalid', 'ttl_sec: must be a whole number of seconds');
    world.registryAnswer = { kind: 'programs', specs: [], refused: [{ item: 'a-17', program: 'polled', error }] };
    await world.pass(31_000);
    await world.pass(31_000);
    runsOn(world);
    await world.letGo();
    world.registryAnswer = new LonglineError('unavailable', 'nobody answers');
    await world.start();
    await world.pass(60_000, 10);
    runsOn(world);
  });

  it('stay while what it said last can not be read, and go once it says so', async () => {
    await using world = new ProgramsWorld({ defaultTtlMs: 0 });
    await polled(world);
    await world.letGo();
    await world.state.put('registry/answer', Buffer.from('half a '));
    world.registryAnswer = new LonglineError('unavailable', 'nobody answers');
    await world.start();
    await world.pass(60_000, 10);
    runsOn(world);
    world.registryAnswer = answer();
    await world.pass(31_000);
    await until('it is gone', () => (world.host.revisions.size === 0 ? true : undefined));
  });
});

describe('programs that are asked for on the host', () => {
  it('are there again after a restart, and go when they are taken away', async () => {
    await using world = new ProgramsWorld();
    const artifact = await world.artifact();
    const first = await world.start();
    await first.applyLocal(spec('own', artifact));
    await untilLife(first, 'own', 'probation');
    await world.letGo();
    const second = await world.start();
    await untilLife(second, 'own', 'probation');
    await assert.rejects(second.removeLocal('other'), { reason: 'not_found', message: /own/ });
    await second.removeLocal('own');
    assert.equal(world.host.revisions.size, 0);
  });

  it('are refused with every field that is wrong', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    await assert.rejects(capability.applyLocal(spec('9', 'x', { attach: ['nowhere'] })), (error: LonglineError) => {
      assert.deepEqual(
        error.violations.map(({ field }) => field),
        ['name', 'artifact', 'attach[0]'],
      );
      return true;
    });
  });
});

describe('a state of the controller', () => {
  it('is refused whole if it makes no sense, and nothing changes', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const artifact = await world.artifact();
    await applyFull(capability, 1, [spec('counter', artifact)]);
    await untilLife(capability, 'counter', 'probation');
    await assert.rejects(applyFull(capability, 2, [spec('a', artifact), spec('a', artifact)]), { reason: 'invalid' });
    const body = Buffer.from('no message');
    await assert.rejects(capability.applyState({ generation: 2n, baseGeneration: 0n, body }), { reason: 'invalid' });
    await assert.rejects(applyFull(capability, 0, []), { reason: 'stale' });
    assert.equal(capability.held()?.generation, 1n);
    assert.equal(world.host.runningAt('xdp:eth0').length, 1);
  });

  it('with one bad program costs the others nothing', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const artifact = await world.artifact();
    await applyFull(capability, 1, [spec('bad', 'no digest'), spec('good', artifact)]);
    await untilLife(capability, 'good', 'probation');
    const told = await until('it is told', () => world.observations.findLast(({ items }) => items.length > 0));
    assert.deepEqual(
      told.items.map(({ item, error }) => [item, error.reason]),
      [['bad', 'invalid']],
    );
  });
});
