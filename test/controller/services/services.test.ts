import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import type { WatchAgentsResponse } from '#gen/longline/fleet/v1/agent_service_pb.js';
import type { RunJobResponse } from '#gen/longline/fleet/v1/job_service_pb.js';
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import { JobState } from '#gen/longline/v1/job_pb.js';
import { StatementSchema } from '#gen/longline/v1/signature_pb.js';
import { fromConnectError } from '../front/received-errors.ts';
import { FleetUnderTest, jobsFacts, runOn, until } from '../link/fleet-fixture.ts';
import { chunk, closeOf } from '../logs/reference-log.ts';

describe('fleet services', () => {
  let fleet: FleetUnderTest;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());

  const connect = async (id: string, labels: Record<string, string> = {}, maxJobs = 5) =>
    await fleet.agent(id).connect({ facts: jobsFacts(maxJobs, labels) });
  const anyOf = (matchLabels: Record<string, string>) => ({
    target: { target: { case: 'anyOf' as const, value: { matchLabels } } },
    spec: { argv: ['true'] },
  });
  const allOf = (matchLabels: Record<string, string>) => ({
    target: { target: { case: 'allOf' as const, value: { matchLabels } } },
    spec: { argv: ['true'] },
  });
  const failure = async (call: Promise<unknown>): Promise<ConnectError> => {
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof ConnectError, `expected a ConnectError, got ${error}`);
    return error;
  };

  it('runs a job: submitted, executions, output, finished', async () => {
    const agent = fleet.agent('a');
    const control = await agent.connect();
    const events: RunJobResponse['event'][] = [];
    const running = (async () => {
      for await (const { event } of fleet.jobs.runJob({ job: runOn('a') })) events.push(event);
    })();
    const command = await control.next('command');
    control.receive(command);
    control.send({
      case: 'progress',
      value: {
        commandId: command.id,
        number: 1n,
        detail: { case: 'job', value: { step: { case: 'started', value: {} } } },
      },
    });
    await until('running', () =>
      events.some((event) => event.case === 'execution' && event.value.state === JobState.RUNNING),
    );
    const logs = agent.logs();
    logs.send({ case: 'open', value: { handle: 1, logId: command.id, attempt: 1, kind: 'job' } });
    logs.send({ case: 'batch', value: { handle: 1, chunks: [chunk('stdout', 0, 'hi\n')] } });
    await until('live output', () => events.some((event) => event.case === 'output'));
    control.finish(command, JobState.SUCCEEDED, 6);
    await control.next('resultAck');
    logs.send({ case: 'batch', value: { handle: 1, chunks: [chunk('stdout', 3, 'ho\n')] } });
    logs.send({ case: 'end', value: { handle: 1, close: closeOf({ stdout: Buffer.from('hi\nho\n') }) } });
    await running;
    assert.equal(events[0]?.case, 'submitted');
    const last = events.at(-1);
    assert.equal(last?.case === 'finished' && last.value.state, JobState.SUCCEEDED);
    const output = events.flatMap((event) => (event.case === 'output' ? [event.value.part] : []));
    const text = output
      .flatMap((part) => (part.case === 'chunk' ? [Buffer.from(part.value.data).toString()] : []))
      .join('');
    assert.equal(text, 'hi\nho\n');
    assert.equal(output.at(-1)?.case, 'close');
  });

  it('runs on all that match, with a result each and the worst of them for the job', async () => {
    const streams = [await connect('a', { z: '1' }), await connect('b', { z: '1' })];
    await connect('c', { z: '2' });
    const events: RunJobResponse['event'][] = [];
    const running = (async () => {
      for await (const { event } of fleet.jobs.runJob({ job: allOf({ z: '1' }) })) events.push(event);
    })();
    const states = [JobState.SUCCEEDED, JobState.FAILED];
    for (const [index, stream] of streams.entries()) {
      const command = await stream.next('command');
      const statement = fromBinary(StatementSchema, command.statement!.payload);
      assert.deepEqual(statement.audience?.agentIds, ['a', 'b']);
      assert.equal(statement.controllerId, 'test-controller');
      stream.receive(command);
      stream.finish(command, states[index]);
    }
    await running;
    const last = events.at(-1);
    assert.equal(last?.case, 'finished');
    assert.deepEqual(
      last.value.executions.map(({ agentId, state }) => [agentId, state]),
      [
        ['a', JobState.SUCCEEDED],
        ['b', JobState.FAILED],
      ],
    );
    assert.equal(last.value.state, JobState.FAILED);
  });

  it('leaves the job alone when the caller of RunJob leaves', async () => {
    const control = await connect('a');
    const leaving = new AbortController();
    let jobId = '';
    await assert.rejects(async () => {
      for await (const { event } of fleet.jobs.runJob({ job: runOn('a') }, { signal: leaving.signal })) {
        if (event.case === 'submitted') jobId = event.value.id;
        leaving.abort();
      }
    });
    const command = await control.next('command');
    control.finish(command);
    const { done, job } = await fleet.jobs.waitResult({ jobId, timeout: durationFromMs(60_000) });
    assert.deepEqual([done, job?.state], [true, JobState.SUCCEEDED]);
  });

  it('picks the least loaded agent and says why none can be', async () => {
    assert.equal((await failure(fleet.jobs.submitJob({ job: anyOf({ z: '1' }) }))).code, Code.NotFound);
    await connect('big', { z: '1' }, 4);
    await connect('small', { z: '1' }, 1);
    const placed: string[] = [];
    for (let i = 0; i < 5; i++) {
      const { job } = await fleet.jobs.submitJob({ job: anyOf({ z: '1' }) });
      placed.push(job!.executions[0]!.agentId);
    }
    assert.equal(placed.filter((id) => id === 'small').length, 1);
    await fleet.agents.drainAgent({ agentId: 'big' });
    await fleet.agents.drainAgent({ agentId: 'small', reason: 'maintenance' });
    const error = await failure(fleet.jobs.submitJob({ job: anyOf({ z: '1' }) }));
    assert.equal(error.code, Code.FailedPrecondition);
    assert.match(error.message, /2 agents match the selector, none can take a job: 2 drained/);
    const direct = await failure(fleet.jobs.submitJob({ job: runOn('big') }));
    assert.match(direct.message, /big is drained/);
    await fleet.agents.drainAgent({ agentId: 'big', resume: true });
    assert.equal((await fleet.jobs.submitJob({ job: anyOf({ z: '1' }) })).job?.executions[0]?.agentId, 'big');
  });

  it('is idempotent by request id', async () => {
    await connect('a');
    const job = runOn('a', { requestId: 'k1', labels: { x: '1', y: '2' } });
    const first = await fleet.jobs.submitJob({ job });
    const again = await fleet.jobs.submitJob({ job: { ...job, labels: { y: '2', x: '1' } } });
    assert.equal(again.job?.id, first.job?.id);
    const other = await failure(fleet.jobs.submitJob({ job: { ...job, spec: { argv: ['false'] } } }));
    assert.equal(other.code, Code.AlreadyExists);
    const both = await Promise.all([1, 2, 3].map(() => fleet.jobs.submitJob({ job: { ...job, requestId: 'k2' } })));
    assert.equal(new Set(both.map((response) => response.job?.id)).size, 1);
  });

  it('runs nothing again for the request id of a job that is no longer kept', async () => {
    const agent = await fleet.agent('a').connect();
    const job = runOn('a', { requestId: 'k3' });
    const { job: first } = await fleet.jobs.submitJob({ job });
    const command = await agent.next('command');
    agent.receive(command);
    agent.finish(command);
    await agent.next('resultAck');
    assert.equal(await fleet.store.jobs.deleteBeyond(0, 10), 1);
    await assert.rejects(fleet.jobs.submitJob({ job }), (error: ConnectError) => {
      assert.equal(error.code, Code.NotFound);
      assert.match(error.rawMessage, new RegExp(`'k3' made job ${first!.id}.*use a new one`));
      return true;
    });
    assert.equal((await fleet.jobs.listJobs({})).jobs.length, 0);
  });

  it('ends a RunJob whose job is no longer kept before its caller heard of the end', async (t) => {
    await fleet[Symbol.asyncDispose]();
    // Nothing wakes it: it has to look by itself.
    fleet = await FleetUnderTest.start({ services: { recheckMs: 200 } });
    await connect('a');
    const { commands } = fleet.store;
    const gone = Promise.withResolvers<void>();
    const versions = commands.versions.bind(commands);
    t.mock.method(commands, 'versions', async (jobId: string) => {
      await gone.promise;
      return await versions(jobId);
    });
    const events = fleet.jobs.runJob({ job: runOn('a') })[Symbol.asyncIterator]();
    const first = (await events.next()).value?.event;
    assert.ok(first?.case === 'submitted');
    const rest = (async () => {
      while (!(await events.next()).done);
    })();
    rest.catch(() => undefined);
    const [{ id: commandId } = assert.fail()] = first.value.executions;
    const none = new Uint8Array();
    const result = {
      rejected: false,
      jobState: JobState.SUCCEEDED,
      result: none,
      sessionResult: none,
      programResult: none,
      nowMs: Date.now(),
    };
    await commands.result({ commandId, agentId: 'a', ...result });
    assert.equal(await fleet.store.jobs.deleteBeyond(0, 10), 1);
    gone.resolve();
    await assert.rejects(rest, (error: ConnectError) => error.code === Code.NotFound);
  });

  it('tells every mistake of a request at once, by path', async () => {
    const spec = {
      argv: ['x'],
      shell: 'y',
      env: { '1A': 'v' },
      workingDir: 'rel',
      resources: { cpus: -1, memoryBytes: 0n },
      timeout: durationFromMs(0),
      networkName: 'n',
      mounts: [{ source: '', target: 't' }],
      sandbox: { addCapabilities: ['CAP_NET_RAW'] },
      stdinData: new Uint8Array(1),
    };
    const job = { spec, ttl: durationFromMs(-5), labels: { 'bad key': 'v' }, requestId: 'r'.repeat(129) };
    const error = fromConnectError(await failure(fleet.jobs.submitJob({ job })));
    assert.equal(error.reason, 'invalid');
    assert.deepEqual(error.violations.map((violation) => violation.field).sort(), [
      'job.labels["bad key"]',
      'job.request_id',
      'job.spec.argv',
      'job.spec.env["1A"]',
      'job.spec.mounts[0].source',
      'job.spec.mounts[0].target',
      'job.spec.network_name',
      'job.spec.resources.cpus',
      'job.spec.resources.memory_bytes',
      'job.spec.sandbox.add_capabilities[0]',
      'job.spec.stdin_data',
      'job.spec.timeout',
      'job.spec.working_dir',
      'job.target',
      'job.ttl',
    ]);
  });

  it('passes statements signed elsewhere on byte for byte, if they cover the target', async () => {
    const control = await connect('a', { z: '1' });
    await connect('b', { z: '2' });
    const sign = (expiresInMs = 60_000) => ({
      payloadType: 'application/vnd.longline.statement.v1+protobuf',
      // An unknown field at the end must reach the agent too.
      payload: Buffer.concat([
        toBinary(
          StatementSchema,
          create(StatementSchema, {
            nonce: new Uint8Array(16),
            controllerId: 'elsewhere',
            audience: { matchLabels: { z: '1' } },
            expireTime: timestampFromMs(Date.now() + expiresInMs),
            action: { action: { case: 'job', value: { action: { case: 'run', value: { argv: ['id'] } } } } },
          }),
        ),
        Buffer.from([0xf8, 0x3f, 0x01]),
      ]),
      signatures: [{ keyId: 'k', value: new Uint8Array(64) }],
    });
    const target = { target: { case: 'agentId' as const, value: 'a' } };
    const signed = sign();
    const { job } = await fleet.jobs.submitJob({ job: { target, signed } });
    assert.deepEqual(job?.spec?.argv, ['id']);
    const command = await control.next('command');
    assert.deepEqual(Buffer.from(command.statement!.payload), signed.payload);
    const uncovered = await failure(
      fleet.jobs.submitJob({ job: { ...runOn('b'), spec: undefined as never, signed: sign() } }),
    );
    assert.match(uncovered.message, /doesn't cover b/);
    const late = await failure(fleet.jobs.submitJob({ job: { target, signed: sign(-1000) } }));
    assert.match(late.message, /expire_time/);
    const junk = await failure(
      fleet.jobs.submitJob({ job: { target, signed: { ...sign(), payload: new Uint8Array([255]) } } }),
    );
    assert.match(junk.message, /is no longline.v1.Statement/);
  });

  it('claims a command in the same commit as it is stored, so that it leaves at once', async () => {
    const control = await connect('a');
    const { jobs, commands } = fleet.store;
    const order: string[] = [];
    const submit = jobs.submit.bind(jobs);
    const claim = commands.claim.bind(commands);
    jobs.submit = async (submission) => {
      const outcome = await submit(submission);
      order.push('stored');
      return outcome;
    };
    commands.claim = async (query) => {
      order.push('claim');
      const claimed = await claim(query);
      if (claimed.length > 0) order.push('claimed');
      return claimed;
    };
    await fleet.jobs.submitJob({ job: runOn('a') });
    await control.next('command');
    assert.deepEqual(order.slice(0, 3), ['claim', 'stored', 'claimed']);
  });

  it('keeps the trace context of a request', async () => {
    const control = await connect('a');
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    await fleet.jobs.submitJob({ job: runOn('a') }, { headers: { traceparent, tracestate: 'k=v' } });
    const command = await control.next('command');
    assert.deepEqual([command.traceparent, command.tracestate], [traceparent, 'k=v']);
  });

  it('lists jobs by page and finds them by execution', async () => {
    await connect('a');
    const ids: string[] = [];
    for (let i = 0; i < 3; i++)
      ids.unshift((await fleet.jobs.submitJob({ job: runOn('a', { labels: { n: String(i) } }) })).job!.id);
    const first = await fleet.jobs.listJobs({ pageSize: 2 });
    const second = await fleet.jobs.listJobs({ pageSize: 2, pageToken: first.nextPageToken });
    assert.deepEqual(
      [...first.jobs, ...second.jobs].map((job) => job.id),
      ids,
    );
    const executionId = first.jobs[0]!.executions[0]!.id;
    assert.equal((await fleet.jobs.getJob({ jobId: executionId })).job?.id, ids[0]);
    assert.equal((await fleet.jobs.listJobs({ matchLabels: { n: '1' } })).jobs[0]?.id, ids[1]);
    assert.equal((await failure(fleet.jobs.getJob({ jobId: 'nope' }))).code, Code.NotFound);
    const waited = await fleet.jobs.waitResult({ jobId: ids[0]!, timeout: durationFromMs(1) });
    assert.equal(waited.done, false);
  });

  it('watches agents come, change and go', async () => {
    await connect('a', { z: '1' });
    const leaving = new AbortController();
    const changes: WatchAgentsResponse['change'][] = [];
    const watching = (async () => {
      for await (const { change } of fleet.agents.watchAgents(
        { selector: { matchLabels: { z: '1' } } },
        { signal: leaving.signal },
      )) {
        changes.push(change);
      }
    })();
    watching.catch(() => undefined);
    const seen = async (what: string, holds: (change: WatchAgentsResponse['change']) => boolean) =>
      await until(what, () => changes.some(holds));
    await seen('synced', (change) => change.case === 'synced');
    assert.equal(changes[0]?.case === 'agent' && changes[0].value.id, 'a');
    const b = await connect('b', { z: '1' });
    await seen(
      'b online',
      (change) => change.case === 'agent' && change.value.id === 'b' && change.value.state === AgentState.ONLINE,
    );
    await fleet.agents.labelAgent({ agentId: 'a', set: { z: '9' } });
    await seen('a removed', (change) => change.case === 'removedAgentId' && change.value === 'a');
    assert.equal((await failure(fleet.agents.deleteAgent({ agentId: 'b' }))).code, Code.FailedPrecondition);
    b.close();
    await seen('b offline', (change) => change.case === 'agent' && change.value.state === AgentState.OFFLINE);
    await fleet.agents.deleteAgent({ agentId: 'b' });
    await seen('b removed', (change) => change.case === 'removedAgentId' && change.value === 'b');
    leaving.abort();
    await assert.rejects(watching);
    assert.equal((await failure(fleet.agents.getAgent({ agentId: 'b' }))).code, Code.NotFound);
  });

  it('labels agents, refusing what is no label', async () => {
    await connect('a', { own: '1' });
    const { agent } = await fleet.agents.labelAgent({ agentId: 'a', set: { team: 'x' } });
    assert.deepEqual([agent?.labels, agent?.assignedLabels], [{ own: '1', team: 'x' }, { team: 'x' }]);
    const error = fromConnectError(
      await failure(
        fleet.agents.labelAgent({
          agentId: 'a',
          set: { 'a b': 'x', long: 'v'.repeat(256), both: '' },
          remove: ['both'],
        }),
      ),
    );
    assert.deepEqual(
      error.violations.map((violation) => violation.field),
      ['set["a b"]', 'set["long"]', 'remove["both"]'],
    );
    const { agents } = await fleet.agents.listAgents({
      selector: { matchLabels: { team: 'x' } },
      states: [AgentState.ONLINE],
    });
    assert.deepEqual(
      agents.map((one) => one.id),
      ['a'],
    );
  });
});
