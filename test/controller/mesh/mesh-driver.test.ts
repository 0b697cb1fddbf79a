// Meshes on a real store: what agents are asked for as members join, leave and rotate, and that a driver which is killed before
// or after any of its writes leaves nothing that the next can't take up.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { MeshSpecSchema, MeshTopology } from '#gen/longline/fleet/v1/network_service_pb.js';
import { NetworkSpecSchema } from '#gen/longline/v1/network_pb.js';
import { MemoryBus } from '../../../src/controller/bus/memory/memory-bus.ts';
import { queuedRotation } from '../../../src/controller/mesh/key-rotation.ts';
import { type AskedMember, nextMesh } from '../../../src/controller/mesh/mesh-change.ts';
import { MeshDriver } from '../../../src/controller/mesh/mesh-driver.ts';
import { NetworkChanges } from '../../../src/controller/networks/network-changes.ts';
import { framesOf, specHash } from '../../../src/controller/networks/network-frames.ts';
import type { MeshMemberRecord } from '../../../src/controller/store/mesh.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { newId } from '../../../src/core/ids.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { until } from '../link/fleet-fixture.ts';
import { NetworkAgent } from '../services/network-fixture.ts';
import { connection } from '../store/store-contract.ts';
import { asked, meshSpec } from './mesh-model.ts';

const NOW = Date.UTC(2030, 0, 1);

class Killed extends Error {}

/** The store as a driver sees it that is killed before or after its write of this number. */
function mortal(store: Store, killAt: { writes: number; readonly after: boolean }): Store {
  const watched = <T extends object>(part: T, names: readonly string[]): T =>
    new Proxy(part, {
      get: (target, name) => {
        const method = Reflect.get(target, name) as (...parameters: unknown[]) => Promise<unknown>;
        if (typeof name !== 'string' || !names.includes(name)) return method.bind(target);
        return async (...parameters: unknown[]) => {
          killAt.writes--;
          if (killAt.writes < 0 || (killAt.writes === 0 && !killAt.after)) throw new Killed();
          const result = await method.apply(target, parameters);
          if (killAt.writes === 0) throw new Killed();
          return result;
        };
      },
    });
  return {
    ...store,
    meshes: watched(store.meshes, ['commit', 'delete']),
    networks: watched(store.networks, ['commit', 'forget']),
  };
}

describe('mesh driver', () => {
  let folder: string;
  let store: Store;
  let bus: MemoryBus;
  let agents: Map<string, NetworkAgent>;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-mesh-'));
    store = openSqliteStore(join(folder, 'store.db'));
    bus = new MemoryBus(silentLogger);
    agents = new Map();
  });
  afterEach(async () => {
    await bus[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  let nowMs = NOW;
  const driver = (on: Store = store) =>
    new MeshDriver({ store: on, bus, clock: { ...systemClock, now: () => nowMs }, log: silentLogger, recheckMs: 50 });
  const membersOf = async (name = 'm') => (await store.meshes.get(name))!.members;
  const connect = async (...ids: readonly string[]) => {
    for (const id of ids) {
      await store.agents.connect(connection(id));
      agents.set(id, new NetworkAgent(id, store, bus));
    }
  };

  async function putMesh(members: readonly AskedMember[], patch: Parameters<typeof meshSpec>[0] = {}): Promise<void> {
    const spec = meshSpec(patch);
    const state = await store.meshes.get(spec.name);
    const next = nextMesh(spec, members, state && { spec, state }, (agentId) => agentId);
    const base = { name: spec.name, baseRevision: state?.mesh.revision ?? 0, nowMs, newLayout: true, asked: true };
    const parts = { putMembers: next.changed, removedResting: next.removedResting };
    await store.meshes.commit({ ...base, spec: toBinary(MeshSpecSchema, spec), ...parts });
  }

  /** Drives, and lets all agents but these do what they are asked, until nothing is left to do. */
  async function settle(driving = driver(), away: readonly string[] = [], name = 'm'): Promise<void> {
    for (let turn = 0; turn < 60; turn++) {
      await driving.drive(name);
      const present = [...agents.values()].filter(({ id }) => !away.includes(id));
      const behind: NetworkAgent[] = [];
      for (const agent of present) if (await agent.behind()) behind.push(agent);
      for (const agent of behind) await agent.apply();
      if (behind.length === 0) return;
    }
    throw new Error('the mesh does not come to rest');
  }

  async function rotate(agentId: string): Promise<string> {
    const { mesh, members } = (await store.meshes.get('m'))!;
    const rotation = queuedRotation(newId(), 'm', members.find((one) => one.agentId === agentId)!, nowMs);
    const change = { name: 'm', baseRevision: mesh.revision, nowMs, newLayout: false, asked: false };
    await store.meshes.commit({ ...change, putRotations: [rotation] });
    return rotation.id;
  }

  const peersAt = (id: string, name = 'm') => {
    const { peers } = agents.get(id)!.networks.find((network) => network.name === name)!;
    return peers.map((peer) => `${peer.name} ${peer.allowedIps.join(' ')}`.trim()).sort();
  };

  it('asks for nothing but a key at first, and makes those peers who told theirs', async () => {
    await connect('a', 'b', 'c');
    await putMesh([asked('a'), asked('b'), asked('c')]);
    await driver().drive('m');
    await agents.get('a')!.apply();
    assert.deepEqual(peersAt('a'), []);
    await settle(driver(), ['c']);
    assert.deepEqual(peersAt('a'), ['b 10.100.0.2/32'], 'c has told no key');
    await settle();
    assert.deepEqual(peersAt('a'), ['b 10.100.0.2/32', 'c 10.100.0.3/32']);
    const [network] = agents.get('c')!.networks;
    assert.deepEqual([network!.addresses, network!.listenPort], [['10.100.0.3/16'], 51_820]);
    const before = await Promise.all(['a', 'b', 'c'].map((id) => store.desiredStates.heads(id)));
    await settle();
    assert.deepEqual(await Promise.all(['a', 'b', 'c'].map((id) => store.desiredStates.heads(id))), before);
  });

  it('sends the others one change when one joins or leaves, keeps the address for who comes back, and forgets who is gone', async () => {
    await connect('a', 'b', 'c', 'd');
    await putMesh([asked('a'), asked('b'), asked('c')]);
    await settle();
    const generation = async (id: string) => (await store.desiredStates.heads(id))[0]!.generation;
    const before = await generation('a');
    await putMesh([asked('a'), asked('b'), asked('c'), asked('d')]);
    await settle();
    assert.equal(await generation('a'), before + 1n);
    await putMesh([asked('a'), asked('c'), asked('d')]);
    await settle(driver(), ['b']);
    assert.deepEqual(peersAt('a'), ['c 10.100.0.3/32', 'd 10.100.0.4/32']);
    assert.equal((await membersOf()).find(({ agentId }) => agentId === 'b')!.leaving, true, 'it has not heard of it');
    await settle();
    assert.deepEqual(agents.get('b')!.networks, []);
    assert.equal((await membersOf()).length, 3);
    await connect('e');
    await putMesh([asked('a'), asked('c'), asked('d'), asked('e'), asked('b')]);
    await settle();
    const addresses = new Map((await membersOf()).map(({ address, agentId }) => [agentId, address]));
    assert.deepEqual([addresses.get('b'), addresses.get('e')], ['10.100.0.2/32', '10.100.0.5/32']);
    await store.agents.revoke('c', 'lost');
    await settle(driver(), ['c']);
    assert.ok(!peersAt('a').some((peer) => peer.startsWith('c')));
    assert.ok(!(await membersOf()).some(({ agentId }) => agentId === 'c'));
  });

  it('brings spokes together over their hubs', async () => {
    await connect('h', 'i', 's', 't');
    const hub = { hub: true };
    const spokes = [asked('s', { endpoint: '' }), asked('t', { endpoint: '', routes: ['192.168.7.0/24'] })];
    await putMesh([asked('h', hub), asked('i', hub), ...spokes], { topology: MeshTopology.HUB });
    await settle();
    const homes = new Map((await membersOf()).map(({ agentId, home }) => [agentId, home]));
    assert.deepEqual([homes.get('s'), homes.get('t'), homes.get('h')], ['h', 'i', '']);
    assert.deepEqual(peersAt('s'), ['h 10.100.0.0/16 192.168.7.0/24']);
    assert.deepEqual(peersAt('t'), ['i 10.100.0.0/16']);
    assert.deepEqual(peersAt('h'), ['i 10.100.0.2/32 10.100.0.4/32 192.168.7.0/24', 's 10.100.0.3/32']);
    const [atHub, atSpoke] = ['h', 's'].map((id) => agents.get(id)!.networks[0]!);
    assert.deepEqual([atHub!.forward, atSpoke!.forward, atSpoke!.listenPort], [true, false, 0]);
    assert.deepEqual(
      [atSpoke!.peers[0]!.persistentKeepaliveSecs, atHub!.peers.map((peer) => peer.endpoint).sort()],
      [25, ['', 'i:51820']],
    );
    await putMesh([asked('i', hub), ...spokes], { topology: MeshTopology.HUB });
    await settle();
    assert.deepEqual(peersAt('s'), ['i 10.100.0.0/16 192.168.7.0/24']);
  });

  it('takes a mesh away when it is asked to, once all have left', async () => {
    await connect('a', 'b');
    await putMesh([asked('a'), asked('b')]);
    await settle();
    const { members, mesh } = (await store.meshes.get('m'))!;
    const putMembers: MeshMemberRecord[] = members.map((member) => ({ ...member, leaving: true }));
    const change = { name: 'm', baseRevision: mesh.revision, nowMs, newLayout: true, asked: true };
    await store.meshes.commit({ ...change, removing: true, putMembers });
    await settle(driver(), ['b']);
    assert.notEqual(await store.meshes.get('m'), undefined);
    await settle();
    assert.equal(await store.meshes.get('m'), undefined);
  });

  it('waits for a late peer with a rotation, and ends it when that leaves', async () => {
    await connect('a', 'b', 'c');
    await putMesh([asked('a'), asked('b'), asked('c')]);
    await settle();
    const id = await rotate('a');
    await settle(driver(), ['c']);
    const waiting = (await store.meshes.getRotation(id))!;
    assert.deepEqual([waiting.step, waiting.waitingFor], ['stage', ['c']]);
    await putMesh([asked('a'), asked('b')]);
    await settle(driver(), ['c']);
    const done = (await store.meshes.getRotation(id))!;
    assert.deepEqual([done.step, done.undoing, done.newKey], ['done', false, agents.get('a')!.key(1)]);
    const [{ keyEpoch, publicKey }] = (await membersOf()) as [MeshMemberRecord];
    assert.deepEqual([keyEpoch, publicKey], [1, done.newKey]);
  });

  it('takes nothing that an agent has by itself, and makes its network once that is out of the way', async () => {
    await connect('a');
    const spec = create(NetworkSpecSchema, { name: 'm', interface: 'wg9' });
    const frames = framesOf(spec);
    const put = { kind: 'put' as const, mesh: '', interface: 'wg9', frames, hash: specHash(frames) };
    const changes = new NetworkChanges({ store, bus, clock: systemClock });
    await changes.apply('a', () => [put]);
    await agents.get('a')!.apply();
    await putMesh([asked('a')]);
    const driving = driver();
    await settle(driving);
    assert.equal((await store.networks.get('a', 'm'))!.mesh, '');
    assert.equal((await membersOf())[0]!.publicKey, '', "its own network's key is not that of the mesh");
    await changes.apply('a', () => [{ kind: 'remove', name: 'm' }]);
    const stop = new AbortController();
    const running = driving.run(stop.signal);
    try {
      await until('the network of the mesh', async () => (await store.networks.get('a', 'm'))?.mesh === 'm');
    } finally {
      stop.abort();
      await running;
    }
  });

  it('goes no further with a rotation while a peer can not be asked for its part', async () => {
    await connect('a', 'b', 'c');
    await putMesh([asked('a'), asked('b'), asked('c')]);
    await settle();
    const commit: Store['networks']['commit'] = async (change) => {
      if (change.state.agentId === 'c') throw new LonglineError('limit', 'too much', { retryable: false });
      return await store.networks.commit(change);
    };
    const networks = new Proxy(store.networks, {
      get: (target, name) => (name === 'commit' ? commit : (Reflect.get(target, name) as () => unknown).bind(target)),
    });
    const id = await rotate('a');
    const driving = driver({ ...store, networks });
    await settle(driving);
    const waiting = (await store.meshes.getRotation(id))!;
    assert.deepEqual([waiting.step, waiting.waitingFor], ['stage', ['c']]);
    await settle();
    assert.equal((await store.meshes.getRotation(id))!.step, 'done');
  });

  it('takes no key from an agent that would break the networks of others', async () => {
    await connect('a', 'b', 'c');
    const rogue = agents.get('c')!;
    await putMesh([asked('a'), asked('b'), asked('c')]);
    await settle(driver(), ['c']);
    const offered = ['no key', Buffer.alloc(32).toString('base64'), agents.get('a')!.key(0)];
    for (const publicKey of offered) {
      await rogue.apply({ keys: [{ epoch: 0, publicKey }] });
      await settle(driver(), ['c']);
      assert.deepEqual(peersAt('a'), ['b 10.100.0.2/32'], publicKey);
    }
    await settle();
    const id = await rotate('c');
    await driver().drive('m');
    for (const publicKey of [rogue.key(0), agents.get('a')!.key(0)]) {
      await rogue.apply({
        keys: [
          { epoch: 0, publicKey: rogue.key(0) },
          { epoch: 1, publicKey },
        ],
      });
      await settle(driver(), ['c']);
      assert.equal((await store.meshes.getRotation(id))!.step, 'prepare', publicKey);
    }
    await rogue.apply();
    await settle(driver(), ['b']);
    assert.equal((await store.meshes.getRotation(id))!.step, 'stage');
    await agents.get('a')!.apply({ keys: [{ epoch: 0, publicKey: rogue.key(1) }] });
    await driver().drive('m');
    assert.equal((await membersOf())[0]!.publicKey, agents.get('a')!.key(0), 'a key that is being staged has an owner');
  });

  it('rotates by itself when it is time, one after the other, and not those whose peers are away', async () => {
    await connect('a', 'b');
    const rotateEvery = durationFromMs(3_600_000);
    nowMs = NOW;
    await putMesh([asked('a'), asked('b')], { rotateEvery });
    await settle();
    nowMs += 3_000_000;
    await settle();
    const epochs = async () => (await membersOf()).map(({ keyEpoch }) => keyEpoch);
    assert.deepEqual(await epochs(), [0, 0]);
    nowMs += 600_000;
    const { connectionId } = (await store.agents.get('b'))!;
    await store.agents.disconnect('b', connectionId, nowMs);
    await settle();
    assert.deepEqual(await epochs(), [0, 0], 'b is away');
    await store.agents.connect(connection('b', { nowMs, bootId: 'b2' }));
    await settle();
    assert.deepEqual(await epochs(), [1, 1]);
    const { items } = await store.meshes.listRotations({ mesh: 'm', active: false, pageSize: 10, pageToken: '' });
    assert.deepEqual(
      items.map(({ step }) => step),
      ['done', 'done'],
    );
  });

  it('takes up what a killed one left, wherever that was', async () => {
    const run = async (killAt: { writes: number; readonly after: boolean }, name: string): Promise<boolean> => {
      await putMesh([asked('a'), asked('b')], { name, pool: '10.1.0.0/24' });
      let killed = false;
      const settled = async () => {
        await settle(driver(mortal(store, killAt)), [], name).catch((error: unknown) => {
          assert.ok(error instanceof Killed);
          killed = true;
        });
        await settle(driver(), [], name);
      };
      await settled();
      const { mesh, members } = (await store.meshes.get(name))!;
      const rotation = queuedRotation(newId(), name, members[0]!, nowMs);
      const change = { name, baseRevision: mesh.revision, nowMs, newLayout: false, asked: false };
      await store.meshes.commit({ ...change, putRotations: [rotation] });
      await settled();
      assert.equal((await store.meshes.getRotation(rotation.id))!.step, 'done');
      assert.deepEqual(peersAt('b', name), ['a 10.1.0.1/32']);
      assert.equal(agents.get('a')!.networks.find((one) => one.name === name)!.keyEpoch, 1);
      return killed;
    };
    await connect('a', 'b');
    let point = 1;
    for (; await run({ writes: point, after: point % 2 === 0 }, `m${point}`); point++);
    assert.ok(point > 15, `${point} writes were interrupted`);
  });
});
