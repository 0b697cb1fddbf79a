import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HostModel } from './host-model.ts';
import { applyFull, NetworkWorld, testKey, testSpec, until } from './network-fixture.ts';

/** What is on a host, for comparison. */
function picture(host: HostModel) {
  return [...host.devices].map(([name, { link, model }]) => ({
    name,
    peers: [...model.state.peers.values()].map(({ endpoint, prefixes, publicKey }) => [
      publicKey,
      endpoint,
      [...prefixes],
    ]),
    addresses: [...link.addresses.keys()],
    routes: link.routes.map(({ prefix }) => prefix).sort(),
    key: model.state.publicKey !== undefined,
  }));
}

const BEFORE = [testSpec('a', [1, 2, 3], { dnsServers: ['10.9.0.53'] }), testSpec('b', [4], { forward: true })];
const AFTER = [
  testSpec('a', [2, 3, 5], { addresses: ['10.9.0.2/16'], keyEpoch: 1, nextKeyEpoch: 1 }),
  testSpec('c', [6], { interface: 'if-b', natSubnets: ['172.30.0.0/24'] }),
];

/** The same change again and again, killed after one effect more each time, until it comes through. */
async function killEverywhere(check: (world: NetworkWorld) => Promise<void>): Promise<number> {
  for (let effects = 0; ; effects++) {
    await using world = new NetworkWorld();
    const first = await world.start();
    await applyFull(first, 1, BEFORE);
    await until('both are there', () => (world.observations.at(-1)?.generation === 1n ? true : undefined));
    world.host.killAfter = effects;
    await applyFull(first, 2, AFTER).catch(() => undefined);
    await until('it is over or killed', () =>
      world.host.killAfter < 0 || world.observations.at(-1)?.generation === 2n ? true : undefined,
    );
    const wasKilled = world.host.killAfter < 0;
    await world.letGo();
    world.observations.length = 0;
    const second = await world.start();
    // What wasn't durable comes again.
    await applyFull(second, 2, AFTER);
    await until('the second process has done it', () =>
      world.observations.at(-1)?.generation === 2n && world.observations.at(-1)?.items.length === 0 ? true : undefined,
    );
    await check(world);
    if (!wasKilled) return effects;
  }
}

describe('a process that is killed', () => {
  it('is followed by one that converges, whatever the moment', async () => {
    const effects = await killEverywhere(async ({ host }) => {
      const found = picture(host).sort((a, b) => (a.name < b.name ? -1 : 1));
      assert.deepEqual(
        found.map(({ name }) => name),
        ['if-a', 'if-b'],
      );
      const [a, b] = found;
      assert.deepEqual(a!.peers.map(([key]) => key).sort(), [2, 3, 5].map(testKey));
      assert.deepEqual(a!.addresses, ['10.9.0.2/16']);
      assert.deepEqual(
        b!.peers.map(([key]) => key),
        [testKey(6)],
      );
      assert.deepEqual([...host.ownKeyFiles.keys()].sort(), ['a.1', 'c.0']);
      assert.deepEqual([...host.resolving.keys()], []);
      assert.deepEqual([...host.firewallRules.keys()], ['if-b']);
      assert.equal(host.switches.get('net/ipv4/ip_forward'), '1');
      assert.deepEqual([...host.known.keys()].sort(), ['if-a', 'if-b']);
    });
    assert.ok(effects > 20, `${effects} effects are few for such a change`);
  });
});
