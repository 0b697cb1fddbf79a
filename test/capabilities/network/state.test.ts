import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeDesiredState, specMessage } from '../../../src/capabilities/network/wire.ts';
import { applyFull, NetworkWorld, testKey, testSpec, until, untilState } from './network-fixture.ts';

/** The observation of a generation. */
const observed = (world: NetworkWorld, generation: number) =>
  until(`generation ${generation} is observed`, () =>
    world.observations.findLast((one) => one.generation === BigInt(generation)),
  );

describe('networks that a controller wants', () => {
  it('are held before they are there, observed once they are, and kept by the next process', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    assert.equal(capability.held(), undefined);
    await applyFull(capability, 1, [testSpec('a', [1])]);
    assert.equal(capability.held()!.generation, 1n);
    const { digest, items } = await observed(world, 1);
    assert.deepEqual(digest, capability.held()!.digest);
    assert.deepEqual(items, []);
    await world.letGo();
    world.host.devices.clear();
    world.observations.length = 0;
    const second = await world.start();
    assert.equal(second.held()!.generation, 1n, 'a reboot of the host loses interfaces, not what is wanted');
    await observed(world, 1);
    assert.ok(world.host.devices.has('if-a'));
  });

  it('change by deltas with nothing else touched', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    await applyFull(capability, 1, [testSpec('a', [1, 2, 3])]);
    await observed(world, 1);
    world.host.writes.length = 0;
    const readsBefore = world.host.reads;
    let readsAtWrite: number | undefined;
    world.host.onWrite = () => {
      readsAtWrite ??= world.host.reads;
    };
    const put = [{ publicKey: testKey(4), allowedIps: ['10.9.4.0/24'] }];
    const body = encodeDesiredState({ peerDeltas: [{ network: 'a', put, removed: [testKey(2)] }] });
    await capability.applyState({ generation: 2n, baseGeneration: 1n, body });
    await observed(world, 2);
    const touched = world.host.writes.flatMap(({ peers }) => peers.map(({ kind, publicKey }) => [kind, publicKey]));
    assert.deepEqual(touched, [
      ['add', testKey(4)],
      ['remove', testKey(2)],
    ]);
    assert.equal(readsAtWrite, readsBefore, 'it is written at once, from what is known');
    await until('it is looked at afterwards', () => (world.host.reads > readsBefore ? true : undefined));
    assert.equal(world.host.writes.length, 1);
  });

  it('come about also where what is known is not so any more', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    await applyFull(capability, 1, [testSpec('a', [1])]);
    await observed(world, 1);
    // Nobody was told that the daemon is gone.
    world.host.devices.delete('if-a');
    await applyFull(capability, 2, [testSpec('a', [1, 2])]);
    await observed(world, 2);
    await until('both peers are there', () =>
      world.host.devices.get('if-a')?.model.state.peers.size === 2 ? true : undefined,
    );
    assert.deepEqual(
      world.events.filter(({ type }) => type === 'network.failed'),
      [],
    );
  });

  it('that are wrong in one part are had in all others, and the part is named', async () => {
    await using world = new NetworkWorld();
    world.host.refusedPeers.add(testKey(3));
    const capability = await world.start();
    const whole = testSpec('a', [1, 2, 3]);
    const broken = { publicKey: 'nonsense', allowedIps: ['10.0.0.0/99'] };
    const noSecret = { publicKey: testKey(8), presharedKeyPath: '/etc/psk' };
    await applyFull(capability, 1, [
      { ...whole, peers: [...whole.peers!, broken, noSecret] },
      { ...testSpec('b', [5]), mtu: 12 },
      testSpec('c', [6]),
    ]);
    const { items } = await observed(world, 1);
    const refusals = new Map(items.map(({ error, item }) => [item, error.message]));
    assert.deepEqual([...refusals.keys()].sort(), [testKey(3), testKey(8), 'b', 'nonsense'].sort());
    assert.match(refusals.get('b')!, /mtu: 12 is out of range/);
    assert.match(refusals.get(testKey(8))!, /psk/);
    const view = (await capability.look()).find(({ name }) => name === 'a')!;
    assert.equal(view.state, 'degraded');
    assert.deepEqual(
      view.peers.map(({ publicKey }) => publicKey),
      [testKey(1), testKey(2)],
    );
    assert.ok(world.host.devices.has('if-c'));
  });

  it('give way to what was set up on the host, until that goes', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    await capability.applyLocal(specMessage(testSpec('a', [1])), false);
    await applyFull(capability, 1, [testSpec('a', [2]), testSpec('z', [2], { interface: 'if-a' })]);
    const { items } = await observed(world, 1);
    assert.deepEqual(
      items.map(({ error, item }) => [item, error.reason]),
      [
        ['a', 'already_exists'],
        ['z', 'already_exists'],
      ],
    );
    assert.deepEqual([...world.host.devices.get('if-a')!.model.state.peers.keys()], [testKey(1)]);
    await capability.removeLocal('a');
    await untilState(capability, 'a', 'up');
    assert.deepEqual([...world.host.devices.get('if-a')!.model.state.peers.keys()], [testKey(2)]);
  });

  it('that it no longer wants go, with their keys', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    const more = { natSubnets: ['172.30.0.0/24'], dnsServers: ['10.9.0.53'] };
    await applyFull(capability, 1, [testSpec('a', [1]), testSpec('b', [2], more)]);
    await observed(world, 1);
    assert.equal(world.host.switches.get('net/ipv4/ip_forward'), '1');
    assert.ok(world.host.firewallRules.has('if-b'));
    assert.deepEqual(world.host.resolving.get('if-b')!.servers, ['10.9.0.53']);
    await applyFull(capability, 2, []);
    await observed(world, 2);
    assert.equal(world.host.devices.size, 0);
    assert.equal(world.host.firewallRules.size, 0);
    assert.equal(world.host.resolving.size, 0);
    assert.equal(world.host.switches.get('net/ipv4/ip_forward'), '0');
    assert.equal(world.host.ownKeyFiles.size, 0);
    const left = [...world.state.values.keys()].filter((key) => !key.startsWith('held/'));
    assert.deepEqual(left, []);
  });

  it('take their keys by epochs, and forget those of others only once the next is in use', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    const keysOf = async () => (await capability.look())[0]!.keys;
    await applyFull(capability, 1, [testSpec('a', [1])]);
    await observed(world, 1);
    const [first] = await keysOf();
    await applyFull(capability, 2, [testSpec('a', [1], { keyEpoch: 0, nextKeyEpoch: 1 })]);
    await observed(world, 2);
    const [, next] = await keysOf();
    assert.deepEqual(
      (await keysOf()).map(({ epoch }) => epoch),
      [0, 1],
    );
    assert.equal(world.host.devices.get('if-a')!.model.state.publicKey, first!.publicKey);
    await applyFull(capability, 3, [testSpec('a', [1], { keyEpoch: 1, nextKeyEpoch: 0 })]);
    await observed(world, 3);
    assert.equal(world.host.devices.get('if-a')!.model.state.publicKey, next!.publicKey);
    assert.deepEqual([...world.host.ownKeyFiles.keys()].sort(), ['a.0', 'a.1']);
    await applyFull(capability, 4, [testSpec('a', [1], { keyEpoch: 1, nextKeyEpoch: 1 })]);
    await observed(world, 4);
    await until('the old key is forgotten', () => (world.host.ownKeyFiles.size === 1 ? true : undefined));
    assert.equal((await capability.look())[0]!.keyEpoch, 1);
  });

  it('have their key from the environment or a file, and say which is wrong', async () => {
    await using world = new NetworkWorld();
    world.host.keyFiles.set('env:KEY_A', testKey(91));
    world.environment.set('a', 'env:KEY_A');
    const capability = await world.start();
    await applyFull(capability, 1, [testSpec('a', []), testSpec('b', [], { privateKeyPath: '/etc/b.key' })]);
    const { items } = await observed(world, 1);
    assert.deepEqual(
      items.map(({ item }) => item),
      ['b'],
    );
    const views = await capability.look();
    assert.equal(views[0]!.state, 'up');
    assert.equal(views[1]!.state, 'failed');
    assert.deepEqual(
      views[1]!.problems.map(({ field }) => field),
      ['private_key_path'],
    );
    assert.equal(world.host.ownKeyFiles.size, 0);
  });
});

describe('peers in trouble', () => {
  it('are told of, with their names asked for again, and told of when they answer', async () => {
    await using world = new NetworkWorld({ reconcileIntervalMs: 20 });
    world.host.names.set('hub.example:51820', '192.0.2.1:51820');
    const capability = await world.start();
    const hub = { publicKey: testKey(1), name: 'hub', endpoint: 'hub.example:51820', persistentKeepaliveSecs: 25 };
    await capability.applyLocal(specMessage({ ...testSpec('a', []), peers: [hub] }), false);
    const told = (type: string) => until(type, () => world.events.find((event) => event.type === `network.${type}`));
    world.host.setPeer('if-a', testKey(1), { lastHandshakeMs: world.clock.now() });
    await until('it is active', async () => ((await capability.look())[0]!.counts.active === 1 ? true : undefined));
    world.clock.offsetMs += 140_000;
    const event = await told('peer_suspect');
    assert.match(event.message, /peer hub .*overdue/);
    world.host.names.set('hub.example:51820', '192.0.2.2:51820');
    world.clock.offsetMs += 20_000;
    await until('the new address is written', () =>
      world.host.devices.get('if-a')!.model.state.peers.get(testKey(1))?.endpoint === '192.0.2.2:51820'
        ? true
        : undefined,
    );
    world.host.setPeer('if-a', testKey(1), { lastHandshakeMs: world.clock.now() });
    await told('peer_recovered');
    const [view] = await capability.look();
    assert.equal(view!.recoveries, 1);
    assert.ok(world.telemetry.length > 0);
  });

  it('by the hundred are told of at a bounded rate', async () => {
    await using world = new NetworkWorld({ reconcileIntervalMs: 20, peerDetails: 5 });
    const capability = await world.start();
    const many = Array.from({ length: 120 }, (_, n) => n + 1);
    const peers = testSpec('a', many).peers!.map((peer) => ({ ...peer, persistentKeepaliveSecs: 25 }));
    await capability.applyLocal(specMessage({ ...testSpec('a', []), peers }), false);
    world.clock.offsetMs += 140_000;
    const view = await until('all are suspect', async () => {
      const [one] = await capability.look();
      return one!.counts.suspect === 120 ? one : undefined;
    });
    assert.equal(view.peers.length, 5);
    const told = world.events.filter(({ type }) => type === 'network.peer_suspect');
    assert.ok(told.length > 5 && told.length <= 40, `${told.length} were told`);
  });
});
