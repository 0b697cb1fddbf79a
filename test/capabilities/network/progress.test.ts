import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { specMessage } from '../../../src/capabilities/network/wire.ts';
import { NetworkWorld, testSpec, until } from './network-fixture.ts';

const MINUTE_MS = 60_000;
const PEERS = Array.from({ length: 200 }, (_, n) => n + 1);

describe('passes over a network', () => {
  it('get on while there is nothing to do, and count as stuck when one never ends, later the more peers there are', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    await capability.applyLocal(specMessage(testSpec('few', [1])), false);
    await capability.applyLocal(specMessage(testSpec('many', PEERS, { addresses: ['10.8.0.1/24'] })), false);
    const late = () => capability.progress.flatMap((one) => one.overdue()?.what ?? []);
    assert.deepEqual(late(), []);
    assert.deepEqual([...capability.states], [['up', 2]]);

    const { read } = world.host.links;
    const never = Promise.withResolvers<never>();
    const asked = new Set<string>();
    world.host.links.read = async (name) => {
      asked.add(name);
      return await never.promise;
    };
    const specs = [
      testSpec('few', [1], { mtu: 1400 }),
      testSpec('many', PEERS, { addresses: ['10.8.0.1/24'], mtu: 1400 }),
    ];
    const applied = specs.map((spec) => capability.applyLocal(specMessage(spec), false).catch(() => undefined));
    await until('both are asked', () => (asked.size === 2 ? true : undefined));
    world.clock.offsetMs += 5 * MINUTE_MS + 5_000;
    assert.deepEqual(late(), ['network few: a pass'], 'one with many peers may take longer');
    world.clock.offsetMs += MINUTE_MS;
    assert.deepEqual(late().sort(), ['network few: a pass', 'network many: a pass']);
    world.host.links.read = read;
    never.reject(new Error('it is not answered'));
    await Promise.all(applied);
    await until('they are tried again', () => (late().length === 0 ? true : undefined));
  });
});
