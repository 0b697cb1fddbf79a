import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import {
  type Mesh,
  type MeshSpecSchema,
  MeshTopology,
  RotationStep,
} from '#gen/longline/fleet/v1/network_service_pb.js';
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import { NetworkState } from '#gen/longline/v1/network_pb.js';
import type { LonglineError } from '../../../src/core/errors.ts';
import { fromConnectError } from '../front/received-errors.ts';
import { type ControlStream, FleetUnderTest, until } from '../link/fleet-fixture.ts';
import { connection } from '../store/store-contract.ts';
import { keyNamed, NetworkAgent } from './network-fixture.ts';

type SpecInit = MessageInitShape<typeof MeshSpecSchema>;

const member = (agentId: string, patch: object = {}) => ({ agentId, endpoint: agentId, ...patch });

describe('meshes of agents', () => {
  let fleet: FleetUnderTest;
  let agents: NetworkAgent[];
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
    for (const id of ['a', 'b', 'c']) await fleet.store.agents.connect(connection(id));
    agents = ['a', 'b', 'c'].map((id) => new NetworkAgent(id, fleet.store, fleet.services.bus));
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());

  const refusal = async (call: Promise<unknown>): Promise<LonglineError> => {
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof ConnectError, `expected a ConnectError, got ${error}`);
    return fromConnectError(error);
  };
  const put = async (init: SpecInit = {}, validateOnly = false) => {
    const spec = { name: 'm', pool: '10.100.0.0/16', members: [member('a'), member('b')], ...init };
    return await fleet.networks.putMesh({ spec, validateOnly });
  };
  /** Lets agents do what is wanted of them until the mesh is as a test wants it. */
  const settled = async (what: string, holds: (mesh: Mesh) => boolean, ...away: string[]) =>
    await until(what, async () => {
      for (const agent of agents) if (!away.includes(agent.id) && (await agent.behind())) await agent.apply();
      const mesh = (await fleet.networks.getMesh({ name: 'm' })).mesh!;
      return holds(mesh) && mesh;
    });
  const allApplied = (mesh: Mesh) => mesh.members.every(({ applied, publicKey }) => applied && publicKey !== '');

  it('are stored with all that was left open, and brought about', async () => {
    const { changed, mesh } = await put({ subnetPool: '10.200.0.0/16' });
    assert.equal(changed, true);
    const { interface: onInterface, listenPort, mtu, subnetLength, topology } = mesh!.spec!;
    assert.deepEqual(
      [onInterface, listenPort, mtu, subnetLength, topology],
      ['m', 51_820, 1420, 24, MeshTopology.FULL],
    );
    assert.deepEqual(
      mesh!.members.map(({ applied, member: one, subnet }) => [
        one!.agentId,
        one!.address,
        one!.endpoint,
        subnet,
        applied,
      ]),
      [
        ['a', '10.100.0.1', 'a:51820', '10.200.0.0/24', false],
        ['b', '10.100.0.2', 'b:51820', '10.200.1.0/24', false],
      ],
    );
    await settled('all to have peers', allApplied);
    const { network } = await fleet.networks.getNetwork({ agentId: 'a', name: 'm' });
    assert.deepEqual([network!.mesh, network!.spec!.peers[0]!.allowedIps], ['m', ['10.100.0.2/32', '10.200.1.0/24']]);
    assert.equal((await put({ subnetPool: '10.200.0.0/16' })).changed, false);
    const again = (await fleet.networks.getMesh({ name: 'm' })).mesh!.spec!;
    assert.equal((await fleet.networks.putMesh({ spec: again })).changed, false, 'as it was read');
  });

  it('are refused with every wrong field', async () => {
    const members = [
      member('a', { address: '10.101.0.1', routes: ['10.100.7.0/24'] }),
      member('a', { endpoint: 'x y', nat: true }),
      { agentId: 'h', hub: true },
    ];
    const wrong = { interface: 'much-too-long-it-is', mtu: 5, listenPort: 70_000, dnsServers: ['x'], subnetLength: 8 };
    const odd = { rotateEvery: durationFromMs(1000), topology: MeshTopology.HUB, dnsDomains: ['-'] };
    const { reason, violations } = await refusal(put({ ...wrong, ...odd, members, name: 'a b' }));
    assert.equal(reason, 'invalid');
    assert.deepEqual(violations.map(({ field }) => field).sort(), [
      'spec.dns_domains[0]',
      'spec.dns_servers[0]',
      'spec.interface',
      'spec.listen_port',
      'spec.members[0].address',
      'spec.members[0].routes[0]',
      'spec.members[1].agent_id',
      'spec.members[1].endpoint',
      'spec.members[1].nat',
      'spec.members[2].endpoint',
      'spec.mtu',
      'spec.name',
      'spec.rotate_every',
      'spec.subnet_length',
    ]);
    const pools = await refusal(put({ subnetPool: '10.100.7.0/24', subnetLength: 8 }));
    assert.deepEqual(
      pools.violations.map(({ field }) => field),
      ['spec.subnet_pool', 'spec.subnet_length'],
    );
    const routes = { routes: ['192.168.7.0/24'] };
    const twice = await refusal(put({ members: [member('a', routes), member('b', routes)] }));
    assert.deepEqual(
      twice.violations.map(({ field }) => field),
      ['spec.members[1].routes[0]'],
    );
    const both = { address: '10.100.0.9' };
    const taken = await refusal(put({ members: [member('a', both), member('b', both)] }));
    const [{ description, field }] = taken.violations as [LonglineError['violations'][number]];
    assert.equal(`${field}: ${description}`, 'spec.members[1].address: 10.100.0.9 is that of agent a; take another');
    const many = Array.from({ length: 2001 }, (_, place) => member(`agent-${place}`));
    assert.deepEqual(
      (await refusal(put({ members: many }))).violations.map(({ field }) => field),
      ['spec.members'],
    );
  });

  it('are refused where agents, addresses, or what agents have already, are in the way', async () => {
    assert.equal((await refusal(put({ members: [member('nobody')] }))).reason, 'not_found');
    assert.equal(
      (await refusal(put({ pool: '10.0.0.0/31', members: ['a', 'b', 'c'].map((id) => member(id)) }))).reason,
      'limit',
    );
    const own = { agentId: 'a', spec: { name: 'own', interface: 'm' } };
    await fleet.networks.putNetwork(own);
    assert.match((await refusal(put())).message, /interface m of agent a is that of network own/);
    await fleet.networks.putNetwork({ ...own, spec: { name: 'm', interface: 'wg9' } });
    assert.equal((await refusal(put({ interface: 'wg1' }))).reason, 'already_exists');
    await put({ members: [member('b')] });
    assert.match(
      (await refusal(put({ name: 'n', interface: 'm', members: [member('b')] }))).message,
      /is that of mesh m/,
    );
    assert.equal((await refusal(put({ pool: '10.101.0.0/16' }))).reason, 'wrong_state');
    const inMesh = { agentId: 'b', spec: { name: 'm', interface: 'wg3' } };
    assert.equal((await refusal(fleet.networks.putNetwork(inMesh))).reason, 'wrong_state');
    await until('the network of b', async () => (await fleet.store.networks.get('b', 'm')) !== undefined);
    assert.equal((await refusal(fleet.networks.deleteNetwork({ agentId: 'b', name: 'm' }))).reason, 'wrong_state');
  });

  it('take the place of a network of the same name that is being removed', async () => {
    await fleet.networks.putNetwork({ agentId: 'a', spec: { name: 'm', interface: 'wg9' } });
    await fleet.networks.deleteNetwork({ agentId: 'a', name: 'm' });
    await put({ members: [member('a')] });
    await settled('a to have it', allApplied);
    assert.equal((await fleet.networks.getNetwork({ agentId: 'a', name: 'm' })).network!.mesh, 'm');
  });

  it('name the address that was asked for, not that which a member has', async () => {
    await put();
    const told = async (members: readonly object[]) =>
      (await refusal(put({ members: [...members] }))).violations.map(({ description, field }) => [field, description]);
    const c = member('c', { address: '10.100.0.2' });
    const description = '10.100.0.2 is that of agent b; take another';
    assert.deepEqual(await told([c, member('a'), member('b')]), [['spec.members[0].address', description]]);
    assert.deepEqual(await told([member('a'), c]), [['spec.members[1].address', description]], 'b leaves');
  });

  it('are checked only, if that is all that was asked for', async () => {
    const { changed, mesh } = await put({ members: [member('a'), { agentId: 'b' }, { agentId: 'c' }] }, true);
    assert.equal(changed, true);
    assert.deepEqual(mesh!.warnings, ["b, c have no endpoint and can't reach each other"]);
    assert.equal(mesh!.members[2]!.member!.address, '10.100.0.3');
    const wide = member('a', { routes: ['192.168.0.0/16', '192.168.9.0/24'] });
    const narrow = member('b', { routes: ['192.168.7.0/24', '172.16.0.0/12'] });
    assert.deepEqual((await put({ members: [narrow, wide] }, true)).mesh!.warnings, [
      '192.168.7.0/24 of b lies in 192.168.0.0/16 of a, which has only what is left of that',
    ]);
    assert.equal((await refusal(fleet.networks.getMesh({ name: 'm' }))).reason, 'not_found');
  });

  it('take single agents in and let them go', async () => {
    await put();
    await settled('all to have peers', allApplied);
    const joined = await fleet.networks.joinMesh({ mesh: 'm', member: member('c', { address: '10.100.0.77' }) });
    assert.deepEqual(
      joined.mesh!.members.map(({ member: one }) => one!.address),
      ['10.100.0.1', '10.100.0.2', '10.100.0.77'],
    );
    await settled('c to have peers', allApplied);
    const wrong = await refusal(fleet.networks.joinMesh({ mesh: 'm', member: { agentId: 'c', endpoint: ' ' } }));
    assert.deepEqual(
      wrong.violations.map(({ field }) => field),
      ['member.endpoint'],
    );
    const left = await fleet.networks.leaveMesh({ mesh: 'm', agentId: 'b' });
    assert.deepEqual(
      left.mesh!.members.map(({ leaving }) => leaving),
      [false, true, false],
    );
    await settled('b to be gone', ({ members }) => members.length === 2 && members.every(({ applied }) => applied));
    assert.equal((await refusal(fleet.networks.leaveMesh({ mesh: 'm', agentId: 'b' }))).reason, 'not_found');
    assert.equal((await refusal(fleet.networks.leaveMesh({ mesh: 'x', agentId: 'b' }))).reason, 'not_found');
  });

  it('lose agents that are revoked, with what was wanted of them there', async () => {
    await put();
    await settled('all to have peers', allApplied);
    await fleet.agents.revokeAgent({ agentId: 'b', reason: 'lost' });
    await settled('b to be gone', (mesh) => mesh.members.length === 1 && allApplied(mesh), 'b');
    await until('the network of b to be gone', async () => {
      const { networks } = await fleet.networks.listNetworks({ filter: { mesh: 'm' } });
      return networks.map(({ agentId }) => agentId).join() === 'a';
    });
  });

  it('lose agents that are deleted', async () => {
    await put();
    await settled('all to have peers', allApplied);
    const { connectionId } = (await fleet.store.agents.get('b'))!;
    await fleet.store.agents.disconnect('b', connectionId, Date.now());
    await fleet.agents.deleteAgent({ agentId: 'b' });
    const mesh = await settled(
      'b to be gone',
      ({ members }) => members.length === 1 && allApplied({ members } as Mesh),
      'b',
    );
    assert.equal(mesh.members[0]!.member!.agentId, 'a');
  });

  it('are listed, and go once all have left', async () => {
    await put();
    await put({ name: 'n', interface: 'wg1', pool: 'fd42::/64', members: [{ agentId: 'c' }] });
    const names = async () => (await fleet.networks.listMeshes({})).meshes.map(({ spec }) => spec!.name);
    assert.deepEqual(await names(), ['m', 'n']);
    const { meshes } = await fleet.networks.listMeshes({ pageSize: 1 });
    assert.equal(meshes[0]!.members[0]!.member!.address, '10.100.0.1');
    await settled('all to have peers', allApplied);
    const { mesh } = await fleet.networks.deleteMesh({ name: 'm' });
    assert.equal(mesh!.removing, true);
    assert.equal((await refusal(put())).reason, 'wrong_state');
    await until('the mesh to be gone', async () => {
      for (const agent of agents) if (await agent.behind()) await agent.apply();
      return (await names()).join() === 'n';
    });
    assert.equal((await fleet.networks.getMesh({ name: 'n' })).mesh!.members[0]!.member!.address, 'fd42::1');
  });

  it('reach agents as what differs from what they have', async () => {
    const hosts = ['x', 'y', 'z'].map((id) => fleet.agent(id));
    const streams = await Promise.all(hosts.map((host) => host.connect()));
    const [x, y, z] = streams as [ControlStream, ControlStream, ControlStream];
    const key = (id: string) => keyNamed(`${id}/0`);
    const tell = async (stream: ControlStream, id: string, generation: bigint) => {
      const [head] = await fleet.store.desiredStates.heads(id);
      const network = { name: 'm', state: NetworkState.UP, keys: [{ epoch: 0, publicKey: key(id) }] };
      const detail = { case: 'network' as const, value: { networks: [network] } };
      const { digest } = head!;
      stream.send({ case: 'stateReport', value: { kind: DesiredStateKind.NETWORK, generation, digest, detail } });
    };
    // Long enough for a difference to be worth it.
    const dnsDomains = Array.from({ length: 20 }, (_, place) => `domain-${place}.example`);
    await put({ members: [member('x'), member('y')], dnsDomains });
    for (const [stream, id] of [
      [x, 'x'],
      [y, 'y'],
    ] as const) {
      const { baseGeneration, generation } = await stream.next('desiredState');
      assert.equal(baseGeneration, 0n);
      await tell(stream, id, generation);
    }
    const peered = await x.next('desiredState');
    await tell(x, 'x', peered.generation);
    await fleet.networks.joinMesh({ mesh: 'm', member: member('z') });
    const joining = await z.next('desiredState');
    assert.deepEqual(joining.body.case === 'network' && joining.body.value.networks[0]!.peers, []);
    await tell(z, 'z', joining.generation);
    const change = await x.next('desiredState');
    assert.deepEqual([change.baseGeneration, change.generation], [peered.generation, peered.generation + 1n]);
    assert.ok(change.body.case === 'network');
    const { networks, peerDeltas } = change.body.value;
    assert.deepEqual(networks, []);
    assert.deepEqual(
      peerDeltas.map((delta) => [delta.network, delta.put.map(({ publicKey }) => publicKey), delta.removed]),
      [['m', [key('z')], []]],
    );
  });

  it('rotate the key of one or all, and back', async () => {
    await put();
    assert.equal(
      (await refusal(fleet.networks.rotateKey({ mesh: 'm', agentId: 'a' }))).reason,
      'wrong_state',
      'no key yet',
    );
    const keys = ({ members }: Mesh) => members.map(({ keyEpoch }) => keyEpoch).join();
    const before = await settled('all to have peers', allApplied);
    const { rotations } = await fleet.networks.rotateKey({ mesh: 'm' });
    assert.deepEqual(
      rotations.map(({ agentId }) => agentId),
      ['a', 'b'],
    );
    const again = await fleet.networks.rotateKey({ mesh: 'm', agentId: 'b' });
    assert.deepEqual(
      again.rotations.map(({ id }) => id),
      [rotations[1]!.id],
      'it is on its way already',
    );
    const after = await settled('both keys to be new', (mesh) => keys(mesh) === '1,1' && allApplied(mesh));
    assert.notEqual(after.members[0]!.publicKey, before.members[0]!.publicKey);
    const list = async () => (await fleet.networks.listRotations({ mesh: 'm' })).rotations;
    assert.deepEqual(
      (await list()).map(({ agentId, step }) => [agentId, step]),
      [
        ['b', RotationStep.DONE],
        ['a', RotationStep.DONE],
      ],
    );
    const late = await refusal(fleet.networks.undoRotation({ id: rotations[0]!.id }));
    assert.match(`${late.reason}: ${late.message}`, /^wrong_state: .* is over; rotate again instead/);

    const third = (await fleet.networks.rotateKey({ mesh: 'm', agentId: 'a' })).rotations[0]!;
    const stepOf = async () => (await list())[0]!;
    await settled('b to be waited for', () => true, 'b');
    await until('b to be waited for', async () => {
      await settled('a to make its key', () => true, 'b');
      const { step, waitingFor } = await stepOf();
      return step === RotationStep.STAGE && waitingFor.join() === 'b';
    });
    const { rotation } = await fleet.networks.undoRotation({ id: third.id });
    assert.deepEqual([rotation!.undoing, rotation!.step], [true, RotationStep.STAGE]);
    await settled('the rotation to be over', allApplied);
    await until('the rotation to be undone', async () => {
      await settled('all', () => true);
      return (await stepOf()).step === RotationStep.DONE && (await stepOf()).undoing;
    });
    assert.equal(keys((await fleet.networks.getMesh({ name: 'm' })).mesh!), '1,1');
    assert.equal((await refusal(fleet.networks.undoRotation({ id: 'x' }))).violations[0]?.field, 'id');
  });
});
