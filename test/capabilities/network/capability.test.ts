import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { specMessage } from '../../../src/capabilities/network/wire.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { applyFull, NetworkWorld, testKey, testSpec, until, untilState } from './network-fixture.ts';

const local = (name: string, peers: readonly number[], more = {}) => specMessage(testSpec(name, peers, more));

describe('networks of this host', () => {
  it('brings one about, and a second pass writes nothing', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    const { view } = await capability.applyLocal(local('a', [1, 2]), false);
    assert.equal(view?.state, 'up', JSON.stringify(view?.problems));
    assert.deepEqual(
      view.peers.map(({ name }) => name),
      ['peer 1', 'peer 2'],
    );
    assert.equal(view.keys.length, 1);
    const device = world.host.devices.get('if-a')!;
    assert.deepEqual([...device.model.state.peers.keys()], [testKey(1), testKey(2)]);
    assert.deepEqual([...device.link.addresses.keys()], ['10.9.0.1/16']);
    assert.ok(device.link.routes.some(({ prefix }) => prefix === '10.9.2.0/24'));
    const writes = world.host.writes.length;
    const steps = device.link.steps.length;
    await capability.applyLocal(local('a', [1, 2]), false);
    assert.equal(world.host.writes.length, writes);
    assert.equal(device.link.steps.length, steps);
  });

  it('takes it away again, and says what there is if the name is wrong', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    await capability.applyLocal(local('a', [1]), false);
    await assert.rejects(capability.removeLocal('b'), { reason: 'not_found', message: /there are: a/ });
    await capability.removeLocal('a');
    assert.equal(world.host.devices.size, 0);
    assert.deepEqual(await capability.look(), []);
    await assert.rejects(capability.removeLocal('a'), { reason: 'not_found' });
  });

  it('is there again after a restart, adopted and not written to', async () => {
    await using world = new NetworkWorld();
    await (await world.start()).applyLocal(local('a', [1, 2]), false);
    await world.letGo();
    world.host.setPeer('if-a', testKey(1), { endpoint: '198.51.100.7:1' });
    const writes = world.host.writes.length;
    const view = await untilState(await world.start(), 'a', 'up');
    assert.equal(world.host.writes.length, writes, 'a peer that roamed stays where it is');
    assert.equal(view.peers[0]!.endpoint, '198.51.100.7:1');
  });

  it('makes it anew when it is lost', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    await capability.applyLocal(local('a', [1]), false);
    world.host.lose('if-a', 'its daemon ended');
    await until('it is there again', () =>
      world.host.devices.get('if-a')?.model.state.peers.size === 1 ? true : undefined,
    );
    assert.ok(
      world.events.some(({ message, type }) => type === 'network.interface_lost' && message.includes('daemon')),
    );
  });

  it('says why it cannot be had and what mends it, keeps what is wanted, and begins once it can', async () => {
    await using world = new NetworkWorld();
    world.host.missing = 'there is no program wireguard-go on this host; install it';
    const { availability, capability } = await world.open();
    assert.ok(!availability.available);
    assert.match(`${availability.reason} | ${availability.mend}`, /no program wireguard-go.* \| .*CAP_NET_ADMIN/);
    await applyFull(capability, 1, [testSpec('a', [1])]);
    assert.equal(capability.held()!.generation, 1n);
    assert.equal(world.host.devices.size, 0);
    world.host.missing = undefined;
    await world.letGo();
    await untilState(await world.start(), 'a', 'up');
  });

  it('refuses names and interfaces that somebody else has, and takes nothing from anybody', async () => {
    await using world = new NetworkWorld();
    const capability = await world.start();
    await applyFull(capability, 1, [testSpec('a', [1])]);
    await untilState(capability, 'a', 'up');
    await assert.rejects(capability.applyLocal(local('a', []), false), {
      reason: 'already_exists',
      message: /controller/,
    });
    const sameInterface = local('b', [], { interface: 'if-a' });
    await assert.rejects(capability.applyLocal(sameInterface, false), {
      reason: 'already_exists',
      message: /network a/,
    });
    await assert.rejects(capability.removeLocal('a'), { reason: 'wrong_state', message: /controller/ });
    world.host.make('eth7');
    const { view } = await capability.applyLocal(local('c', [], { interface: 'eth7' }), false);
    assert.equal(view?.state, 'failed');
    assert.match(view.problems[0]!.message, /somebody else's/);
    await capability.removeLocal('c');
    assert.ok(world.host.devices.has('eth7'));
  });

  it('adopts an interface on request, keeps the peers of others, and leaves it when it goes', async () => {
    await using world = new NetworkWorld();
    world.host.make('wg9').model.write({
      peers: [{ kind: 'add', publicKey: testKey(9), fields: {}, whole: undefined as never }],
    });
    const capability = await world.start();
    const spec = { interface: 'wg9', adoptInterface: true };
    const { view } = await capability.applyLocal(local('a', [1], spec), false);
    assert.equal(view?.state, 'up');
    assert.deepEqual(
      view.peers.map(({ foreign }) => foreign),
      [false, true],
    );
    assert.match(view.problems.find(({ field }) => field === 'foreign_peers')!.message, /1 peers/);
    await capability.removeLocal('a');
    assert.deepEqual([...world.host.devices.get('wg9')!.model.state.peers.keys()], [testKey(9)]);
  });

  it('lets go of an adopted interface that its owner removed, where none could be made', async () => {
    await using world = new NetworkWorld();
    world.host.make('wg9');
    const capability = await world.start();
    await capability.applyLocal(local('a', [1], { interface: 'wg9', adoptInterface: true }), false);
    world.host.interfaces.open = async () => {
      throw new LonglineError('unsupported', 'no WireGuard can be had');
    };
    world.host.lose('wg9', 'its link is gone');
    await capability.removeLocal('a');
    assert.deepEqual(await capability.look(), []);
  });
});

describe('networks that an earlier process left', () => {
  it('go by name or all, and those of a controller stay, with their keys', async () => {
    await using world = new NetworkWorld();
    const first = await world.start();
    await applyFull(first, 1, [{ ...testSpec('c', [3]), keyEpoch: 1 }]);
    for (const name of ['a', 'b']) await first.applyLocal(local(name, [1]), false);
    await untilState(first, 'c', 'up');
    await world.letGo();
    const { capability: second } = await world.open();
    await assert.rejects(second.takeDown(['a', 'x']), /no network "x"; there are: a, b/);
    await assert.rejects(second.takeDown(['c']), /no network "c"; there are: a, b/);
    assert.deepEqual(await second.takeDown(['a']), ['a']);
    assert.deepEqual([...world.host.devices.keys()].sort(), ['if-b', 'if-c']);
    await world.letGo();
    const { capability: third } = await world.open();
    assert.deepEqual(await third.takeDown(), ['b']);
    assert.deepEqual([...world.host.devices.keys()], ['if-c']);
    assert.ok(world.host.ownKeyFiles.has('c.1'));
    await world.letGo();
    const fourth = await world.start();
    await untilState(fourth, 'c', 'up');
    assert.deepEqual(
      (await fourth.look()).map(({ name }) => name),
      ['c'],
    );
  });
});
