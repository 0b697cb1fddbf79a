import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { ConnectError } from '@connectrpc/connect';
import type { Network, WatchNetworksResponse } from '#gen/longline/fleet/v1/network_service_pb.js';
import { ErrorReason, ErrorSchema } from '#gen/longline/v1/error_pb.js';
import { NetworkSpecSchema, NetworkState } from '#gen/longline/v1/network_pb.js';
import { desiredStatesTopic } from '../../../src/controller/bus/topics.ts';
import { shapeNetwork } from '../../../src/controller/services/network-spec-shape.ts';
import type { LonglineError } from '../../../src/core/errors.ts';
import { MAX_PEERS } from '../../../src/core/network/network-spec.ts';
import { fromConnectError } from '../front/received-errors.ts';
import { FleetUnderTest, until } from '../link/fleet-fixture.ts';
import { connection } from '../store/store-contract.ts';
import { keyNamed, NetworkAgent } from './network-fixture.ts';

type SpecInit = MessageInitShape<typeof NetworkSpecSchema>;

const peer = (name: string, ...allowedIps: string[]) => ({ name, publicKey: keyNamed(name), allowedIps });
const spec = (patch: SpecInit = {}) => ({ name: 'default', interface: 'wg0', addresses: ['10.0.0.1/24'], ...patch });

describe('networks of agents', () => {
  let fleet: FleetUnderTest;
  const agent = (id: string) => new NetworkAgent(id, fleet.store, fleet.services.bus);
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
    for (const id of ['a', 'b']) await fleet.store.agents.connect(connection(id));
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
  const put = async (agentId: string, init: SpecInit = {}, validateOnly = false) =>
    await fleet.networks.putNetwork({ agentId, spec: spec(init), validateOnly });
  const list = async (patch = {}) => {
    const { networks } = await fleet.networks.listNetworks(patch);
    return networks.map(({ agentId, spec: one }) => `${agentId}/${one!.name}`);
  };

  it('are stored in one form, brought about by their agents, and shown with what those say', async () => {
    const one = peer('p', '10.1.0.7/24', '10.2.0.0/16');
    const made = await put('a', { peers: [one, peer('o', '10.1.0.0/24')] });
    assert.equal(made.changed, true);
    assert.deepEqual(
      made.warnings.map(({ field, harmless }) => [field, harmless]),
      [['peers[0].allowed_ips', true]],
    );
    const { applied, generation, status, spec: stored } = made.network!;
    assert.deepEqual([applied, generation, status, stored!.mtu, stored!.table], [false, 1n, undefined, 1420, 'main']);
    const prefixes = new Map(stored!.peers.map(({ allowedIps, name }) => [name, allowedIps]));
    assert.deepEqual([prefixes.get('p'), prefixes.get('o')], [['10.2.0.0/16'], ['10.1.0.0/24']]);
    await agent('a').apply();
    const found = (await fleet.networks.getNetwork({ agentId: 'a', name: 'default' })).network!;
    assert.deepEqual([found.applied, found.status!.state, found.mesh], [true, NetworkState.UP, '']);
    const again = await put('a', { peers: [one, peer('o', '10.1.0.0/24')] });
    assert.deepEqual([again.changed, again.network!.generation, again.network!.applied], [false, 1n, true]);
    assert.equal((await put('a', { mtu: 1300 })).network!.applied, false);
  });

  it('are refused with every wrong field, and where something is in the way', async () => {
    const wrong = { addresses: ['10.0.0/8'], mtu: 100, natSubnets: ['x'], dnsDomains: ['a b'], backend: 9 as 0 };
    const { reason, violations } = await refusal(put('a', { ...wrong, peers: [{ publicKey: 'k' }] }));
    assert.equal(reason, 'invalid');
    assert.deepEqual(violations.map(({ field }) => field).sort(), [
      'spec.addresses[0]',
      'spec.backend',
      'spec.dns_domains[0]',
      'spec.mtu',
      'spec.nat_subnets[0]',
      'spec.peers[0].public_key',
    ]);
    assert.equal((await refusal(put('x y'))).violations[0]?.field, 'agent_id');
    assert.equal((await refusal(put('nobody'))).reason, 'not_found');
    await fleet.store.agents.revoke('b', 'lost');
    assert.equal((await refusal(put('b'))).reason, 'wrong_state');
    await put('a');
    assert.equal((await refusal(put('a', { name: 'other' }))).reason, 'already_exists');
    const many = Array.from({ length: MAX_PEERS + 1 }, () => ({}));
    assert.deepEqual(shapeNetwork(create(NetworkSpecSchema, spec({ peers: many })), 'spec').violations, [
      { field: 'spec.peers', description: '65537 peers are too many; an interface holds 65536' },
    ]);
  });

  it('are checked only, if that is all that was asked for', async () => {
    const { changed, network } = await put('a', {}, true);
    assert.deepEqual([changed, network!.spec!.mtu], [true, 1420]);
    assert.equal((await refusal(fleet.networks.getNetwork({ agentId: 'a', name: 'default' }))).reason, 'not_found');
    await put('a');
    assert.equal((await put('a', {}, true)).changed, false);
    assert.equal((await put('a', { mtu: 1300 }, true)).changed, true);
    assert.equal((await refusal(put('a', { name: 'other' }, true))).reason, 'already_exists');
  });

  it('are removed when their agent says so, and can be put again before', async () => {
    const host = agent('a');
    await put('a');
    await host.apply();
    const { network } = await fleet.networks.deleteNetwork({ agentId: 'a', name: 'default' });
    assert.deepEqual([network!.removing, network!.applied, network!.spec!.interface], [true, false, 'wg0']);
    assert.equal((await fleet.networks.deleteNetwork({ agentId: 'a', name: 'default' })).network!.removing, true);
    assert.equal((await put('a')).network!.removing, false);
    await fleet.networks.deleteNetwork({ agentId: 'a', name: 'default' });
    await put('a', { name: 'next' });
    await host.apply();
    await until('the network to be gone', async () => (await list()).join() === 'a/next');
    assert.equal((await refusal(fleet.networks.deleteNetwork({ agentId: 'a', name: 'default' }))).reason, 'not_found');
  });

  it('are told as refused, with the reason, until a later generation is applied', async () => {
    await put('a');
    const error = new Uint8Array([8, 4, 18, 2, 110, 111]);
    await fleet.store.desiredStates.refused('a', 1, { generation: 1n, error, atMs: 1 });
    const { network } = await fleet.networks.getNetwork({ agentId: 'a', name: 'default' });
    assert.deepEqual([network!.applied, network!.error?.message], [false, 'no']);
    assert.equal((await put('a', { mtu: 1300 })).network!.error, undefined);
  });

  it('are shown with the figures that their agents sent last', async () => {
    await put('a', { peers: [peer('p', '10.1.0.0/24')] });
    await agent('a').apply();
    const shown = async (withoutPeers = false) => {
      const { networks } = await fleet.networks.listNetworks({ withoutPeers });
      return networks[0]!.status!;
    };
    assert.equal((await shown()).receivedBytes, 0n);
    const measured = { name: 'default', state: NetworkState.DEGRADED, receivedBytes: 7n, peers: [{ name: 'p' }] };
    fleet.agent('a').telemetry({ networks: [{ network: measured }] });
    await until('the figures', async () => (await shown()).receivedBytes === 7n);
    const { peers, state } = await shown();
    assert.deepEqual([state, peers.map(({ name }) => name)], [NetworkState.DEGRADED, ['p']]);
    assert.deepEqual((await shown(true)).peers, []);
    await agent('a').apply();
    const after = await until('the later report', async () => {
      const status = await shown();
      return status.state === NetworkState.UP && status;
    });
    assert.deepEqual([after.receivedBytes, after.peers.length], [7n, 1], 'what only figures have stays');
  });

  it('are not told as refused for what was asked of others after they were applied', async () => {
    await put('a');
    await agent('a').apply();
    await put('a', { name: 'other', interface: 'wg1' });
    const refuse = async (reason: ErrorReason) => {
      const error = toBinary(ErrorSchema, create(ErrorSchema, { reason, message: 'no' }));
      await fleet.store.desiredStates.refused('a', 1, { generation: 2n, error, atMs: 1 });
      const { networks } = await fleet.networks.listNetworks({});
      return networks.map(({ applied, error: why, spec: one }) => [one!.name, applied, why?.message]);
    };
    assert.deepEqual(await refuse(ErrorReason.POLICY), [
      ['default', true, undefined],
      ['other', false, 'no'],
    ]);
    assert.deepEqual(
      await refuse(ErrorReason.UNSUPPORTED),
      [
        ['default', false, 'no'],
        ['other', false, 'no'],
      ],
      'none works where networks are not to be had',
    );
  });

  it('are listed in pages, by what they are, and without peers where those are not wanted', async () => {
    for (const id of ['b', 'a'])
      for (const name of ['y', 'x']) await put(id, { name, interface: name, peers: [peer('p')] });
    assert.deepEqual(await list(), ['a/x', 'a/y', 'b/x', 'b/y']);
    assert.deepEqual(await list({ filter: { agentId: 'b' } }), ['b/x', 'b/y']);
    assert.deepEqual(await list({ filter: { name: 'x' } }), ['a/x', 'b/x']);
    const page = await fleet.networks.listNetworks({ pageSize: 3, withoutPeers: true });
    assert.deepEqual(
      page.networks.map(({ spec: one }) => one!.peers.length),
      [0, 0, 0],
    );
    assert.deepEqual(await list({ pageSize: 3, pageToken: page.nextPageToken }), ['b/y']);
    assert.equal((await refusal(list({ filter: { name: 'a b' } }))).violations[0]?.field, 'filter.name');
  });

  it('are watched: those there are, then each change, until the caller leaves', async () => {
    const host = agent('a');
    await put('a');
    const events: WatchNetworksResponse['event'][] = [];
    const leaving = new AbortController();
    const watching = (async () => {
      const watch = fleet.networks.watchNetworks({ filter: { agentId: 'a' } }, { signal: leaving.signal });
      for await (const { event } of watch) events.push(event);
    })().catch(() => undefined);
    const seen = async (what: string, holds: (network: Network) => boolean) =>
      await until(what, () => events.some((event) => event.case === 'network' && holds(event.value)));
    await seen('the first', ({ applied }) => !applied);
    await put('b');
    await host.apply();
    await seen('its report', ({ applied }) => applied);
    await put('a', { mtu: 1300 });
    await seen('its change', ({ spec: one }) => one!.mtu === 1300);
    const refusal = { generation: 2n, error: new Uint8Array([8, 4, 18, 2, 110, 111]), atMs: 1 };
    await fleet.store.desiredStates.refused('a', 1, refusal);
    fleet.services.bus.publish(desiredStatesTopic, { agentId: 'a', stateKind: 1 });
    await seen('its refusal', ({ error }) => error?.message === 'no');
    await fleet.networks.deleteNetwork({ agentId: 'a', name: 'default' });
    await host.apply();
    await until('its end', () => events.some((event) => event.case === 'removed' && event.value.name === 'default'));
    assert.ok(events.every((event) => event.value!.agentId === 'a'));
    leaving.abort();
    await watching;
  });
});
