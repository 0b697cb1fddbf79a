import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { JobState } from '#gen/longline/v1/job_pb.js';
import type { LinkOptions } from '../../../src/controller/link/link-options.ts';
import { ControllerMetrics } from '../../../src/controller/metrics/controller-metrics.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { newId } from '../../../src/core/ids.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { statusDetails } from '../../../src/link/status-details.ts';
import { GREETING_METRICS } from '../../../src/telemetry/metrics/controller-names.ts';
import { FleetUnderTest, type HelloPatch, runOn, until } from './fleet-fixture.ts';

describe('control stream', () => {
  let fleet: FleetUnderTest;
  let metrics: ControllerMetrics;
  beforeEach(async () => {
    metrics = new ControllerMetrics(systemClock, silentLogger);
    fleet = await FleetUnderTest.start({ retention: { expiryIntervalMs: 20, expiryGraceMs: 50 }, metrics });
  });
  afterEach(async () => {
    await fleet[Symbol.asyncDispose]();
    metrics[Symbol.dispose]();
  });

  /** Series of a family that aren't 0. */
  const counted = async ({ name }: { readonly name: string }) => {
    const found = (await metrics.registry.collect()).find(({ definition }) => definition.name === name);
    const samples = (found?.samples ?? []).filter(({ value }) => value !== 0);
    return Object.fromEntries(samples.map(({ labels, value }) => [labels.join(','), value]));
  };

  const submit = async (agentId: string, more: object = {}) => {
    const { job } = await fleet.jobs.submitJob({ job: runOn(agentId, more) });
    return { jobId: job!.id, executionId: job!.executions[0]!.id };
  };
  const stateOf = async (jobId: string) => (await fleet.jobs.getJob({ jobId })).job!.state;
  const reaches = async (jobId: string, state: JobState) =>
    await until(`job in state ${JobState[state]}`, async () => (await stateOf(jobId)) === state);
  const agentState = async (agentId: string) => (await fleet.agents.getAgent({ agentId })).agent!.state;

  it('welcomes, delivers, acknowledges results once stored, and notes the agent as online and offline', async () => {
    const stream = await fleet.agent('a').connect();
    assert.equal(await agentState('a'), AgentState.ONLINE);
    const { jobId, executionId } = await submit('a');
    const command = await stream.next('command');
    assert.equal(command.id, executionId);
    assert.equal(command.seq, 1n);
    assert.equal(command.statement?.signatures[0]?.keyId, 'test-key');
    stream.receive(command);
    await reaches(jobId, JobState.QUEUED);
    stream.finish(command);
    assert.deepEqual((await stream.next('resultAck')).commandIds, [command.id]);
    assert.equal(await stateOf(jobId), JobState.SUCCEEDED);
    stream.finish(command, JobState.FAILED);
    assert.deepEqual((await stream.next('resultAck')).commandIds, [command.id]);
    assert.equal(await stateOf(jobId), JobState.SUCCEEDED);
    stream.call.end();
    assert.equal(await stream.end(), 0);
    await until('agent offline', async () => (await agentState('a')) === AgentState.OFFLINE);
  });

  it('sends again what was not confirmed, and not what was', async () => {
    const agent = fleet.agent('a');
    const first = await agent.connect();
    const one = await submit('a');
    const two = await submit('a');
    const commandOne = await first.next('command');
    await first.next('command');
    first.receive(commandOne);
    await reaches(one.jobId, JobState.QUEUED);
    first.close();
    const second = await agent.connect({ lastCommandSeq: 1n, inFlightCommandIds: [one.executionId] });
    assert.equal((await second.next('command')).id, two.executionId);
    second.finish(commandOne);
    await second.next('resultAck');
    assert.equal(await stateOf(one.jobId), JobState.SUCCEEDED);
    assert.equal(second.received.filter((message) => message.case === 'command').length, 0);
  });

  it('goes on after a restart of the controller', async () => {
    const agent = fleet.agent('a');
    const first = await agent.connect();
    const { jobId, executionId } = await submit('a');
    first.receive(await first.next('command'));
    await reaches(jobId, JobState.QUEUED);
    await fleet.stop();
    fleet = await FleetUnderTest.start({ folder: fleet.folder });
    assert.equal(await agentState('a'), AgentState.OFFLINE);
    const again = fleet.agent('a', agent.names);
    const second = await again.connect({ lastCommandSeq: 1n, pendingResultIds: [executionId] });
    second.finish({ id: executionId, seq: 1n });
    await second.next('resultAck');
    assert.equal(await stateOf(jobId), JobState.SUCCEEDED);
  });

  it('calls what an agent has forgotten indeterminate', async () => {
    const stream = await fleet.agent('a').connect();
    const { jobId } = await submit('a');
    stream.receive(await stream.next('command'));
    await reaches(jobId, JobState.QUEUED);
    stream.close();
    await until('agent offline', async () => (await agentState('a')) === AgentState.OFFLINE);
    const forgetful = await fleet.agent('a').connect();
    assert.equal(await stateOf(jobId), JobState.QUEUED, 'its Hello may be one that an earlier process wrote');
    forgetful.send({ case: 'heartbeat', value: { number: 1n } });
    await reaches(jobId, JobState.INDETERMINATE);
  });

  it('cancels at every phase', async () => {
    const agent = fleet.agent('a');
    const introduced = await agent.connect();
    introduced.close();
    await until('agent offline', async () => (await agentState('a')) === AgentState.OFFLINE);
    const unsent = await submit('a');
    await fleet.jobs.cancelJob({ jobId: unsent.jobId, reason: 'changed my mind' });
    assert.equal(await stateOf(unsent.jobId), JobState.CANCELLED);

    const sent = await submit('a');
    const first = await agent.connect();
    const command = await first.next('command');
    assert.equal(command.id, sent.executionId);
    await fleet.jobs.cancelJob({ jobId: sent.executionId, reason: 'stop' });
    const cancel = await first.next('cancel');
    assert.equal(cancel.commandId, sent.executionId);
    assert.match(cancel.reason, /alice: stop/);
    first.close();

    const second = await agent.connect();
    assert.equal((await second.next('command')).id, sent.executionId);
    assert.equal((await second.next('cancel')).commandId, sent.executionId);
    second.receive(command);
    await reaches(sent.jobId, JobState.QUEUED);
    second.close();

    const third = await agent.connect({ lastCommandSeq: command.seq, inFlightCommandIds: [command.id] });
    assert.equal((await third.next('cancel')).commandId, sent.executionId);
    third.finish(command, JobState.CANCELLED);
    await third.next('resultAck');
    assert.equal(await stateOf(sent.jobId), JobState.CANCELLED);
    const after = await fleet.jobs.cancelJob({ jobId: sent.jobId });
    assert.equal(after.job?.state, JobState.CANCELLED);
  });

  it('ends what expired before it was received', async () => {
    const stream = await fleet.agent('a').connect();
    stream.close();
    await until('agent offline', async () => (await agentState('a')) === AgentState.OFFLINE);
    const { jobId } = await submit('a', { ttl: durationFromMs(30) });
    await reaches(jobId, JobState.REJECTED);
    const { job } = await fleet.jobs.getJob({ jobId });
    assert.equal(job?.executions[0]?.result?.error?.reason, ErrorReason.LATE);
    const again = await fleet.agent('a').connect();
    const next = await submit('a');
    assert.equal((await again.next('command')).id, next.executionId);
  });

  it('stores a refusal with its reason', async () => {
    const stream = await fleet.agent('a').connect();
    const { jobId } = await submit('a');
    const { id, seq } = await stream.next('command');
    const error = { reason: ErrorReason.POLICY, message: 'rule x', rule: 'x' };
    stream.send({ case: 'rejected', value: { commandId: id, seq, error } });
    await stream.next('resultAck');
    const { job } = await fleet.jobs.getJob({ jobId });
    assert.equal(job?.state, JobState.REJECTED);
    assert.equal(job.executions[0]?.result?.error?.rule, 'x');
  });

  it('takes nothing of one agent for another', async () => {
    const owner = await fleet.agent('a').connect();
    const thief = await fleet.agent('b').connect();
    const { jobId } = await submit('a');
    const command = await owner.next('command');
    thief.finish(command, JobState.FAILED);
    await thief.next('resultAck');
    assert.equal(await stateOf(jobId), JobState.PENDING);
  });

  it('keeps at most a window of commands out', async () => {
    await restartWith({ windowCommands: 2 });
    const stream = await fleet.agent('a').connect();
    for (let i = 0; i < 5; i++) await submit('a');
    const first = await stream.next('command');
    await stream.next('command');
    stream.send({ case: 'heartbeat', value: { number: 1n } });
    await stream.next('heartbeat');
    assert.equal(stream.received.filter((message) => message.case === 'command').length, 0);
    stream.receive(first);
    assert.equal((await stream.next('command')).seq, 3n);
  });

  it('refuses what can not be served, each with its own code', async () => {
    const codes: Record<string, number> = {};
    const newest: Record<string, bigint | undefined> = {};
    const refused = async (what: string, hello: HelloPatch | undefined) => {
      const agent = fleet.agent('x');
      const attempt = agent.dial();
      if (hello === undefined) attempt.send({ case: 'heartbeat', value: {} });
      else attempt.hello(agent, hello);
      codes[what] = await attempt.end();
      newest[what] = statusDetails(attempt.error?.metadata).newestEpoch;
      return attempt.error?.details ?? '';
    };
    assert.match(
      await refused('protocol', { protocolMin: 2, protocolMax: 9 }),
      /speaks protocol 2 to 9, this controller 1 to 1/,
    );
    assert.match(await refused('other agent', { agentId: 'y' }), /credentials name 'x'/);
    assert.match(await refused('no hello', undefined), /must be Hello/);
    assert.match(await refused('names', { instanceId: 'I', bootId: 'B' }), /hello.instance_id.*hello.boot_id/);
    await fleet.agent('x').connect({ leaderEpoch: 7n });
    assert.match(await refused('epoch', { leaderEpoch: 6n }), /epoch 7 was seen/);
    assert.match(
      await refused('no epoch', { leaderEpoch: 2n ** 53n }),
      /hello.leader_epoch.* at most 9007199254740991/,
    );
    assert.match(await refused('second host', { leaderEpoch: 7n }), /connected as instance/);
    await fleet.agents.revokeAgent({ agentId: 'x', reason: 'stolen' });
    assert.match(await refused('revoked', { leaderEpoch: 8n }), /was revoked/);
    assert.deepEqual(codes, {
      protocol: 9,
      'other agent': 16,
      'no hello': 9,
      names: 3,
      epoch: 10,
      'no epoch': 3,
      'second host': 6,
      revoked: 16,
    });
    assert.deepEqual(await counted(GREETING_METRICS.greetings), {
      connected: 1,
      wrong_state: 2,
      identity: 2,
      invalid: 2,
      stale: 1,
      already_exists: 1,
    });
    assert.deepEqual(await counted(GREETING_METRICS.staleLeaders), { greeting: 1 });
    const { epoch, ...others } = newest;
    assert.equal(epoch, 7n);
    assert.deepEqual(new Set(Object.values(others)), new Set([undefined]));
  });

  it('gives an epoch to one instance only, also when that is gone', async () => {
    const first = fleet.agent('x');
    const stream = await first.connect({ leaderEpoch: 7n });
    stream.call.end();
    await stream.end();
    const late = fleet.agent('x');
    const attempt = late.dial();
    attempt.hello(late, { leaderEpoch: 7n });
    assert.equal(await attempt.end(), 10);
    assert.equal(statusDetails(attempt.error?.metadata).newestEpoch, 7n);
    await first.connect({ leaderEpoch: 7n });
  });

  it('lets a newer stream of the same instance take over, and still reads the older', async () => {
    const agent = fleet.agent('a');
    const older = await agent.connect();
    const { jobId } = await submit('a');
    const command = await older.next('command');
    const newer = await agent.connect({ lastCommandSeq: 0n });
    assert.equal((await newer.next('command')).id, command.id);
    older.receive(command);
    await reaches(jobId, JobState.QUEUED);
    const next = await submit('a');
    assert.equal((await newer.next('command')).id, next.executionId);
    assert.equal(older.received.filter((message) => message.case === 'command').length, 0);
    older.call.end();
    assert.equal(await older.end(), 0);
    assert.equal(await agentState('a'), AgentState.ONLINE);
  });

  it('ends the stream of an earlier leader when a later one comes, and tells commands the epoch that they are for', async () => {
    const older = await fleet.agent('a').connect({ leaderEpoch: 3n });
    const second = fleet.agent('a');
    const newer = await second.connect({ leaderEpoch: 4n });
    assert.equal(await older.end(), 10);
    await submit('a');
    assert.equal((await newer.next('command')).leaderEpoch, 4n);
    assert.deepEqual(await counted(GREETING_METRICS.takeovers), { '': 1 });
    assert.deepEqual(await counted(GREETING_METRICS.staleLeaders), { stream: 1 });
    newer.close();
    await second.connect({ leaderEpoch: 4n });
    assert.deepEqual(await counted(GREETING_METRICS.takeovers), { '': 1 }, 'who comes again takes nothing over');
  });

  it('refuses a copy of an agent while the original is connected, and takes its place afterwards', async () => {
    const original = fleet.agent('a');
    const stream = await original.connect();
    const copy = fleet.agent('a', { instanceId: original.names.instanceId });
    const attempt = copy.dial();
    attempt.hello(copy);
    assert.equal(await attempt.end(), 6);
    assert.match(attempt.error?.details ?? '', /agent a is connected from another process with the same data folder/);
    assert.equal(await agentState('a'), AgentState.ONLINE);
    stream.close();
    await until('agent offline', async () => (await agentState('a')) === AgentState.OFFLINE);
    await copy.connect();
  });

  /** Starts anew with one short limit: several at once would pass for each other on a machine that is slow. */
  const restartWith = async (link: Partial<LinkOptions>) => {
    await fleet[Symbol.asyncDispose]();
    fleet = await FleetUnderTest.start({ link });
  };

  it('ends streams that fall silent, are superseded for long, or never say Hello', async () => {
    await restartWith({ helloTimeoutMs: 100 });
    assert.equal(await fleet.agent('m').dial().end(), 4);
    await restartWith({ heartbeatMs: 60 });
    const silent = await fleet.agent('s').connect();
    assert.equal(await silent.end(), 4);
    assert.match(silent.error?.details ?? '', /nothing was heard/);
    await restartWith({ replacedGraceMs: 60 });
    const agent = fleet.agent('r');
    const replaced = await agent.connect();
    await agent.connect();
    assert.equal(await replaced.end(), 0);
  });

  it('sends heartbeats unasked, and answers those that come', async () => {
    await restartWith({ heartbeatMs: 3000 });
    const stream = await fleet.agent('a').connect();
    assert.equal((await stream.next('heartbeat')).answers, 0n);
    stream.send({ case: 'heartbeat', value: { number: 4n } });
    // Another one may have been sent unasked in between.
    while ((await stream.next('heartbeat')).answers !== 4n);
  });

  it('ends the live stream of a revoked agent and refuses jobs for it', async () => {
    const stream = await fleet.agent('a').connect();
    await fleet.agents.revokeAgent({ agentId: 'a', reason: 'stolen' });
    assert.equal(await stream.end(), 16);
    assert.equal(await agentState('a'), AgentState.REVOKED);
    await assert.rejects(submit('a'), (error) => error instanceof ConnectError && /revoked/.test(error.message));
  });

  it('asks for facts it does not know, and keeps usage and checkpoints', async () => {
    const digest = new Uint8Array(16).fill(3);
    const agent = fleet.agent('a');
    const stream = agent.dial();
    stream.hello(agent, { factsDigest: digest });
    assert.equal((await stream.next('welcome')).needFacts, false);
    const again = agent.dial();
    again.call.write({ $typeName: 'longline.link.v1.AgentMessage', message: { case: undefined } });
    assert.equal(await again.end(), 9);
    const third = agent.dial();
    third.send({
      case: 'hello',
      value: { protocolMin: 1, protocolMax: 1, agentId: 'a', ...agent.names, factsDigest: new Uint8Array(16) },
    });
    assert.equal((await third.next('welcome')).needFacts, true);
    third.send({ case: 'facts', value: { hostname: 'box', labels: { zone: 'z', 'bad key!': 'x' } } });
    const checkpoint = {
      chainId: newId(),
      sequence: 12n,
      head: new Uint8Array(32),
      time: { seconds: 1000n, nanos: 0 },
      publicKey: new Uint8Array(32),
      signed: { payload: new Uint8Array(3), signatures: [{ value: new Uint8Array(64) }] },
    };
    third.send({ case: 'auditCheckpoint', value: checkpoint });
    assert.equal((await third.next('auditCheckpointAck')).sequence, 12n);
    const { checkpoints } = await fleet.agents.listAuditCheckpoints({ agentId: 'a' });
    assert.equal(checkpoints[0]?.chainId, checkpoint.chainId);
    const { agent: view } = await fleet.agents.getAgent({ agentId: 'a' });
    assert.deepEqual([view?.facts?.hostname, view?.labels], ['box', { zone: 'z' }]);
  });

  it('turns away the many with a time to come again, and drains before it leaves', async () => {
    await restartWith({ admission: { perSecond: 0.001, burst: 1 } });
    const stream = await fleet.agent('a').connect();
    const refused = fleet.agent('b').dial();
    assert.equal(await refused.end(), 8);
    const leaving = fleet.services.agentRoutes.drain(5000, 'update');
    assert.equal((await stream.next('drain')).reason, 'update');
    stream.call.end();
    await leaving;
    assert.equal(fleet.services.link.connections, 0);
  });
});
