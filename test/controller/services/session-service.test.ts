import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import type { StartSessionResponse, WatchSessionsResponse } from '#gen/longline/fleet/v1/session_service_pb.js';
import { DesiredStateKind, Outcome } from '#gen/longline/link/v1/link_pb.js';
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import {
  HibernationTier,
  SessionCause,
  SessionNetworkMode,
  SessionOperationState,
  SessionState,
  SessionStep,
  SessionStepState,
  SessionVerb,
} from '#gen/longline/v1/session_pb.js';
import { StatementSchema } from '#gen/longline/v1/signature_pb.js';
import { fromConnectError } from '../front/received-errors.ts';
import { type ControlStream, FleetUnderTest, until } from '../link/fleet-fixture.ts';
import { chunk, closeOf } from '../logs/reference-log.ts';
import { actionOf, finish, report, sessionsFacts, statusOf } from './session-fixture.ts';

describe('session service', () => {
  let fleet: FleetUnderTest;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());

  const connect = async (id: string, limits: Record<string, number> = {}, labels: Record<string, string> = {}) =>
    await fleet.agent(id).connect({ facts: sessionsFacts(limits, labels) });
  const on = (agentId: string) => ({ target: { case: 'agentId' as const, value: agentId } });
  const anyOf = (matchLabels: Record<string, string> = {}) => ({
    target: { case: 'anyOf' as const, value: { matchLabels } },
  });
  const failure = async (call: Promise<unknown>) => {
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof ConnectError, `expected a ConnectError, got ${error}`);
    return error;
  };
  const fields = (error: ConnectError) => fromConnectError(error).violations.map(({ field }) => field);
  const submit = async (sessionId: string, more: object = {}) =>
    (
      await fleet.sessions.submitSession({
        session: { sessionId, target: on('a'), spec: { image: 'desktop:1' }, ...more },
      })
    ).session!;
  const get = async (sessionId: string) => (await fleet.sessions.getSession({ sessionId })).session!;
  const running = async (control: ControlStream, sessionId: string, more: object = {}) => {
    await submit(sessionId, more);
    const command = await control.next('command');
    control.receive(command);
    finish(control, command, { status: statusOf(sessionId, 5) });
    await until('it runs', async () => (await get(sessionId)).status?.state === SessionState.RUNNING);
  };

  it('starts a session and follows it: submitted, changed, finished', async () => {
    const control = await connect('a');
    const events: StartSessionResponse['event'][] = [];
    const spec = { image: 'desktop:1', vnc: { password: 'secret' }, labels: { team: 'x' } };
    const starting = (async () => {
      for await (const { event } of fleet.sessions.startSession({
        session: { sessionId: 'desk', target: on('a'), spec },
      })) {
        events.push(event);
      }
    })();
    const command = await control.next('command');
    const action = actionOf(command);
    assert.equal(action.case, 'start');
    const start = action.case === 'start' ? action.value : undefined;
    assert.equal(start?.sessionId, 'desk');
    assert.equal(start.generation, 1n);
    assert.equal(start.specHash.length, 16);
    assert.equal(start.spec?.vnc?.password, 'secret');
    control.receive(command);
    report(control, [statusOf('desk', 1, { state: SessionState.STARTING, step: SessionStep.PULL })]);
    const pull = { image: 'desktop:1', layersTotal: 3, layersDone: 1 };
    const detail = { sessionId: 'desk', step: SessionStep.PULL, state: SessionStepState.BEGUN, pull };
    control.send({
      case: 'progress',
      value: { commandId: command.id, number: 1n, detail: { case: 'session', value: detail } },
    });
    await until('the pull is told', () =>
      events.some(({ value }) => value?.operation?.progress?.pull?.layersDone === 1),
    );
    finish(control, command, { status: statusOf('desk', 2) });
    await starting;
    assert.equal(events[0]?.case, 'submitted');
    const last = events.at(-1);
    assert.equal(last?.case, 'finished');
    assert.equal(last.value.status?.state, SessionState.RUNNING);
    assert.equal(last.value.operation?.state, SessionOperationState.SUCCEEDED);
    assert.equal(last.value.creator, 'alice');
    assert.equal(last.value.spec?.vnc?.password, '');
    assert.equal(last.value.spec?.vnc?.passwordSet, true);
  });

  it('gives a session that is there to the same request, and refuses another', async () => {
    await connect('a');
    await connect('b');
    const first = await submit('desk', { requestId: 'key' });
    const again = await submit('desk', { requestId: 'key' });
    assert.equal(again.operation?.id, first.operation?.id);
    assert.equal((await submit('desk')).operation?.id, first.operation?.id);
    const other = await failure(submit('desk', { spec: { image: 'desktop:2' } }));
    assert.equal(other.code, Code.AlreadyExists);
    assert.match(other.message, /pending/);
    assert.equal((await failure(submit('desk', { target: on('b') }))).code, Code.AlreadyExists);
    assert.equal((await failure(submit('else', { requestId: 'key' }))).code, Code.AlreadyExists);
    const named = await submit('');
    assert.match(named.id, /^[0-9a-f-]{36}$/);
  });

  it('gives one of several that race for an id, and one action of several', async () => {
    const control = await connect('a');
    const same = await Promise.all(Array.from({ length: 5 }, () => submit('desk')));
    assert.equal(new Set(same.map((session) => session.operation?.id)).size, 1);
    const images = ['x:1', 'x:2', 'x:3'];
    const others = await Promise.allSettled(images.map((image) => submit('other', { spec: { image } })));
    assert.equal(others.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const outcome of others) {
      if (outcome.status === 'rejected') assert.equal((outcome.reason as ConnectError).code, Code.AlreadyExists);
    }
    finish(control, await control.next('command'), { status: statusOf('desk', 5) });
    await until('it runs', async () => (await get('desk')).status?.state === SessionState.RUNNING);
    const asked = await Promise.allSettled([
      fleet.sessions.hibernateSession({ sessionId: 'desk', tier: HibernationTier.PAUSE }),
      fleet.sessions.hibernateSession({ sessionId: 'desk', tier: HibernationTier.STOP }),
      fleet.sessions.wakeSession({ sessionId: 'desk' }),
    ]);
    assert.equal(asked.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const outcome of asked) {
      if (outcome.status === 'rejected') assert.equal((outcome.reason as ConnectError).code, Code.Aborted);
    }
  });

  it('tells everything that is wrong with a request by its path', async () => {
    const spec = {
      image: '-',
      env: { '1x': '' },
      workingDir: 'x',
      resources: { cpus: 0 },
      volumes: [
        { name: 'Home', target: '/home' },
        { name: 'ok', target: '/home' },
      ],
      mounts: [{ source: 'x', target: '/' }],
      network: { mode: SessionNetworkMode.SHARED, name: 'n', internal: true },
      ports: [
        { name: 'web', number: 80 },
        { name: 'web', number: 70_000 },
      ],
      vnc: { width: 3 },
      idle: { pauseAfter: durationFromMs(60_000), stopAfter: durationFromMs(30_000) },
      healthCheck: { restartAfter: 1 },
      stopSignal: 'TERM',
      owner: '!',
    };
    const error = await failure(submit('Desk', { target: {}, spec, requestId: 'x'.repeat(200) }));
    assert.equal(error.code, Code.InvalidArgument);
    assert.deepEqual(fields(error).sort(), [
      'session.request_id',
      'session.session_id',
      'session.spec.env["1x"]',
      'session.spec.health_check',
      'session.spec.health_check.restart_after',
      'session.spec.idle.stop_after',
      'session.spec.image',
      'session.spec.mounts[0].source',
      'session.spec.mounts[0].target',
      'session.spec.network.internal',
      'session.spec.network.name',
      'session.spec.owner',
      'session.spec.ports[1].name',
      'session.spec.ports[1].number',
      'session.spec.resources.cpus',
      'session.spec.stop_signal',
      'session.spec.vnc.width',
      'session.spec.volumes[0].name',
      'session.spec.volumes[1].target',
      'session.spec.working_dir',
      'session.target',
    ]);
    const nothing = await failure(fleet.sessions.submitSession({}));
    assert.deepEqual(fields(nothing), ['session']);
    assert.equal((await failure(get('none'))).code, Code.NotFound);
    assert.equal((await failure(get('NONE'))).code, Code.InvalidArgument);
  });

  it('places where there is most room, and refuses with the numbers where there is none', async () => {
    const limits = { max_sessions: 2, max_cpus: 4, max_memory_bytes: 8 * 1024 ** 3 };
    const small = await connect('a', limits, { pool: 'x' });
    await connect('b', { ...limits, max_cpus: 16 }, { pool: 'x' });
    const big = { image: 'desktop:1', resources: { cpus: 3 } };
    const first = await submit('one', { target: anyOf({ pool: 'x' }), spec: big });
    assert.equal(first.agentId, 'b');
    await running(small, 'two', { spec: big });
    const full = await failure(submit('three', { spec: big }));
    assert.equal(full.code, Code.ResourceExhausted);
    assert.match(full.message, /3 of 4 cpus are taken, 3 asked for/);
    const memory = { image: 'desktop:1', resources: { cpus: 0.5, memoryBytes: 9n * 1024n ** 3n } };
    assert.match((await failure(submit('three', { spec: memory }))).message, /1GiB of 8GiB memory/);
    const nowhere = await failure(submit('three', { target: anyOf({ pool: 'y' }), spec: big }));
    assert.equal(nowhere.code, Code.NotFound);
    report(small, [statusOf('two', 6, { state: SessionState.HIBERNATED })]);
    await until('it sleeps', async () => (await get('two')).status?.state === SessionState.HIBERNATED);
    assert.equal((await submit('three', { spec: big })).agentId, 'a');
    await fleet.agent('plain').connect();
    const without = await failure(submit('four', { target: on('plain') }));
    assert.equal(without.code, Code.Unimplemented);
  });

  it('hibernates, wakes and stops, one action at a time', async () => {
    const control = await connect('a');
    await running(control, 'desk');
    const asked = await fleet.sessions.hibernateSession({ sessionId: 'desk', tier: HibernationTier.PAUSE });
    assert.equal(asked.session?.operation?.state, SessionOperationState.PENDING);
    const same = await fleet.sessions.hibernateSession({ sessionId: 'desk', tier: HibernationTier.PAUSE });
    assert.equal(same.session?.operation?.id, asked.session?.operation?.id);
    const busy = await failure(fleet.sessions.wakeSession({ sessionId: 'desk' }));
    assert.equal(busy.code, Code.Aborted);
    assert.match(busy.message, /desk is running and a hibernate is under way/);

    const pause = await control.next('command');
    const action = actionOf(pause);
    assert.equal(action.case === 'hibernate' && action.value.tier, HibernationTier.PAUSE);
    control.receive(pause);
    finish(control, pause, { status: statusOf('desk', 6, { state: SessionState.PAUSED }) });
    await until('it is paused', async () => (await get('desk')).status?.state === SessionState.PAUSED);

    const waking = fleet.sessions.wakeSession({ sessionId: 'desk', wait: durationFromMs(10_000) });
    const wake = await control.next('command');
    finish(control, wake, { status: statusOf('desk', 7), unchanged: true });
    const { session: woken } = await waking;
    assert.equal(woken?.status?.state, SessionState.RUNNING);
    assert.equal(woken.operation?.unchanged, true);
    assert.equal(woken.operation.verb, SessionVerb.WAKE);

    await fleet.sessions.hibernateSession({ sessionId: 'desk' });
    const unfinished = await control.next('command');
    control.receive(unfinished);
    const stopping = fleet.sessions.stopSession({
      sessionId: 'desk',
      reason: 'done',
      removeVolumes: true,
      wait: durationFromMs(10_000),
    });
    const cancel = await control.next('cancel');
    assert.equal(cancel.commandId, unfinished.id);
    const stop = await control.next('command');
    const stopped = actionOf(stop);
    assert.equal(stopped.case === 'stop' && stopped.value.removeVolumes, true);
    finish(control, unfinished, {}, Outcome.CANCELLED);
    const ended = { state: SessionState.ENDED, cause: SessionCause.REQUESTED };
    finish(control, stop, { status: statusOf('desk', 8, ended) });
    assert.equal((await stopping).session?.status?.state, SessionState.ENDED);
    assert.equal((await failure(fleet.sessions.wakeSession({ sessionId: 'desk' }))).code, Code.FailedPrecondition);
    const over = await fleet.sessions.stopSession({ sessionId: 'desk' });
    assert.equal(over.session?.operation?.id, stop.id);

    const next = await submit('desk', { spec: { image: 'desktop:2' } });
    assert.equal(next.generation, 2n);
    assert.equal(next.status?.state, SessionState.PENDING);
  });

  it('shows why a start came to nothing: refused, failed, never delivered', async () => {
    const control = await connect('a');
    await submit('refused');
    const refused = await control.next('command');
    control.send({
      case: 'rejected',
      value: { commandId: refused.id, seq: refused.seq, error: { reason: ErrorReason.POLICY, message: 'forbidden' } },
    });
    await until('it is refused', async () => (await get('refused')).status?.state === SessionState.FAILED);
    const seen = await get('refused');
    assert.equal(seen.status?.cause, SessionCause.REJECTED);
    assert.equal(seen.operation?.state, SessionOperationState.REJECTED);
    assert.equal(seen.operation.error?.message, 'forbidden');

    await submit('failed');
    const failed = await control.next('command');
    const error = { reason: ErrorReason.NOT_FOUND, message: 'no such image' };
    const status = statusOf('failed', 3, {
      state: SessionState.FAILED,
      cause: SessionCause.IMAGE_UNAVAILABLE,
      error,
    });
    finish(control, failed, { status, error }, Outcome.FAILED);
    await until('it failed', async () => (await get('failed')).status?.state === SessionState.FAILED);
    assert.equal((await get('failed')).status?.cause, SessionCause.IMAGE_UNAVAILABLE);
    assert.equal((await submit('failed')).generation, 2n);

    await submit('unsupported');
    for (let index = 0; index < 2; index++) {
      const command = await control.next('command');
      const { id: commandId, seq } = command;
      const nothing = { reason: ErrorReason.UNAVAILABLE, message: 'no engine' };
      control.send({ case: 'result', value: { commandId, seq, outcome: Outcome.FAILED, error: nothing } });
    }
    await until('it failed', async () => (await get('unsupported')).status?.state === SessionState.FAILED);
    assert.equal((await get('unsupported')).status?.reason, 'no engine');

    // Sent it could not expire so soon: the agent might have it.
    control.close();
    const state = async () => (await fleet.agents.getAgent({ agentId: 'a' })).agent?.state;
    await until('its agent is away', async () => (await state()) === AgentState.OFFLINE);
    await submit('late', { ttl: durationFromMs(1) });
    await until('it expired', async () => (await get('late')).status?.state === SessionState.FAILED);
  });

  it('believes what agents report, tells since when it knows nothing, and needs no repetition', async () => {
    const digest = Buffer.alloc(16, 7);
    const agent = fleet.agent('a');
    const control = await agent.connect({ facts: sessionsFacts() });
    await running(control, 'desk');
    await running(control, 'gone');
    report(control, [statusOf('desk', 9, { state: SessionState.UNHEALTHY })], true, digest);
    await until('one is lost', async () => (await get('gone')).status?.cause === SessionCause.LOST);
    assert.equal((await get('desk')).status?.state, SessionState.UNHEALTHY);
    assert.equal((await get('desk')).unknownSince, undefined);
    control.close();
    await until('it is away', async () => (await get('desk')).unknownSince !== undefined);
    assert.equal((await get('gone')).unknownSince, undefined);
    assert.equal((await get('desk')).status?.state, SessionState.UNHEALTHY);
    const again = agent.dial();
    const desiredStates = [{ kind: DesiredStateKind.SESSIONS, digest }];
    again.hello(agent, { facts: sessionsFacts(), desiredStates });
    assert.equal((await again.next('welcome')).knownStates.length, 1);
    again.close();
    const changed = agent.dial();
    const others = [{ kind: DesiredStateKind.SESSIONS, digest: Buffer.alloc(16, 8) }];
    changed.hello(agent, { facts: sessionsFacts(), desiredStates: others });
    assert.equal((await changed.next('welcome')).knownStates.length, 0);
    report(changed, [statusOf('desk', 8), statusOf('found', 2, { image: 'x:1' })], true);
    await until('the unknown one is taken in', async () =>
      (await fleet.sessions.listSessions({})).sessions.some((session) => session.id === 'found'),
    );
    assert.equal((await get('desk')).status?.state, SessionState.UNHEALTHY);
  });

  it('lists with filters and pages, and watches what changes', async () => {
    const control = await connect('a');
    await running(control, 'one', { spec: { image: 'x:1', labels: { team: 'x' }, owner: 'bob' } });
    await running(control, 'two');
    const ids = async (filter: object) =>
      (await fleet.sessions.listSessions({ filter })).sessions.map((session) => session.id);
    assert.deepEqual(await ids({}), ['two', 'one']);
    assert.deepEqual(await ids({ matchLabels: { team: 'x' } }), ['one']);
    assert.deepEqual(await ids({ owner: 'bob' }), ['one']);
    const page = await fleet.sessions.listSessions({ pageSize: 1 });
    assert.deepEqual(
      (await fleet.sessions.listSessions({ pageToken: page.nextPageToken })).sessions.map((session) => session.id),
      ['one'],
    );
    assert.equal((await failure(fleet.sessions.listSessions({ pageSize: -1 }))).code, Code.InvalidArgument);

    const changes: WatchSessionsResponse['change'][] = [];
    const leaving = new AbortController();
    const watching = (async () => {
      const watch = fleet.sessions.watchSessions({ filter: { live: true } }, { signal: leaving.signal });
      for await (const { change } of watch) changes.push(change);
    })().catch(() => undefined);
    await until('the listing is told', () => changes.some((change) => change.case === 'synced'));
    assert.deepEqual(
      changes.flatMap((change) => (change.case === 'session' ? [change.value.id] : [])),
      ['two', 'one'],
    );
    report(control, [statusOf('one', 9, { state: SessionState.PAUSED })]);
    await until('the change is told', () =>
      changes.some((change) => change.case === 'session' && change.value.status?.state === SessionState.PAUSED),
    );
    const awayTold = () =>
      changes.filter((change) => change.case === 'session' && change.value.unknownSince !== undefined).length;
    control.close();
    await until('that its agent is away is told of both', () => awayTold() === 2);
    const back = await connect('a');
    const toldSoFar = changes.length;
    await until(
      'that it is back is told of both',
      () =>
        changes.length >= toldSoFar + 2 ||
        changes.slice(-2).every((change) => change.case === 'session' && change.value.unknownSince === undefined),
    );
    report(back, [statusOf('one', 10, { state: SessionState.ENDED })]);
    await until('the end is told', () => changes.some((change) => change.case === 'removedSessionId'));
    leaving.abort();
    await watching;
  });

  it('keeps versions of templates and fills them in', async () => {
    const control = await connect('a');
    const spec = {
      image: 'desktop:1',
      env: { A: '1', B: '2' },
      resources: { cpus: 2, memoryBytes: 1000n },
      command: ['run'],
      vnc: { password: 'secret' },
      stopGrace: durationFromMs(1500),
    };
    const put = await fleet.sessions.putTemplate({ name: 'desktop', spec, description: 'A desktop.' });
    assert.equal(put.template?.version, 1);
    assert.equal(put.template.spec?.vnc?.password, '');
    assert.equal(
      (await fleet.sessions.putTemplate({ name: 'desktop', spec, description: 'A desktop.' })).changed,
      false,
    );
    const second = { name: 'desktop', spec: { ...spec, image: 'desktop:2' }, baseVersion: 1 };
    assert.equal((await fleet.sessions.putTemplate(second)).template?.version, 2);
    const stale = { name: 'desktop', spec: { ...spec, image: 'desktop:3' }, baseVersion: 1 };
    assert.equal((await failure(fleet.sessions.putTemplate(stale))).code, Code.Aborted);

    const started = await submit('desk', {
      template: 'desktop:1',
      spec: {
        env: { B: '3', C: '4' },
        resources: { cpus: 4 },
        command: ['other', 'one'],
        stopGrace: durationFromMs(2000),
      },
    });
    assert.equal(started.template, 'desktop');
    assert.equal(started.templateVersion, 1);
    const action = actionOf(await control.next('command'));
    const filled = action.case === 'start' ? action.value.spec : undefined;
    assert.equal(filled?.image, 'desktop:1');
    assert.deepEqual(filled.env, { A: '1', B: '3', C: '4' });
    assert.equal(filled.resources?.cpus, 4);
    assert.equal(filled.resources?.memoryBytes, 1000n);
    assert.deepEqual(filled.command, ['other', 'one']);
    assert.deepEqual(filled.stopGrace, durationFromMs(2000));
    assert.equal(filled.vnc?.password, 'secret');
    assert.equal((await submit('latest', { template: 'desktop', spec: undefined })).spec?.image, 'desktop:2');
    const wrong = await failure(submit('bad', { template: 'desktop', spec: { workingDir: 'x' } }));
    assert.deepEqual(fields(wrong), ['session.spec.working_dir']);
    assert.equal((await failure(submit('bad', { template: 'desktop:9', spec: undefined }))).code, Code.NotFound);

    assert.equal((await fleet.sessions.listTemplates({})).templates[0]?.version, 2);
    assert.equal((await fleet.sessions.listTemplates({ name: 'desktop' })).templates.length, 2);
    assert.equal(
      (await fleet.sessions.getTemplate({ name: 'desktop', version: 1 })).template?.spec?.image,
      'desktop:1',
    );
    await fleet.sessions.deleteTemplate({ name: 'desktop' });
    assert.equal((await failure(fleet.sessions.getTemplate({ name: 'desktop' }))).code, Code.NotFound);
    assert.equal((await get('desk')).spec?.image, 'desktop:1');
  });

  it('sends a statement that was signed elsewhere as it is', async () => {
    const control = await connect('a');
    const start = { sessionId: 'desk', spec: { image: 'x:1' }, specHash: new Uint8Array(16), generation: 1n };
    const sign = (action: object, agentIds: string[] = ['a']) => ({
      payloadType: 'application/vnd.longline.statement.v1+protobuf',
      payload: toBinary(
        StatementSchema,
        create(StatementSchema, {
          nonce: new Uint8Array(16),
          audience: { agentIds },
          expireTime: timestampFromMs(Date.now() + 60_000),
          action: { action: { case: 'session', value: { action } } } as never,
        }),
      ),
      signatures: [{ keyId: 'k', value: new Uint8Array(64) }],
    });
    const signed = sign({ case: 'start', value: start });
    const session = (await fleet.sessions.submitSession({ session: { target: on('a'), signed } })).session!;
    assert.equal(session.id, 'desk');
    const command = await control.next('command');
    assert.deepEqual([...(command.statement?.payload ?? [])], [...signed.payload]);
    finish(control, command, { status: statusOf('desk', 3) });
    await until('it runs', async () => (await get('desk')).status?.state === SessionState.RUNNING);
    const stop = sign({ case: 'stop', value: { sessionId: 'desk' } });
    const wrong = await failure(fleet.sessions.wakeSession({ sessionId: 'desk', signed: stop }));
    assert.deepEqual(fields(wrong), ['signed.payload.action']);
    const elsewhere = sign({ case: 'stop', value: { sessionId: 'desk' } }, ['b']);
    const uncovered = await failure(fleet.sessions.stopSession({ sessionId: 'desk', signed: elsewhere }));
    assert.deepEqual(fields(uncovered), ['signed.payload.audience']);
    await fleet.sessions.stopSession({ sessionId: 'desk', signed: stop });
    assert.deepEqual([...((await control.next('command')).statement?.payload ?? [])], [...stop.payload]);
    const stale = sign({ case: 'start', value: { ...start, sessionId: 'other', generation: 3n } });
    const error = await failure(fleet.sessions.submitSession({ session: { target: on('a'), signed: stale } }));
    assert.deepEqual(fields(error), ['session.signed.payload.action.session.start.generation']);
    assert.equal(fromBinary(StatementSchema, stale.payload).nonce.length, 16);
  });

  it('keeps recent figures, by the agent that holds the session', async () => {
    const control = await connect('a');
    await running(control, 'desk');
    const now = Date.now();
    const sample = (at: number, pids: number) => ({ sessionId: 'desk', time: timestampFromMs(at), pids });
    fleet.agent('a').telemetry({ sessions: [sample(now - 20_000, 1), sample(now - 9000, 2), sample(now, 3)] });
    fleet.agent('b').telemetry({ sessions: [sample(now + 1, 9)] });
    const samples = await until('they came', async () => {
      const usage = await fleet.sessions.getSessionUsage({ sessionId: 'desk' });
      return usage.samples.length === 3 && usage.samples;
    });
    assert.deepEqual(
      samples.map(({ pids }) => pids),
      [1, 2, 3],
    );
    const later = await fleet.sessions.getSessionUsage({ sessionId: 'desk', since: timestampFromMs(now - 10_000) });
    assert.equal(later.samples.length, 2);
    const top = await fleet.sessions.listSessionUsage({ filter: { live: true } });
    assert.equal(top.sessions[0]?.sample?.pids, 3);
    assert.equal(top.sessions[0].agentId, 'a');
  });

  it('follows the output of one start after the other, until the session ends', async () => {
    const agent = fleet.agent('a');
    const control = await agent.connect({ facts: sessionsFacts() });
    await running(control, 'desk');
    const logs = agent.logs();
    const write = async (handle: number, attempt: number, text: string) => {
      logs.send({ case: 'open', value: { handle, logId: 'desk.1', attempt, kind: 'session' } });
      await logs.next('resume');
      logs.send({ case: 'batch', value: { handle, chunks: [chunk('stdout', 0, text)] } });
      await logs.next('ack');
    };
    const close = async (handle: number, text: string) => {
      logs.send({ case: 'end', value: { handle, close: closeOf({ stdout: Buffer.from(text) }) } });
      await logs.next('endAck');
    };
    const told: string[] = [];
    const following = (async () => {
      for await (const { attempt, part } of fleet.sessions.tailSessionLogs({ sessionId: 'desk', follow: true })) {
        told.push(part.case === 'chunk' ? `${attempt} ${Buffer.from(part.value.data)}` : `${attempt} ${part.case}`);
      }
    })();
    await write(1, 1, 'one');
    await until('the first start is told', () => told.includes('1 one'));
    await close(1, 'one');
    await write(2, 2, 'two');
    await until('the next start is told', () => told.includes('2 two'));
    report(control, [statusOf('desk', 9, { state: SessionState.ENDED })]);
    await close(2, 'two');
    await following;
    assert.deepEqual(told, ['1 one', '1 close', '2 two', '2 close']);
    const stored: string[] = [];
    for await (const { part } of fleet.sessions.tailSessionLogs({ sessionId: 'desk', attempt: 1 })) {
      if (part.case === 'chunk') stored.push(Buffer.from(part.value.data).toString());
    }
    assert.deepEqual(stored, ['one']);
    logs.send({ case: 'open', value: { handle: 9, logId: 'other.1', attempt: 1, kind: 'session' } });
    assert.equal((await logs.next('resume')).closed, true);
  });
});
