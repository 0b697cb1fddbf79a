import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { DesiredStateKind, type DesiredStateRef, type StateReport } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { NetworkDesiredStateSchema, NetworkState, NetworkTelemetrySchema } from '#gen/longline/v1/network_pb.js';
import { StateRegistry } from '../../src/agent/state-registry.ts';
import type { Availability } from '../../src/core/capability.ts';
import { LonglineError } from '../../src/core/errors.ts';
import type { LinkLimits } from '../../src/link/link-limits.ts';
import type { AdmittedState, ReceivedState, StateAdmission } from '../../src/link/ports.ts';
import { type FakeDisk, FakeNetwork } from '../fixtures/fake-network.ts';
import { AgentSide } from './agent-side.ts';
import { TestController } from './controller-double.ts';
import { scratchFolder, until } from './scratch.ts';

const KIND = DesiredStateKind.NETWORK;
const OFF: Availability = { available: false, reason: 'CAP_NET_ADMIN is missing', mend: 'run it with that' };
type Body = MessageInitShape<typeof NetworkDesiredStateSchema>;

/** Admits all, unless told otherwise, and keeps what it was told. */
class ScriptedAdmission implements StateAdmission {
  readonly record: string[] = [];
  nonce = '';
  refusal: LonglineError | undefined;

  async admit({ state }: ReceivedState, seen: (nonce: Uint8Array) => boolean): Promise<AdmittedState> {
    if (this.refusal !== undefined) throw this.refusal;
    if (this.nonce !== '' && seen(Buffer.from(this.nonce))) throw new LonglineError('stale', 'replayed');
    this.record.push(`admitted ${state.generation}`);
    return { nonce: Buffer.from(this.nonce), nonceExpiresAtMs: Date.now() + 60_000 };
  }

  refused({ state }: ReceivedState, { reason }: LonglineError): void {
    this.record.push(`refused ${state.generation} ${reason}`);
  }

  taken({ state }: ReceivedState): void {
    this.record.push(`taken ${state.generation}`);
  }
}

/** An agent with a keeper of networks, as the agent puts them together. */
async function startAgent(
  folder: string,
  controller: TestController,
  disk: FakeDisk,
  options: { availability?: Availability; limits?: Partial<LinkLimits>; prepare?: (network: FakeNetwork) => void } = {},
) {
  const network = new FakeNetwork(disk);
  network.availability = options.availability ?? network.availability;
  options.prepare?.(network);
  const admission = new ScriptedAdmission();
  const availability = new Map<string, Availability>();
  const refusal = () =>
    new LonglineError('unavailable', `capability network is unavailable: CAP_NET_ADMIN is missing; run it with that`);
  const host = new StateRegistry([network], { availability, refusal });
  const { limits } = options;
  const states = { host, admission };
  const agent = await AgentSide.open(folder, () => controller.port, { states, ...(limits && { limits }) });
  const open = async () => void availability.set('network', await network.open());
  await open();
  await agent.start();
  const count = controller.connections.length;
  await until(
    'the link is open',
    () => controller.connections.length > count || agent.link.status().state.kind === 'open',
  );
  await until('it was welcomed', () => agent.link.status().state.kind === 'open');
  return { agent, network, admission, open };
}

function networks(...names: readonly string[]): Body {
  return { networks: names.map((name) => ({ name })) };
}

function sender(controller: TestController) {
  return (generation: number, baseGeneration: number, value: Body) =>
    controller.send({
      case: 'desiredState',
      value: {
        kind: KIND,
        generation: BigInt(generation),
        baseGeneration: BigInt(baseGeneration),
        body: { case: 'network', value: create(NetworkDesiredStateSchema, value) },
      },
    });
}

function told({ generation, error, detail }: StateReport): string {
  if (error !== undefined) return `${generation} ${ErrorReason[error.reason]}`;
  const networks = detail.case === 'network' ? detail.value.networks : [];
  return [generation, ...networks.map(({ name, state }) => `${name} ${NetworkState[state]}`)].join(', ');
}

const reportsOf = (controller: TestController) => controller.received('stateReport').map(told);
const lastOf = (controller: TestController) => reportsOf(controller).at(-1);

describe('desired states', () => {
  it('are taken whole, then as deltas, and reported once a first pass is over and whenever something differs', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const disk: FakeDisk = {};
    const agent = await startAgent(folder.path, controller, disk);
    await using _ = agent.agent;
    const { network, admission } = agent;
    const send = sender(controller);
    send(4, 0, networks('b', 'a'));
    await until('it was reported', () => lastOf(controller) === '4, a UP, b UP');
    assert.deepEqual([...controller.received('stateReport').at(-1)!.digest], [...network.held()!.digest]);
    send(5, 4, { removedNetworks: ['a'] });
    await until('the delta was reported', () => lastOf(controller) === '5, b UP');
    await network.observe(NetworkState.DEGRADED, [{ item: 'key', error: new LonglineError('invalid', 'no') }]);
    await until('a change was reported', () => lastOf(controller) === '5, b DEGRADED');
    const [item] = controller.received('stateReport').at(-1)!.items;
    assert.deepEqual([item?.item, item?.error?.reason], ['key', ErrorReason.INVALID]);
    const count = reportsOf(controller).length;
    await network.observe(NetworkState.DEGRADED, [{ item: 'key', error: new LonglineError('invalid', 'no') }]);
    await network.observe(NetworkState.UP);
    await until('the next change was reported', () => lastOf(controller) === '5, b UP');
    assert.equal(reportsOf(controller).length, count + 1, 'what is as it was is not told again');
    assert.deepEqual(admission.record, ['admitted 4', 'taken 4', 'admitted 5', 'taken 5']);
  });

  it('are refused whole, and say how to go on', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const { agent, network, admission } = await startAgent(folder.path, controller, {});
    await using _ = agent;
    const send = sender(controller);
    const refused = async (report: string, act: () => void) => {
      const before = reportsOf(controller).length;
      act();
      await until(`"${report}" was reported`, () => reportsOf(controller).slice(before).includes(report));
    };
    await refused('3 STALE', () => send(3, 2, networks('a')));
    send(5, 0, networks('a'));
    await until('it is held', () => lastOf(controller) === '5, a UP');
    const held = () => reportsOf(controller).filter((one) => one === '5, a UP').length;
    const before = held();
    await refused('4 STALE', () => send(4, 0, networks('b')));
    await until('what is held was told again', () => held() === before + 1);
    await refused('7 STALE', () => send(7, 6, networks('b')));
    await refused('5 STALE', () => send(5, 0, networks('other')));
    await until('which of the two is held was told after it', () => lastOf(controller) === '5, a UP');
    await refused('6 STALE', () => send(6, 5, { peerDeltas: [{ network: 'x' }] }));
    await refused('6 INVALID', () => send(6, 5, { peerDeltas: [{ network: 'a' }, { network: 'a' }] }));
    await refused('0 INVALID', () => send(0, 0, networks('b')));
    await refused('6 INVALID', () => send(6, 6, networks('b')));
    await refused('6 INVALID', () => controller.send({ case: 'desiredState', value: { kind: KIND, generation: 6n } }));
    const programs = { case: 'programs', value: {} } as const;
    const mixed = { kind: KIND, generation: 6n, body: programs };
    await refused('6 INVALID', () => controller.send({ case: 'desiredState', value: mixed }));
    const other = { kind: DesiredStateKind.PROGRAMS, generation: 6n, body: programs };
    await refused('6 UNSUPPORTED', () => controller.send({ case: 'desiredState', value: other }));
    const sessions = { kind: DesiredStateKind.SESSIONS, generation: 1n };
    await refused('1 UNSUPPORTED', () => controller.send({ case: 'desiredState', value: sessions }));
    admission.refusal = new LonglineError('policy', 'no', { rule: 'signatures.require' });
    await refused('6 POLICY', () => send(6, 5, networks('b')));
    assert.deepEqual(network.names(), ['a']);
    assert.equal(network.held()?.generation, 5n);
    assert.ok(admission.record.includes('refused 7 stale') && admission.record.includes('refused 0 invalid'));
    assert.ok(!admission.record.includes('refused 6 policy'), 'the admission keeps its own record');
  });

  it('come again without harm', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const { agent, network } = await startAgent(folder.path, controller, {});
    await using _ = agent;
    const send = sender(controller);
    for (const _ of ['first', 'again']) {
      controller.messages.length = 0;
      send(1, 0, networks('a'));
      await until('the full state was answered', () => lastOf(controller) === '1, a UP');
    }
    for (const _ of ['first', 'again']) {
      controller.messages.length = 0;
      send(2, 1, networks('b'));
      await until('the delta was answered', () => lastOf(controller) === '2, a UP, b UP');
    }
    assert.deepEqual(network.names(), ['a', 'b']);
    assert.equal(
      reportsOf(controller).some((one) => one.includes('STALE')),
      false,
    );
  });

  it('wait for one another, and only the latest chain of them', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const { agent, network } = await startAgent(folder.path, controller, {});
    await using _ = agent;
    const send = sender(controller);
    const gate = Promise.withResolvers<void>();
    network.beforeDurable = () => gate.promise;
    send(1, 0, networks('one'));
    send(2, 1, networks('two'));
    send(3, 0, networks('three'));
    send(4, 3, networks('four'));
    send(4, 0, networks('last'));
    for (let generation = 5; generation <= 68; generation++)
      send(generation, generation - 1, networks(`n${generation}`));
    await until('those that are too many were refused', () => reportsOf(controller).includes('68 STALE'));
    send(70, 0, networks('full'));
    send(71, 70, networks('and more'));
    gate.resolve();
    await until('the latest was reported', () => lastOf(controller) === '71, and more UP, full UP');
    assert.deepEqual(
      network.changes.map(({ generation }) => generation),
      [1n, 70n, 71n],
    );
  });

  it('are handed on byte by byte as they were sent', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const { agent, network } = await startAgent(folder.path, controller, {});
    await using _ = agent;
    const value = create(NetworkDesiredStateSchema, networks('a'));
    value.$unknown = [{ no: 900, wireType: 0, data: Uint8Array.of(7) }];
    controller.send({ case: 'desiredState', value: { kind: KIND, generation: 1n, body: { case: 'network', value } } });
    await until('it was taken', () => network.changes.length === 1);
    assert.equal(Buffer.from(network.changes[0]!.body).toString('hex'), '0a030a0161a03807');
  });

  it('are named in Hello, and reported again only if the controller does not hold the report', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const { agent, network } = await startAgent(folder.path, controller, {});
    await using _ = agent;
    sender(controller)(7, 0, networks('a'));
    await until('it was reported', () => lastOf(controller) === '7, a UP');
    /** What is reported after a reconnect, of which nothing is left once an event came: events are the last. */
    const afterReconnect = async (knownStates: readonly DesiredStateRef[]) => {
      controller.behaviour.welcome = { knownStates: [...knownStates] };
      controller.messages.length = 0;
      await controller.restart();
      await until('it is back', () => controller.received('hello').length === 1);
      agent.link.emit({ type: 'mark', message: '' });
      await until('all was sent', () => controller.received('event').length === 1);
      return reportsOf(controller);
    };
    assert.deepEqual(await afterReconnect([]), ['7, a UP']);
    const { hello, helloBytes } = controller.connections.at(-1)!;
    const ref = hello.desiredStates[0]!;
    assert.deepEqual([ref.kind, ref.generation, [...ref.digest]], [KIND, 7n, [...network.held()!.digest]]);
    assert.ok(helloBytes <= 256, `${helloBytes} bytes`);
    assert.deepEqual(await afterReconnect([ref]), []);
    assert.deepEqual(await afterReconnect([{ ...ref, generation: 6n }]), ['7, a UP']);
    controller.stop();
    await network.observe(NetworkState.FAILED);
    assert.deepEqual(await afterReconnect([ref]), ['7, a FAILED']);
    assert.deepEqual(await afterReconnect([ref]), ['7, a FAILED'], 'the report may be lost although it was sent');
  });

  it('outlive the process, and are reported by the next once it has passed over them', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const disk: FakeDisk = {};
    {
      const { agent } = await startAgent(folder.path, controller, disk);
      await using _ = agent;
      sender(controller)(3, 0, networks('a'));
      await until('it was reported', () => lastOf(controller) === '3, a UP');
    }
    controller.messages.length = 0;
    const gate = Promise.withResolvers<void>();
    const prepare = (network: FakeNetwork) => {
      network.beforeObserved = () => gate.promise;
    };
    const { agent } = await startAgent(folder.path, controller, disk, { prepare });
    await using _ = agent;
    const [ref] = controller.connections.at(-1)!.hello.desiredStates;
    assert.deepEqual([ref?.generation, ref?.reportDigest.length], [3n, 0]);
    assert.deepEqual(reportsOf(controller), []);
    gate.resolve();
    await until('it was reported', () => lastOf(controller) === '3, a UP');
  });

  it('leave no trace of one that the end of the process interrupted', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const disk: FakeDisk = {};
    {
      const { agent, network } = await startAgent(folder.path, controller, disk);
      await using _ = agent;
      const reached = Promise.withResolvers<void>();
      network.beforeDurable = async () => {
        reached.resolve();
        await until('it stops', () => agent.link.status().state.kind === 'closed');
        throw new LonglineError('cancelled', 'the agent stops');
      };
      sender(controller)(3, 0, networks('a'));
      await reached.promise;
    }
    assert.deepEqual(reportsOf(controller), []);
    assert.equal(disk.state, undefined);
  });

  it('that this host cannot bring about are refused with the reason, and asked for again once it can', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const { agent, network, open } = await startAgent(folder.path, controller, {}, { availability: OFF });
    await using _ = agent;
    sender(controller)(3, 0, networks('a'));
    await until('it was refused', () => lastOf(controller) === '3 UNSUPPORTED');
    agent.link.factsChanged();
    assert.match(controller.received('stateReport')[0]!.error!.message, /CAP_NET_ADMIN is missing/);
    agent.link.factsChanged();
    network.availability = { available: true, limits: {}, attributes: {} };
    await open();
    agent.link.factsChanged();
    await until('it says that it holds nothing', () => lastOf(controller) === '0');
    sender(controller)(3, 0, networks('a'));
    await until('it was reported', () => lastOf(controller) === '3, a UP');
  });

  it('that are held, but cannot be brought about, are told as such on each connection', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const disk: FakeDisk = {};
    {
      const { agent } = await startAgent(folder.path, controller, disk);
      await using _ = agent;
      sender(controller)(3, 0, networks('a'));
      await until('it was reported', () => lastOf(controller) === '3, a UP');
    }
    const { agent, network, open } = await startAgent(folder.path, controller, disk, { availability: OFF });
    await using _ = agent;
    await until('it was told', () => lastOf(controller) === '3 UNSUPPORTED');
    assert.equal(controller.connections.at(-1)!.hello.desiredStates[0]?.generation, 3n);
    sender(controller)(4, 3, networks('b'));
    await until('it was refused', () => lastOf(controller) === '4 UNSUPPORTED');
    network.availability = { available: true, limits: {}, attributes: {} };
    controller.messages.length = 0;
    await network.observe();
    await until('it is up', () => lastOf(controller) === '3, a UP');
    controller.messages.length = 0;
    await open();
    agent.link.factsChanged();
    await until(
      'it is told again what is held, so that the next is sent again',
      () => lastOf(controller) === '3, a UP',
    );
  });

  it('use each nonce for one generation', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    const disk: FakeDisk = {};
    for (const process of ['first', 'second']) {
      const { agent, admission } = await startAgent(folder.path, controller, disk);
      await using _ = agent;
      admission.nonce = 'a nonce';
      controller.messages.length = 0;
      sender(controller)(1, 0, networks('a'));
      await until(`${process}: the same again is taken`, () => admission.record.includes('taken 1'));
      sender(controller)(2, 1, networks('b'));
      await until(`${process}: it is refused`, () => reportsOf(controller).includes('2 STALE'));
    }
  });

  it('send the latest figures of each network', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    const figure = (name: string, mtu: number) => create(NetworkTelemetrySchema, { network: { name, mtu } });
    agent.link.networkTelemetry([figure('a', 1), figure('b', 1)]);
    agent.link.networkTelemetry([figure('a', 2)]);
    await agent.start();
    await until('figures came', () => controller.telemetry.length > 0);
    const seen = controller.telemetry.flatMap(({ networks: figures }) => figures.map(({ network }) => network));
    assert.deepEqual(
      seen.map((network) => `${network?.name} ${network?.mtu}`),
      ['b 1', 'a 2'],
    );
    assert.equal(
      controller.telemetry.reduce((sum, { dropped }) => sum + Number(dropped), 0),
      1,
    );
  });
});
