// What every implementation of the store has to do for networks and meshes. Call it from a *.test.ts with a factory.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { KeyRotationRecord, MeshChange, MeshMemberRecord } from '../../../src/controller/store/mesh.ts';
import type { NetworkCommit } from '../../../src/controller/store/network.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { connection, type StoreUnderTest } from './store-contract.ts';

const NOW = Date.UTC(2030, 0, 1);
const NETWORK = 1;
const bytes = (text: string) => Uint8Array.from(Buffer.from(text));

function commit(agentId: string, expected: number, names: readonly string[], patch = {}): NetworkCommit {
  const body = bytes(`${agentId} ${names} ${expected}`);
  const networks = names.map((name) => {
    return { name, mesh: '', interface: `wg-${name}`, specHash: bytes(name), removing: false, ...patch };
  });
  return {
    state: {
      agentId,
      kind: NETWORK,
      expected: BigInt(expected),
      body,
      digest: bytes('d'),
      undo: undefined,
      nowMs: NOW,
    },
    networks,
  };
}

export function member(agentId: string, patch: Partial<MeshMemberRecord> = {}): MeshMemberRecord {
  return {
    agentId,
    endpoint: '',
    wantedAddress: '',
    hub: false,
    routes: [],
    nat: false,
    address: '10.0.0.1/32',
    subnet: '',
    home: '',
    keyEpoch: 0,
    lastEpoch: 0,
    publicKey: '',
    keySinceMs: 0,
    leaving: false,
    ...patch,
  };
}

function rotation(id: string, patch: Partial<KeyRotationRecord> = {}): KeyRotationRecord {
  return {
    id,
    mesh: 'm',
    agentId: 'a',
    step: 'queued',
    undoing: false,
    oldEpoch: 0,
    newEpoch: 1,
    oldKey: 'old',
    newKey: '',
    peers: [],
    waitingFor: [],
    startedAtMs: NOW,
    endedAtMs: undefined,
    ...patch,
  };
}

const change = (baseRevision: number, patch: Partial<MeshChange> = {}): MeshChange => {
  return { name: 'm', baseRevision, nowMs: NOW, newLayout: false, asked: false, ...patch };
};

export function networkStoreContract(name: string, factory: () => Promise<StoreUnderTest>): void {
  let under: StoreUnderTest;
  let store: Store;
  const begin = async () => {
    under = await factory();
    ({ store } = under);
    for (const agentId of ['a', 'b']) await store.agents.connect(connection(agentId));
  };

  describe(`${name}: networks`, () => {
    beforeEach(begin);
    afterEach(async () => await under.close());

    it('are noted together with what is wanted of their agent, or not at all', async () => {
      const outcomes = await Promise.all([
        store.networks.commit(commit('a', 0, ['x', 'y'])),
        store.networks.commit(commit('a', 0, ['z'])),
        store.networks.commit(commit('nobody', 0, ['z'])),
      ]);
      assert.deepEqual(outcomes, [{ kind: 'stored', generation: 1n }, { kind: 'moved' }, { kind: 'missing' }]);
      await store.networks.commit(commit('a', 1, ['y'], { mesh: 'y', removing: true }));
      under = await under.reopen();
      ({ store } = under);
      const all = await store.networks.ofAgent('a');
      assert.deepEqual(
        all.map((one) => [one.name, one.interface, one.mesh, one.generation, one.removing, one.updatedAtMs]),
        [
          ['x', 'wg-x', '', 1n, false, NOW],
          ['y', 'wg-y', 'y', 2n, true, NOW],
        ],
      );
      assert.deepEqual(await store.networks.get('a', 'y'), all[1]);
      assert.equal(await store.networks.get('b', 'y'), undefined);
      assert.equal((await store.desiredStates.get('a', NETWORK))!.generation, 2n);
    });

    it('are of the generation that theirs is raised to', async () => {
      await store.networks.commit(commit('a', 0, ['x']));
      await store.networks.commit(commit('b', 0, ['x']));
      const held = { generation: 7n, digest: bytes('another') };
      await store.desiredStates.raise('a', NETWORK + 1, held);
      assert.equal((await store.networks.get('a', 'x'))!.generation, 1n, 'another kind');
      await store.desiredStates.raise('a', NETWORK, held);
      assert.equal((await store.networks.get('a', 'x'))!.generation, 8n);
      assert.equal((await store.networks.get('b', 'x'))!.generation, 1n);
      await store.networks.commit(commit('a', 8, ['y']));
      await store.desiredStates.raise('a', NETWORK, held);
      assert.equal((await store.networks.get('a', 'x'))!.generation, 8n, 'it is above already');
    });

    it('are listed by agent and name, in pages and by what they are', async () => {
      await store.networks.commit(commit('b', 0, ['x', 'm'], { mesh: 'm' }));
      await store.networks.commit(commit('a', 0, ['y', 'x']));
      const list = async (patch = {}) => {
        const found: string[] = [];
        for (let pageToken = ''; ; ) {
          const every = { agentId: '', mesh: '', name: '', pageSize: 1, pageToken, ...patch };
          const page = await store.networks.list(every);
          found.push(...page.items.map((one) => `${one.agentId}/${one.name}`));
          pageToken = page.nextPageToken;
          if (pageToken === '') return found;
        }
      };
      assert.deepEqual(await list(), ['a/x', 'a/y', 'b/m', 'b/x']);
      assert.deepEqual(await list({ agentId: 'a' }), ['a/x', 'a/y']);
      assert.deepEqual(await list({ mesh: 'm' }), ['b/m', 'b/x']);
      assert.deepEqual(await list({ name: 'x' }), ['a/x', 'b/x']);
    });

    it('are forgotten when they are being removed and nothing newer was asked, and with their agent', async () => {
      await store.networks.commit(commit('a', 0, ['x', 'y']));
      await store.networks.commit(commit('a', 1, ['x'], { removing: true }));
      assert.deepEqual(await store.networks.agentsWithLeftovers(10), ['a']);
      await store.networks.commit(commit('b', 0, ['m'], { mesh: 'm' }));
      assert.deepEqual(await store.networks.agentsWithLeftovers(10), ['a', 'b'], 'b is no member');
      assert.deepEqual(await store.networks.forget('a', ['x', 'y'], 1n), []);
      assert.deepEqual(await store.networks.forget('a', ['x', 'y'], 2n), ['x']);
      const { connectionId } = (await store.agents.get('a'))!;
      await store.agents.disconnect('a', connectionId, NOW);
      await store.agents.delete('a', NOW);
      assert.deepEqual(await store.networks.ofAgent('a'), []);
    });
  });

  describe(`${name}: meshes`, () => {
    beforeEach(begin);
    afterEach(async () => await under.close());

    it('change as a whole, and only from the revision that was read', async () => {
      const first = change(0, { spec: bytes('spec'), putMembers: [member('b'), member('a')], newLayout: true });
      const outcomes = await Promise.all([store.meshes.commit(first), store.meshes.commit(first)]);
      assert.deepEqual(outcomes, [{ kind: 'stored', revision: 1 }, { kind: 'conflict' }]);
      const key = member('a', { publicKey: 'k', keyEpoch: 3, lastEpoch: 4, keySinceMs: 5, routes: ['r'], hub: true });
      const rest = { agentId: 'b', address: '10.0.0.2/32', subnet: '', leftAtMs: NOW };
      const second = { putMembers: [key], removedMembers: ['b'], putResting: [rest], putRotations: [rotation('1')] };
      await store.meshes.commit(change(1, { ...second, nowMs: NOW + 1 }));
      under = await under.reopen();
      ({ store } = under);
      const state = (await store.meshes.get('m'))!;
      const times = { createdAtMs: NOW, updatedAtMs: NOW };
      assert.deepEqual(state.mesh, {
        name: 'm',
        spec: bytes('spec'),
        revision: 2,
        layout: 1,
        removing: false,
        ...times,
      });
      assert.deepEqual(state.members, [key]);
      assert.deepEqual(state.resting, [rest]);
      assert.deepEqual(state.rotations, [rotation('1')]);
      const third = { asked: true, newLayout: true, removing: true, removedResting: ['b'] };
      await store.meshes.commit(change(2, { ...third, nowMs: NOW + 2 }));
      const after = (await store.meshes.get('m'))!;
      assert.deepEqual([after.mesh.layout, after.mesh.updatedAtMs, after.mesh.removing], [3, NOW + 2, true]);
      assert.deepEqual(after.resting, []);
    });

    it('are found by agent, listed by name, and forgotten once nobody is left', async () => {
      for (const mesh of ['n', 'm']) await store.meshes.commit(change(0, { name: mesh, spec: bytes('') }));
      await store.meshes.commit(change(1, { putMembers: [member('a')] }));
      assert.deepEqual(await store.meshes.ofAgent('a'), ['m']);
      const page = await store.meshes.list({ pageSize: 1, pageToken: '' });
      const next = await store.meshes.list({ pageSize: 5, pageToken: page.nextPageToken });
      assert.deepEqual([page.items, next.items, next.nextPageToken], [['m'], ['n'], '']);
      assert.equal(await store.meshes.delete('m', 2), false, 'it has a member');
      await store.meshes.commit(change(2, { removedMembers: ['a'] }));
      assert.equal(await store.meshes.delete('m', 2), false, 'it has changed');
      assert.equal(await store.meshes.delete('m', 3), true);
      assert.equal(await store.meshes.get('m'), undefined);
    });

    it('keep rotations that ended, newest first, for a while', async () => {
      await store.meshes.commit(change(0, { spec: bytes('') }));
      const ended = rotation('1', { step: 'done', newKey: 'new', peers: ['b'], endedAtMs: NOW });
      const open = rotation('2', { step: 'stage', waitingFor: ['b'], undoing: true });
      await store.meshes.commit(change(1, { putRotations: [ended, open] }));
      const list = async (patch = {}) => {
        const query = { mesh: '', active: false, pageSize: 10, pageToken: '', ...patch };
        return (await store.meshes.listRotations(query)).items;
      };
      assert.deepEqual(await list(), [open, ended]);
      assert.deepEqual(await list({ active: true }), [open]);
      assert.deepEqual(await list({ mesh: 'other' }), []);
      assert.deepEqual((await store.meshes.get('m'))!.rotations, [open]);
      assert.deepEqual(await store.meshes.getRotation('1'), ended);
      assert.equal(await store.meshes.deleteEndedRotations(NOW, 10), 0);
      assert.equal(await store.meshes.deleteEndedRotations(NOW + 1, 10), 1);
      assert.deepEqual(await list(), [open]);
    });

    it('tell of each member what its agent was asked for and said', async () => {
      const members = [member('a'), member('b'), member('gone')];
      await store.meshes.commit(change(0, { spec: bytes(''), putMembers: members }));
      await store.networks.commit(commit('a', 0, ['m'], { mesh: 'm' }));
      await store.agents.revoke('b', 'lost');
      const report = { agentId: 'a', kind: NETWORK, generation: 1n, report: bytes('said'), storedAtMs: NOW };
      await store.stateReports.put(report);
      await store.desiredStates.refused('a', NETWORK, { generation: 1n, error: bytes('no'), atMs: NOW });
      const [a, b, gone] = await store.networks.memberFacts('m');
      assert.deepEqual([a!.valid, a!.online, a!.network!.generation], [true, true, 1n]);
      assert.deepEqual(a!.report, { generation: 1n, bytes: bytes('said') });
      assert.deepEqual(a!.refusal, { generation: 1n, error: bytes('no') });
      assert.deepEqual([b!.agentId, b!.valid, b!.network, b!.report], ['b', false, undefined, undefined]);
      assert.deepEqual([gone!.valid, gone!.online], [false, false]);
    });
  });
}
