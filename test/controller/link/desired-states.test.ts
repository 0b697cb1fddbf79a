import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { DesiredStateKind, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { type NetworkDesiredState, NetworkDesiredStateSchema, NetworkState } from '#gen/longline/v1/network_pb.js';
import { NETWORK_STATE } from '../../../src/controller/states/network-state-body.ts';
import { bodyDigest } from '../../../src/controller/states/state-body.ts';
import { type ControlStream, FleetUnderTest, type ScriptedAgent, until } from './fleet-fixture.ts';

const KIND = DesiredStateKind.NETWORK;

/** Long enough for a delta to be worth it. */
const INTERFACE = 'x'.repeat(100);

function stateOf(...names: readonly string[]): NetworkDesiredState {
  return create(NetworkDesiredStateSchema, { networks: names.map((name) => ({ name, interface: INTERFACE })) });
}

/** What an agent says that has one network. */
function reportOf(generation: bigint, state = NetworkState.UP) {
  const value = { networks: [{ name: 'x', state }] };
  const digest = bodyDigest(NETWORK_STATE.encode(stateOf('x')));
  return create(StateReportSchema, { kind: KIND, generation, digest, detail: { case: 'network', value } });
}

describe('desired states on the control stream', () => {
  let fleet: FleetUnderTest;
  let agent: ScriptedAgent;
  let stream: ControlStream;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
    agent = fleet.agent('a');
    stream = await agent.connect();
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());

  const want = async (...names: readonly string[]) =>
    await fleet.desiredStates.put('a', NETWORK_STATE, () => stateOf(...names));
  const latest = async () => (await fleet.desiredStates.latestReport('a', NETWORK_STATE))?.report;
  const refusal = async () => (await fleet.desiredStates.get('a', NETWORK_STATE)).refusal?.error.reason;
  const told = (report: ReturnType<typeof reportOf>) => stream.send({ case: 'stateReport', value: report });
  const events = async () => (await fleet.store.agentEvents.list('a', { pageSize: 9, pageToken: '' })).items.length;
  /** Resolves once an event is stored that is sent now. */
  const marked = async (on: ControlStream) => {
    on.send({ case: 'event', value: { type: 'mark', message: 'all before this was heard' } });
    await until('the mark', async () => (await events()) === 1);
  };

  it('come when they change, and what the agent says of them is told to who waits', async () => {
    using changes = await fleet.desiredStates.watch(10);
    assert.equal((await want('x')).generation, 1n);
    const state = await stream.next('desiredState');
    assert.deepEqual([state.kind, state.generation, state.baseGeneration], [KIND, 1n, 0n]);
    assert.equal(state.statement?.signatures[0]?.keyId, 'test-key');
    told(reportOf(1n));
    await until('the report', async () => (await latest())?.generation === 1n);
    assert.deepEqual(await latest(), reportOf(1n));
    const messages = [await changes.next(), await changes.next()];
    assert.deepEqual(
      messages.map((event) => event?.kind === 'message' && event.message),
      [1, 2].map(() => ({ agentId: 'a', stateKind: KIND })),
    );
    await want('x', 'y');
    assert.equal((await stream.next('desiredState')).baseGeneration, 1n);
  });

  it('are told of also where none is held, if there is something from elsewhere', async () => {
    told(create(StateReportSchema, { kind: KIND }));
    await marked(stream);
    assert.equal(await latest(), undefined, 'nothing is held, and nothing told');
    told(reportOf(0n));
    assert.deepEqual(await until('the report', latest), reportOf(0n));
  });

  it('come again after a restart of the controller, unless the agent has them', async () => {
    await want('x');
    const { generation } = await stream.next('desiredState');
    const { folder } = fleet;
    await fleet.stop();
    fleet = await FleetUnderTest.start({ folder });
    agent = fleet.agent('a', agent.names);
    const digest = bodyDigest(NETWORK_STATE.encode((await fleet.desiredStates.get('a', NETWORK_STATE)).state));
    stream = await agent.connect();
    assert.equal((await stream.next('desiredState')).generation, 1n);
    stream.close();
    stream = await agent.connect({ desiredStates: [{ kind: KIND, generation, digest }] });
    await want('x', 'y');
    const next = await stream.next('desiredState');
    assert.deepEqual([next.generation, next.baseGeneration], [2n, 1n]);
  });

  it('are refused, and that is known until they are applied; what only asks for the full state is not told', async () => {
    await want('x');
    await stream.next('desiredState');
    told(create(StateReportSchema, { kind: KIND, generation: 1n, error: { reason: ErrorReason.UNSUPPORTED } }));
    await until('the refusal', async () => (await refusal()) === ErrorReason.UNSUPPORTED);
    told(create(StateReportSchema, { kind: KIND }));
    await stream.next('desiredState');
    told(reportOf(1n));
    await until('that it is applied', async () => (await refusal()) === undefined);
    await want('x', 'y');
    await stream.next('desiredState');
    told(create(StateReportSchema, { kind: KIND, generation: 2n, error: { reason: ErrorReason.STALE } }));
    assert.equal((await stream.next('desiredState')).baseGeneration, 0n);
    assert.equal(await refusal(), undefined);
    assert.equal((await latest())?.generation, 1n);
  });

  it('need not be reported again if the stored report is the one that Hello names', async () => {
    await want('x');
    const report = reportOf(1n);
    told(report);
    await until('the report', async () => (await latest())?.generation === 1n);
    const digest = (of: ReturnType<typeof reportOf>) =>
      createHash('sha256').update(toBinary(StateReportSchema, of)).digest().subarray(0, 8);
    const knownAfter = async (reportDigest: Uint8Array, generation = 1n) => {
      const again = agent.dial();
      again.hello(agent, { desiredStates: [{ kind: KIND, generation, reportDigest: Uint8Array.from(reportDigest) }] });
      const { knownStates } = await again.next('welcome');
      again.close();
      return knownStates.map(({ kind }) => kind);
    };
    assert.deepEqual(await knownAfter(digest(report)), [KIND]);
    assert.deepEqual(await knownAfter(digest(reportOf(1n, NetworkState.FAILED))), []);
    assert.deepEqual(await knownAfter(new Uint8Array()), []);
    assert.deepEqual(await knownAfter(digest(report), 2n), []);
    const error = { reason: ErrorReason.UNSUPPORTED };
    const { connectionId } = (await fleet.store.agents.get('a'))!;
    stream = await agent.connect();
    await until('the new stream', async () => (await fleet.store.agents.get('a'))?.connectionId !== connectionId);
    told(create(StateReportSchema, { kind: KIND, generation: 1n, error }));
    await until('the refusal', async () => (await refusal()) === ErrorReason.UNSUPPORTED);
    assert.deepEqual(await knownAfter(digest(report)), [], 'that it is had again is to be heard');
  });

  it('are reported on the newest stream alone', async () => {
    await want('x');
    const old = stream;
    stream = await agent.connect();
    told(reportOf(1n));
    await until('the report', async () => (await latest())?.generation === 1n);
    old.send({ case: 'stateReport', value: reportOf(1n, NetworkState.FAILED) });
    await marked(old);
    assert.deepEqual(await latest(), reportOf(1n));
  });

  it('keep nothing of kinds that are never sent', async () => {
    told({ ...reportOf(5n), kind: 77 as DesiredStateKind });
    await marked(stream);
    assert.equal(await fleet.store.stateReports.get('a', 77), undefined);
  });
});
