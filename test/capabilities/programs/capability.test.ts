import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeStateDetail } from '../../../src/capabilities/programs/wire.ts';
import { applyFull, ProgramsWorld, spec, until, untilLife } from './programs-fixture.ts';

describe('a program that is wanted', () => {
  it('is fetched, verified, loaded and attached, and is active once it did well', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const artifact = await world.artifact();
    await applyFull(capability, 1, [spec('counter', artifact)]);
    const view = await untilLife(capability, 'counter', 'probation');
    assert.deepEqual(world.host.runningAt('xdp:eth0'), [{ program: 'counter', revision: 1 }]);
    assert.equal(view.current?.artifact, artifact);
    assert.deepEqual(
      view.links.map(({ attach, atomic }) => [attach, atomic]),
      [['xdp:eth0', true]],
    );
    await world.pass(61_000);
    const active = await untilLife(capability, 'counter', 'active');
    assert.equal(active.current?.activeAtMs, world.clock.now());
    const told = await until('it is told', () => world.observations.at(-1));
    assert.equal(told.generation, 1n);
    assert.deepEqual(told.items, []);
    assert.deepEqual(
      decodeStateDetail(told.detail).map(({ name, source, wantedArtifact }) => [name, source, wantedArtifact]),
      [['counter', 'controller', artifact]],
    );
    assert.deepEqual(
      world.changes.map(({ what }) => what),
      ['loaded'],
    );
  });
});
