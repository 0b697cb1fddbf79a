import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import type { StateReport } from '#gen/longline/link/v1/link_pb.js';
import { AgentFactsSchema, AgentUsageSchema } from '#gen/longline/v1/agent_pb.js';
import {
  SessionState,
  type SessionStatus,
  SessionStatusSchema,
  SessionTelemetrySchema,
} from '#gen/longline/v1/session_pb.js';
import { Outbox } from '../../src/link/outbox.ts';
import { holdsSessions, SessionReports, sessionsDigest, sessionsRef } from '../../src/link/session-reports.ts';
import { AgentSide } from './agent-side.ts';
import { TestController } from './controller-double.ts';
import { scratchFolder, until } from './scratch.ts';

function status(sessionId: string, revision: number, generation = 1): SessionStatus {
  return create(SessionStatusSchema, {
    sessionId,
    generation: BigInt(generation),
    revision: BigInt(revision),
    state: SessionState.RUNNING,
  });
}

function said(report: StateReport | undefined): string[] {
  if (report?.detail.case !== 'sessions') return [];
  const { full, sessions } = report.detail.value;
  return [full ? 'full' : 'changes', ...sessions.map((one) => `${one.sessionId} ${one.generation}.${one.revision}`)];
}

function take(reports: { take(): ReturnType<SessionReports['take']> }): StateReport | undefined {
  const message = reports.take()?.message;
  return message?.case === 'stateReport' ? message.value : undefined;
}

describe('session reports', () => {
  it('keep the newest status of each session while they wait', () => {
    const reports = new SessionReports();
    const all = [status('a', 3), status('b', 1, 2)];
    const every = () => all;
    reports.put([status('a', 2)], every);
    reports.put([status('b', 9), status('a', 3)], every);
    reports.put([status('b', 1, 2), status('a', 1)], every);
    assert.deepEqual(said(take(reports)), ['changes', 'a 1.3', 'b 2.1']);
    assert.equal(take(reports), undefined);
  });

  it('put what could not be sent below what is newer', () => {
    const reports = new SessionReports();
    const every = () => [status('a', 2), status('b', 1)];
    reports.put([status('a', 1), status('b', 1)], every);
    const lost = take(reports);
    reports.put([status('a', 2)], every);
    reports.giveBack(lost!);
    assert.deepEqual(said(take(reports)), ['changes', 'a 1.2', 'b 1.1']);
  });

  it('make a full report when it is sent, and again if it was not', () => {
    const reports = new SessionReports();
    let all = [status('a', 1)];
    const every = () => all;
    reports.put([status('z', 1)], every);
    reports.putAll(every);
    all = [status('b', 1), status('a', 2)];
    reports.put([status('a', 2)], every);
    const lost = take(reports);
    assert.deepEqual(said(lost), ['full', 'a 1.2', 'b 1.1']);
    assert.equal(reports.empty, true);
    reports.giveBack(lost!);
    all = [status('a', 3)];
    assert.deepEqual(said(take(reports)), ['full', 'a 1.3']);
  });

  it('name in their digest only what the controller then holds', () => {
    const reports = new SessionReports();
    const all = Array.from({ length: 700 }, (_, index) => status(`s${String(index).padStart(4, '0')}`, 1));
    reports.put(all, () => all);
    const first = take(reports);
    const second = take(reports);
    assert.equal(first?.digest.length, 0);
    assert.deepEqual(second?.digest, sessionsDigest(all));
    assert.equal(said(first).length + said(second).length, 702);
  });

  it('turn into one full report rather than grow without bound', () => {
    const reports = new SessionReports();
    for (let index = 0; index < 2001; index++) reports.put([status(`s${index}`, 1)], () => [status('left', 1)]);
    assert.deepEqual(said(take(reports)), ['full', 'left 1.1']);
  });

  it('tell whether a controller holds them by their digest, whatever their order', () => {
    const one = [status('a', 1), status('b', 2)];
    const other = [status('b', 2), status('a', 1)];
    assert.equal(holdsSessions([sessionsRef(one)], other), true);
    assert.equal(holdsSessions([sessionsRef(one)], [status('a', 1), status('b', 3)]), false);
    assert.equal(holdsSessions([], []), false);
    assert.equal(holdsSessions([], undefined), true);
  });

  it('come after replies and before events', () => {
    const outbox = new Outbox({ maxEvents: 5 });
    outbox.putSessions([status('a', 1)], () => []);
    assert.equal(outbox.empty, false);
    const taken = outbox.take();
    assert.equal(taken?.message.case, 'stateReport');
    assert.equal(outbox.empty, true);
    outbox.giveBack(taken!);
    assert.deepEqual(said(take(outbox)), ['changes', 'a 1.1']);
  });
});

describe('the link', () => {
  it('tells all sessions at first, then what changed, and nothing that the controller holds', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    let sessions: SessionStatus[] | undefined = [status('a', 1), status('b', 4)];
    await using agent = await AgentSide.open(folder.path, () => controller.port, {
      report: {
        facts: () => create(AgentFactsSchema),
        usage: async () => create(AgentUsageSchema),
        sessions: () => sessions,
      },
    });
    const reports = () => controller.received('stateReport');
    await agent.start();
    await until('the full report came', () => reports().length === 1);
    assert.deepEqual(said(reports()[0]), ['full', 'a 1.1', 'b 1.4']);

    sessions = [status('a', 2), status('b', 4)];
    agent.link.sessionsChanged([status('a', 2)]);
    await until('the change came', () => reports().length === 2);
    assert.deepEqual(said(reports()[1]), ['changes', 'a 1.2']);
    assert.deepEqual([...(reports()[1]?.digest ?? [])], [...sessionsDigest(sessions)]);

    controller.behaviour.welcome = { knownStates: [sessionsRef(sessions)] };
    await controller.restart();
    await until('it is back', () => controller.received('hello').length === 2);
    const [ref] = controller.received('hello')[1]?.desiredStates ?? [];
    assert.deepEqual([...(ref?.digest ?? [])], [...sessionsDigest(sessions)]);
    agent.link.sessionsChanged([status('b', 5)]);
    await until('the next change came', () => reports().length === 3);
    assert.deepEqual(said(reports()[2]), ['changes', 'b 1.5']);

    sessions = undefined;
    await controller.restart();
    await until('it is back again', () => controller.received('hello').length === 3);
    assert.deepEqual(controller.received('hello')[2]?.desiredStates, []);
    sessions = [];
    agent.link.sessionsChanged();
    await until('it says that there are none', () => reports().length === 4);
    assert.deepEqual(said(reports()[3]), ['full']);
  });

  it('sends the latest figures of each session', async () => {
    await using folder = await scratchFolder();
    await using controller = await TestController.start();
    await using agent = await AgentSide.open(folder.path, () => controller.port);
    const figure = (sessionId: string, pids: number) => create(SessionTelemetrySchema, { sessionId, pids });
    agent.link.sessionTelemetry([figure('a', 1), figure('b', 1)]);
    agent.link.sessionTelemetry([figure('a', 2)]);
    await agent.start();
    await until('they came', () => controller.telemetry.length === 1);
    const [request] = controller.telemetry;
    assert.deepEqual(
      request?.sessions.map(({ sessionId, pids }) => `${sessionId} ${pids}`),
      ['b 1', 'a 2'],
    );
    assert.equal(request?.dropped, 1n);
  });
});
