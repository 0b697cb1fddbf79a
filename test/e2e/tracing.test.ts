// One trace for each thing asked for: command line, controller and agent as processes of their own, all sending spans and log lines to
// one collector. Of what is killed nothing is asserted but what it had to hand on.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { Client } from '@connectrpc/connect';
import { SessionService } from '#gen/longline/fleet/v1/session_service_pb.js';
import { HibernationTier } from '#gen/longline/v1/session_pb.js';
import { withConnect } from '../controller/front/agent-client.ts';
import type { RunningCommand } from '../fixtures/command.ts';
import { dockerMissing, sharedDocker, type TestEngine } from '../fixtures/engines.ts';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { OtlpReceiver, type SeenSpan } from '../fixtures/otlp-receiver.ts';
import { bpfMissing, PrivateBpffs } from '../fixtures/private-bpffs.ts';
import { COMMAND_ENDS, type SpanPlace, traceOf } from '../fixtures/seen-trace.ts';
import { newAuthor, testArtifact } from '../fixtures/test-artifact.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';

const RUN_JOB = 'longline.fleet.v1.JobService/RunJob';
const SUBMIT_JOB = 'longline.fleet.v1.JobService/SubmitJob';
const SESSIONS = 'longline.fleet.v1.SessionService';
const PUT_PROGRAM = 'longline.fleet.v1.ProgramService/PutProgram';
const ENROLL = 'longline.link.v1.EnrollmentService/Enroll';
const FETCH = 'longline.link.v1.AgentLinkService/FetchArtifact';
const POINT = 'tracepoint:sched:sched_process_exit';
const COMMAND: SpanPlace = ['agent', 'command'];
const RUN: SpanPlace = ['agent', 'run'];
const APPLY: SpanPlace = ['agent', 'apply'];

const missing = dockerMissing() ?? testImageMissing() ?? bpfMissing();

describe('a trace', { skip: missing ?? false }, () => {
  const owned = new AsyncDisposableStack();
  let receiver: OtlpReceiver;
  let engine: TestEngine;
  let fleet: Fleet;
  let agent: TestAgent;
  let artifact: string;
  let strange: string;
  /** Spans that came before the test. */
  let from = 0;

  before(async () => {
    receiver = owned.use(await OtlpReceiver.start());
    engine = await sharedDocker();
    owned.defer(async () => await engine.dispose());
    await loadTestImages(engine);
    const folder = await mkdtemp(join(tmpdir(), 'll-traced-'));
    owned.defer(async () => await rm(folder, { recursive: true, force: true }));
    const bpffs = owned.use(new PrivateBpffs());
    await bpffs.mount();
    const author = newAuthor();
    const trusted = join(folder, 'author.pub');
    [artifact, strange] = [join(folder, 'artifact.tar.zst'), join(folder, 'strange.tar.zst')];
    await writeFile(trusted, author.publicPem);
    await writeFile(artifact, await testArtifact('tracepoint', author));
    await writeFile(strange, await testArtifact('tracepoint', newAuthor()));
    const environment = { ...receiver.environment(), OTEL_LOGS_EXPORTER: 'otlp' };
    fleet = owned.use(await startFleet({ launcher: true, dockerHost: engine.host, environment }));
    const programs = ['--programs-key-file', trusted, '--programs-bpf-fs', bpffs.mountPoint];
    agent = await fleet.enrolled('a', ['--allowed-image', TEST_IMAGE, ...programs]);
  });
  beforeEach(() => {
    from = receiver.spans.length;
  });
  // What a failed test has killed must not fail those that follow.
  afterEach(async () => await fleet.mend());
  after(async () => await owned[Symbol.asyncDispose]());

  const sessions = async (use: (client: Client<typeof SessionService>) => Promise<unknown>) => {
    const context = JSON.parse(await readFile(fleet.context, 'utf8')) as { url: string; ca: string; token: string };
    await withConnect(context, SessionService, use, context.token);
  };

  /** Asserts that a process has written this line within the span, and sent it so to the collector. */
  const tellsOf = async (process: RunningCommand, line: string, { service, traceId, id }: SeenSpan) => {
    const sent = await receiver.until(`the line "${line}"`, (_, logs) => logs.find(({ body }) => body === line));
    assert.deepEqual([sent.service, sent.traceId, sent.spanId], [service, traceId, id]);
    const written = await process.until(line, () => process.stderr.split('\n').find((one) => one.includes(line)));
    const { trace_id, span_id } = JSON.parse(written) as { trace_id: string; span_id: string };
    assert.deepEqual([trace_id, span_id], [traceId, id]);
  };

  it('tells how the agent got its certificate', async () => {
    const trace = await traceOf(receiver, ENROLL, [
      ['agent', ENROLL],
      ['controller', ENROLL],
    ]);
    trace.chain(['agent', ENROLL], ['controller', ENROLL]);
    const { attributes, kind, parent } = trace.get('agent', ENROLL);
    assert.deepEqual([kind, parent, attributes['rpc.response.status_code']], ['SPAN_KIND_CLIENT', '', 'OK']);
    assert.equal(String(attributes['server.port']), new URL(fleet.url).port);
  });

  it('tells each step of a job, from the call to its acknowledgement, and how it failed', async () => {
    const run = ['--image', TEST_IMAGE, '--env', 'KEY=hunter2'];
    const outcome = await fleet.longline('job', 'run', '--agent', 'a', ...run, '--', 'sh', '-c', ': sesame; exit 7');
    assert.equal(outcome.code, 7, outcome.stderr);
    const trace = await traceOf(receiver, RUN_JOB, COMMAND_ENDS, from);
    trace.chain(['cli', 'longline job run'], ['controller', RUN_JOB], ['controller', 'store']);
    trace.chain(['controller', RUN_JOB], ['controller', 'dispatch'], COMMAND);
    trace.below(COMMAND, 'verify', 'journal', 'run', 'journal result', 'result');
    trace.chain(['agent', 'result'], ['controller', 'store result']);
    trace.below(RUN, 'create', 'start', 'container');
    const kinds = [RUN_JOB, 'dispatch', 'command', 'result', 'store result'].map(
      (name) => trace.spans.find((span) => span.name === name)!.kind,
    );
    assert.deepEqual(
      kinds.map((kind) => kind.replace('SPAN_KIND_', '').toLowerCase()),
      ['server', 'producer', 'consumer', 'producer', 'consumer'],
    );
    const { status, attributes } = trace.get(...COMMAND);
    assert.deepEqual([status, attributes['longline.command.outcome']], ['STATUS_CODE_ERROR', 'failed']);
    assert.equal(trace.get('agent', 'container').attributes['process.exit.code'], '7');
    assert.equal(trace.get('controller', RUN_JOB).attributes['rpc.response.status_code'], 'OK');
  });

  it('tells of a command that policy rejects, and why', async () => {
    const outcome = await fleet.longline(
      'job',
      'run',
      '--agent',
      'a',
      '--image',
      'elsewhere/other',
      '--',
      'echo',
      'sesame',
    );
    assert.notEqual(outcome.code, 0);
    const trace = await traceOf(receiver, RUN_JOB, COMMAND_ENDS, from);
    const { attributes, status, statusMessage } = trace.get(...COMMAND);
    assert.deepEqual([status, attributes['longline.command.outcome']], ['STATUS_CODE_ERROR', 'rejected']);
    const verify = trace.get('agent', 'verify');
    assert.deepEqual([verify.status, verify.attributes['error.type']], ['STATUS_CODE_ERROR', attributes['error.type']]);
    assert.equal(verify.events[0]!.attributes['exception.message'], verify.statusMessage);
    assert.match(statusMessage, /elsewhere\/other/);
    assert.equal(trace.find(...RUN), undefined);
  });

  it('tells of a session as it is started, sleeps and wakes, and of a tunnel into it', async () => {
    const longline = async (...args: readonly string[]) => {
      const outcome = await fleet.longline('session', ...args);
      assert.equal(outcome.code, 0, outcome.stderr);
    };
    const sessionId = 'desk';
    const commandOf = async (method: string) => await traceOf(receiver, `${SESSIONS}/${method}`, COMMAND_ENDS, from);
    const place = ['--id', sessionId, '--agent', 'a', '--image', TEST_IMAGE, '--stop-grace', '1s'];
    await longline('start', ...place, '--', 'sleep', '600');
    const started = await commandOf('SubmitSession');
    const submit = `${SESSIONS}/SubmitSession`;
    started.chain(['cli', 'longline session start'], ['cli', submit], ['controller', submit], ['controller', 'store']);
    started.chain(['controller', submit], ['controller', 'dispatch'], COMMAND, RUN);
    started.below(RUN, 'network', 'create', 'start', 'running');
    assert.equal(started.get('agent', 'create').attributes['longline.session.id'], sessionId);
    // Asked for without the command line, which takes longer to start than these take.
    for (const [method, step] of [
      ['HibernateSession', 'pause'],
      ['WakeSession', 'start'],
    ] as const) {
      await sessions(async (client) =>
        method === 'WakeSession'
          ? await client.wakeSession({ sessionId })
          : await client.hibernateSession({ sessionId, tier: HibernationTier.PAUSE }),
      );
      const trace = await commandOf(method);
      const call = ['controller', `${SESSIONS}/${method}`] as const;
      trace.chain(call, ['controller', 'dispatch'], COMMAND, RUN, ['agent', step]);
      // One that is paused wakes by this step alone.
      assert.equal(trace.spans.filter(({ parent }) => parent === trace.get(...RUN).id).length, 1, method);
    }
    await longline('exec', sessionId, 'true');
    const call = ['controller', `${SESSIONS}/Tunnel`] as const;
    const reach = ['agent', 'reach'] as const;
    const reached = await traceOf(receiver, call[1], [call, reach], from);
    reached.chain(['cli', 'longline session exec'], call, reach);
    assert.equal(reached.get(...reach).attributes['longline.session.id'], sessionId);
    await tellsOf(fleet.controller, 'tunnel opened', reached.get(...call));
    await sessions(async (client) => await client.stopSession({ sessionId }));
    (await commandOf('StopSession')).below(RUN, 'stop', 'remove_container', 'remove_network');
  });

  it('tells a program from the call to its place in the kernel, and of one that is refused', async () => {
    const load = async (file: string, name: string) =>
      await fleet.longline('program', 'load', '--agent', 'a', '--artifact', file, '--name', name, '--attach', POINT);
    const loaded = await load(artifact, 'good');
    assert.equal(loaded.code, 0, loaded.stderr);
    const trace = await traceOf(receiver, PUT_PROGRAM, [APPLY, ['controller', FETCH]], from);
    const call = ['controller', PUT_PROGRAM] as const;
    trace.chain(call, ['controller', 'store']);
    trace.chain(call, ['controller', 'dispatch'], ['agent', 'desired state'], ['agent', 'verify']);
    trace.chain(['agent', 'desired state'], APPLY);
    trace.below(APPLY, 'prepare', 'load', 'attach');
    trace.chain(['agent', 'prepare'], ['agent', FETCH], ['controller', FETCH]);
    assert.deepEqual(
      [...trace.spans].filter(({ name }) => name === FETCH).map((one) => one.attributes['rpc.response.status_code']),
      ['OK', 'OK'],
    );
    assert.equal(trace.get(...APPLY).status, 'STATUS_CODE_UNSET');
    assert.equal(trace.get('agent', 'attach').attributes['longline.subject'], POINT);
    await tellsOf(agent.command, 'a revision of a program was loaded', trace.get('agent', 'load'));
    // What goes on by itself after that is in no trace.
    assert.equal(trace.spans.filter(({ name }) => name === 'apply').length, 1);
    from = receiver.spans.length;
    assert.notEqual((await load(strange, 'bad')).code, 0);
    const refused = await traceOf(receiver, PUT_PROGRAM, [APPLY], from);
    for (const place of [['agent', 'prepare'] as const, APPLY]) {
      const { attributes, status, statusMessage } = refused.get(...place);
      assert.equal(status, 'STATUS_CODE_ERROR', place[1]);
      assert.match(`${attributes['error.type']}: ${statusMessage}`, /identity|policy|sign/);
    }
  });

  it('goes on where an agent was killed in the middle of a command', async () => {
    const script = 'trap "exit 0" TERM; while :; do sleep 0.1; done';
    const args = ['job', 'submit', '--agent', 'a', '--image', TEST_IMAGE, '--json'];
    const { id } = (await fleet.longline(...args, '--', 'sh', '-c', script)).json<{ id: string }>();
    // Sent, so that the job is known to run.
    const begun = await traceOf(receiver, SUBMIT_JOB, [['agent', 'start']], from);
    await agent.kill9();
    assert.equal(begun.find(...COMMAND), undefined, 'it was not over');
    agent.start();
    await fleet.longline('job', 'cancel', id);
    const trace = await traceOf(receiver, SUBMIT_JOB, COMMAND_ENDS, from);
    const command = trace.get(...COMMAND);
    assert.equal(command.attributes['longline.command.resumed'], true);
    trace.chain(['controller', SUBMIT_JOB], ['controller', 'dispatch'], COMMAND, RUN, ['agent', 'container']);
    trace.chain(COMMAND, ['agent', 'result'], ['controller', 'store result']);
    assert.equal(command.attributes['longline.command.outcome'], 'cancelled');
  });

  it('waits in the store while controller and agent are away, and goes on', async () => {
    await agent.stop();
    const args = ['job', 'submit', '--agent', 'a', '--image', TEST_IMAGE, '--json', '--', 'true'];
    assert.equal((await fleet.longline(...args)).code, 0);
    await traceOf(
      receiver,
      SUBMIT_JOB,
      [
        ['controller', 'store'],
        ['controller', SUBMIT_JOB],
      ],
      from,
    );
    await fleet.controller.stop('SIGKILL');
    await fleet.startController();
    agent.start();
    const trace = await traceOf(receiver, SUBMIT_JOB, COMMAND_ENDS, from);
    trace.chain(['cli', 'longline job submit'], ['cli', SUBMIT_JOB], ['controller', SUBMIT_JOB]);
    trace.chain(['controller', SUBMIT_JOB], ['controller', 'dispatch'], COMMAND, ['agent', 'result']);
    // It waited as long as nobody was there to take it.
    const { startNs, endNs } = trace.get('controller', 'dispatch');
    assert.ok(startNs <= trace.get('controller', SUBMIT_JOB).endNs && endNs > startNs);
    assert.equal(trace.get(...COMMAND).attributes['longline.command.outcome'], 'succeeded');
  });

  it('has nothing of what was in the commands, and lines have none of it either', () => {
    const told = [receiver.spans, receiver.logs];
    assert.ok(
      told.every((kind) => kind.length > 10),
      `${told.map((kind) => kind.length)}`,
    );
    const all = JSON.stringify(told, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
    assert.doesNotMatch(all, /hunter2|sesame|lle1\.|lla1\./);
  });
});
