import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { applyFull, ProgramsWorld, spec, until, untilLife } from './programs-fixture.ts';

const ttl = (seconds: number) => ({ ttl: { seconds: BigInt(seconds), nanos: 0 } });

async function running(world: ProgramsWorld, more: Parameters<typeof spec>[2] = {}) {
  const capability = await world.start();
  const artifact = await world.artifact();
  await applyFull(capability, 1, [spec('counter', artifact, more)]);
  await untilLife(capability, 'counter', 'probation');
  return { capability, artifact };
}

describe('the time of a program', () => {
  it('ends after an hour unless somebody says otherwise, and then nothing of it is left', async () => {
    await using world = new ProgramsWorld();
    const { capability } = await running(world);
    assert.equal(capability.look()[0]?.expiresAtMs, world.clock.now() + 3_600_000);
    await world.pass(3_599_000, 60);
    assert.equal(world.host.runningAt('xdp:eth0').length, 1);
    await world.pass(2_000);
    await untilLife(capability, 'counter', 'expired');
    await until('it is unloaded', () => (world.host.revisions.size === 0 ? true : undefined));
    assert.ok(world.events.some(({ type }) => type === 'program.expired'));
    await world.pass(10_000_000, 30);
    assert.equal(world.host.revisions.size, 0);
  });

  it('never ends at 0', async () => {
    await using world = new ProgramsWorld();
    const { capability } = await running(world, { ttl: { seconds: 0n, nanos: 0 } });
    await world.pass(1e9, 20);
    assert.equal(capability.look()[0]?.life.kind, 'active');
    assert.equal(capability.look()[0]?.expiresAtMs, undefined);
  });

  it('goes by no wall clock within a boot, in whichever direction it is set', async () => {
    for (const jump of [1e10, -1e10]) {
      await using world = new ProgramsWorld();
      const { capability } = await running(world, ttl(1000));
      world.clock.jump(jump);
      await world.pass(900_000, 20);
      assert.equal(capability.look()[0]?.life.kind, 'active');
      await world.pass(101_000, 5);
      await untilLife(capability, 'counter', 'expired');
    }
  });

  it('goes on over restarts of the agent', async () => {
    await using world = new ProgramsWorld();
    await running(world, ttl(1000));
    await world.pass(600_000, 10);
    await world.letGo();
    world.clock.advance(200_000);
    const second = await world.start();
    await world.pass(150_000, 5);
    assert.equal(second.look()[0]?.life.kind, 'active');
    await world.pass(51_000);
    await untilLife(second, 'counter', 'expired');
  });

  it('is over at once if it ended while the agent was away, and what ran goes', async () => {
    await using world = new ProgramsWorld();
    await running(world, ttl(1000));
    await world.letGo();
    world.clock.advance(2_000_000);
    const second = await world.start();
    await untilLife(second, 'counter', 'expired');
    await until('it is unloaded', () => (world.host.revisions.size === 0 ? true : undefined));
  });

  it('counts the time that the host was off by the wall clock, and a clock that went back takes nothing away', async () => {
    await using world = new ProgramsWorld();
    await running(world, ttl(1000));
    await world.pass(600_000, 10);
    await world.letGo();
    world.host.reboot();
    world.clock.jump(300_000);
    const second = await world.start();
    await untilLife(second, 'counter', 'active', 'probation');
    await world.pass(50_000, 5);
    assert.equal(world.host.runningAt('xdp:eth0').length, 1);
    await world.letGo();
    world.host.reboot();
    world.clock.jump(-1e9);
    const third = await world.start();
    await untilLife(third, 'counter', 'active', 'probation');
    await world.pass(40_000, 5);
    assert.equal(world.host.runningAt('xdp:eth0').length, 1, 'what was noted is not more than what was used');
    await world.pass(60_000, 5);
    await untilLife(third, 'counter', 'expired');
  });

  it('begins anew with another renewal, also after it ended', async () => {
    await using world = new ProgramsWorld();
    const { capability, artifact } = await running(world, ttl(1000));
    await world.pass(900_000, 10);
    world.kernel.calls.length = 0;
    await applyFull(capability, 2, [spec('counter', artifact, { ...ttl(1000), renewal: 1n })]);
    await world.settle();
    await world.pass(900_000, 10);
    assert.equal(capability.look()[0]?.life.kind, 'active');
    assert.ok(
      !world.kernel.calls.some((call) => /^(load|attach|replace|detach|unload)/.test(call)),
      'it runs undisturbed',
    );
    await world.pass(101_000);
    await untilLife(capability, 'counter', 'expired');
    await applyFull(capability, 3, [spec('counter', artifact, { ...ttl(1000), renewal: 2n })]);
    await untilLife(capability, 'counter', 'probation');
    assert.equal(capability.look()[0]?.expiresAtMs, world.clock.now() + 1_000_000);
  });

  it('is not begun anew by a restart once it ended', async () => {
    await using world = new ProgramsWorld();
    const { capability } = await running(world, ttl(10));
    await world.pass(11_000);
    await untilLife(capability, 'counter', 'expired');
    await until('it is unloaded', () => (world.host.revisions.size === 0 ? true : undefined));
    await world.settle();
    await world.letGo();
    const second = await world.start();
    await world.pass(60_000, 6);
    await untilLife(second, 'counter', 'expired');
    assert.equal(world.host.revisions.size, 0);
  });
});
