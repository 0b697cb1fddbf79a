// What every implementation of the store has to do for sessions and templates.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { JobState } from '#gen/longline/v1/job_pb.js';
import {
  SessionCause,
  SessionResultSchema,
  SessionState,
  SessionStatusSchema,
  SessionVerb,
} from '#gen/longline/v1/session_pb.js';
import type { SessionAct, SessionCommand, SessionStart } from '../../../src/controller/store/session.ts';
import { newId } from '../../../src/core/ids.ts';
import type { StoreUnderTest } from './store-contract.ts';

const NOW = Date.UTC(2030, 0, 1);
const ALL = { matchLabels: {}, hasLabels: [], agentIds: [] };
const FIRST = { pageSize: 100, pageToken: '' };
const EVERY = { agentId: '', states: [], matchLabels: {}, owner: '', template: '', sessionIds: [], live: false };
const bytes = (text: string) => new TextEncoder().encode(text);

function command(verb: SessionVerb, patch: Partial<SessionCommand> = {}): SessionCommand {
  return {
    id: newId(),
    verb,
    statement: bytes('statement'),
    createdAtMs: NOW,
    expiresAtMs: NOW + 60_000,
    creator: 'alice',
    requestId: '',
    contentHash: bytes('content'),
    traceparent: '',
    tracestate: '',
    ...patch,
  };
}

function start(id: string, agentId = 'a', patch: Partial<SessionStart['session']> = {}): SessionStart {
  return {
    session: {
      id,
      generation: 1,
      agentId,
      spec: bytes('spec'),
      specHash: bytes('hash'),
      template: '',
      templateVersion: 0,
      owner: '',
      labels: {},
      ...patch,
    },
    command: command(SessionVerb.START),
    cpus: 2,
    memoryBytes: 1000,
  };
}

function act(sessionId: string, verb: SessionVerb, patch: Partial<SessionAct> = {}): SessionAct {
  return { sessionId, generation: 1, command: command(verb), afterEnd: false, ...patch };
}

function status(sessionId: string, revision: number, init: MessageInitShape<typeof SessionStatusSchema> = {}) {
  return create(SessionStatusSchema, {
    sessionId,
    generation: 1n,
    revision: BigInt(revision),
    state: SessionState.RUNNING,
    ...init,
  });
}

/** Declares the contract's tests for one implementation. */
export function sessionStoreContract(name: string, factory: () => Promise<StoreUnderTest>): void {
  describe(`${name}: sessions`, () => {
    let current: StoreUnderTest;
    const store = () => current.store;
    const get = async (id: string) => (await store().sessions.get(id))!;
    const statusOf = async (id: string) => fromBinary(SessionStatusSchema, (await get(id)).status ?? new Uint8Array());
    const report = async (statuses: readonly ReturnType<typeof status>[], full = false, agentId = 'a') =>
      await store().sessions.report({ agentId, statuses, full, nowMs: NOW + 5 });
    const claim = async () => await store().commands.claim({ agentId: 'a', afterSeq: 0, limit: 100, nowMs: NOW });
    const end = async (
      commandId: string,
      jobState: JobState,
      result: MessageInitShape<typeof SessionResultSchema> = {},
    ) =>
      await store().commands.result({
        commandId,
        agentId: 'a',
        rejected: jobState === JobState.REJECTED,
        jobState,
        result: bytes('not of a session'),
        programResult: new Uint8Array(),
        sessionResult: toBinary(SessionResultSchema, create(SessionResultSchema, result)),
        nowMs: NOW + 9,
      });
    const started = async (id: string, agentId = 'a', patch: Partial<SessionStart['session']> = {}) => {
      const made = start(id, agentId, patch);
      assert.equal((await store().sessions.start(made)).kind, 'stored');
      return made.command.id;
    };
    const running = async (id: string, agentId = 'a') => {
      const commandId = await started(id, agentId);
      await claim();
      await end(commandId, JobState.SUCCEEDED, { status: status(id, 3) });
    };

    beforeEach(async () => {
      current = await factory();
      for (const agentId of ['a', 'b']) {
        await store().agents.connect({
          agentId,
          connectionId: newId(),
          replicaId: 'r',
          instanceId: 'i',
          bootId: 'b',
          leaderEpoch: 0n,
          presentedToken: new Uint8Array(),
          sessionToken: bytes('t'),
          nowMs: NOW,
          aliveSinceMs: NOW - 1000,
        });
      }
    });
    afterEach(async () => await current.close());

    it('stores a start with its command, and its result with what it says of the session', async () => {
      const id = await started('desk');
      assert.equal((await get('desk')).state, SessionState.PENDING);
      const [claimed] = await claim();
      assert.equal(claimed?.id, id);
      const change = await store().commands.received(id, 'a', NOW);
      assert.equal(change?.sessionId, 'desk');
      await store().commands.progress({
        commandId: id,
        agentId: 'a',
        number: 1,
        progress: bytes('p'),
        jobState: undefined,
      });
      await end(id, JobState.SUCCEEDED, { status: status('desk', 4) });
      const session = await get('desk');
      assert.equal(session.state, SessionState.RUNNING);
      assert.equal(session.operationId, id);
      const stored = await store().commands.get(id);
      assert.equal(stored?.verb, SessionVerb.START);
      assert.equal(stored.jobState, JobState.SUCCEEDED);
      assert.equal(fromBinary(SessionResultSchema, stored.result!).status?.revision, 4n);
      current = await current.reopen();
      assert.equal((await get('desk')).state, SessionState.RUNNING);
    });

    it('gives an id that lives, a request that was made, and an agent that takes nothing', async () => {
      await started('desk');
      const again = await store().sessions.start(start('desk'));
      assert.equal(again.kind === 'alive' && again.session.generation, 1);
      const keyed = start('other');
      const withKey = { ...keyed, command: { ...keyed.command, requestId: 'key' } };
      assert.equal((await store().sessions.start(withKey)).kind, 'stored');
      assert.deepEqual(await store().sessions.start({ ...withKey, command: { ...withKey.command, id: newId() } }), {
        kind: 'repeated',
        sessionId: 'other',
        sameContent: true,
      });
      const changed = { ...withKey.command, id: newId(), contentHash: bytes('else') };
      const repeated = await store().sessions.start({ ...withKey, command: changed });
      assert.equal(repeated.kind === 'repeated' && repeated.sameContent, false);
      const nowhere = await store().sessions.start(start('third', 'nowhere'));
      assert.equal(nowhere.kind === 'refused' && nowhere.why, 'missing');
      await store().agents.setDrain('b', 'drained');
      const drained = await store().sessions.start(start('third', 'b'));
      assert.equal(drained.kind === 'refused' && drained.why, 'drained');
      assert.equal(await store().sessions.get('third'), undefined);
      assert.equal((await store().sessions.findRequest('key'))?.sessionId, 'other');
      await store().sessions.forgetRequests(NOW + 1);
      assert.equal(await store().sessions.findRequest('key'), undefined);
    });

    it('begins a new life only after the one before, with the next generation', async () => {
      await running('desk');
      assert.equal((await store().sessions.start(start('desk', 'a', { generation: 2 }))).kind, 'alive');
      await report([status('desk', 7, { state: SessionState.ENDED })]);
      assert.equal((await store().sessions.start(start('desk'))).kind, 'moved');
      await started('desk', 'b', { generation: 2 });
      assert.equal((await get('desk')).state, SessionState.PENDING);
      assert.equal((await get('desk')).agentId, 'b');
      // Late words of the life before, or of the agent that had it, say nothing of the new one.
      await report([status('desk', 9)], true);
      assert.equal((await get('desk')).state, SessionState.PENDING);
      await report([status('desk', 1, { generation: 2n })], false, 'b');
      assert.equal((await get('desk')).state, SessionState.RUNNING);
    });

    it('takes one action at a time, the same one once, and lets a stop go before', async () => {
      await running('desk');
      const hibernate = act('desk', SessionVerb.HIBERNATE);
      assert.equal((await store().sessions.act(hibernate)).kind, 'stored');
      assert.equal((await store().sessions.act(act('desk', SessionVerb.HIBERNATE))).kind, 'unchanged');
      const other = act('desk', SessionVerb.HIBERNATE);
      const deeper = { ...other, command: { ...other.command, contentHash: bytes('deeper') } };
      const busy = await store().sessions.act(deeper);
      assert.equal(busy.kind === 'busy' && busy.verb, SessionVerb.HIBERNATE);
      assert.equal((await store().sessions.act(act('desk', SessionVerb.WAKE))).kind, 'busy');
      assert.equal((await store().sessions.act(act('desk', SessionVerb.STOP, { generation: 2 }))).kind, 'moved');
      assert.equal((await store().sessions.act(act('none', SessionVerb.STOP))).kind, 'moved');

      await claim();
      const stop = act('desk', SessionVerb.STOP);
      assert.equal((await store().sessions.act(stop)).kind, 'stored');
      assert.equal((await get('desk')).operationId, stop.command.id);
      assert.deepEqual(
        (await store().commands.pendingCancels('a')).map((cancel) => cancel.commandId),
        [hibernate.command.id],
      );
      await end(hibernate.command.id, JobState.CANCELLED, { status: status('desk', 4) });
      await end(stop.command.id, JobState.SUCCEEDED, { status: status('desk', 5, { state: SessionState.ENDED }) });
      assert.equal((await get('desk')).state, SessionState.ENDED);
      assert.equal((await store().sessions.act(act('desk', SessionVerb.STOP))).kind, 'unchanged');
      assert.equal((await store().sessions.act(act('desk', SessionVerb.STOP, { afterEnd: true }))).kind, 'stored');
      assert.equal((await store().sessions.start(start('desk', 'a', { generation: 2 }))).kind, 'busy');
      const woken = await store().sessions.act(act('desk', SessionVerb.WAKE));
      assert.equal(woken.kind, 'busy');
    });

    it('ends a session whose start was never sent when it is stopped, or expires', async () => {
      const first = await started('desk');
      assert.equal((await store().sessions.act(act('desk', SessionVerb.STOP))).kind, 'unchanged');
      assert.equal((await get('desk')).state, SessionState.FAILED);
      assert.equal((await statusOf('desk')).cause, SessionCause.CANCELLED);
      assert.equal((await store().commands.get(first))?.jobState, JobState.CANCELLED);
      await started('late');
      const changes = await store().commands.expire(NOW + 61_000, 0, 10);
      assert.deepEqual(
        changes.map((change) => change.sessionId),
        ['late'],
      );
      assert.equal((await statusOf('late')).cause, SessionCause.REJECTED);
      assert.match((await statusOf('late')).reason, /expired/);
    });

    it('keeps the words of an agent before what was concluded without it', async () => {
      const id = await started('desk');
      await end(id, JobState.REJECTED, { error: { reason: ErrorReason.POLICY, message: 'forbidden' } });
      const refused = await statusOf('desk');
      assert.equal(refused.state, SessionState.FAILED);
      assert.equal(refused.error?.reason, ErrorReason.POLICY);
      assert.deepEqual(await report([status('desk', 1)]), ['desk']);
      assert.equal((await get('desk')).state, SessionState.RUNNING);
      assert.deepEqual(await report([status('desk', 1, { state: SessionState.FAILED })]), []);
      assert.deepEqual(await report([status('desk', 2)], false, 'b'), []);
      assert.equal((await get('desk')).state, SessionState.RUNNING);
    });

    it('loses with a full report what is missing from it, unless its start is under way', async () => {
      await running('kept');
      await running('gone');
      await started('coming');
      await running('elsewhere', 'b');
      assert.deepEqual(await report([status('kept', 3)], true), ['gone']);
      assert.equal((await statusOf('gone')).cause, SessionCause.LOST);
      assert.equal((await get('coming')).state, SessionState.PENDING);
      assert.equal((await get('kept')).state, SessionState.RUNNING);
      assert.deepEqual(await report([status('gone', 4)]), ['gone']);
      assert.equal((await get('gone')).state, SessionState.RUNNING);
    });

    it('takes in live sessions that it does not know', async () => {
      const said = [status('old', 8, { image: 'desktop:1' }), status('over', 2, { state: SessionState.ENDED })];
      assert.deepEqual(await report(said, true), ['old']);
      assert.equal((await get('old')).agentId, 'a');
      assert.equal((await statusOf('old')).image, 'desktop:1');
      assert.equal((await store().sessions.act(act('old', SessionVerb.STOP))).kind, 'stored');
    });

    it('counts what sessions take up by their state', async () => {
      await store().agents.putFacts({
        agentId: 'a',
        facts: bytes('f'),
        digest: bytes('d'),
        labels: {},
        offersJobs: false,
        maxJobs: 0,
        offersSessions: true,
        sessions: { maxSessions: 4, maxCpus: 8, maxMemoryBytes: 9000 },
      });
      for (const id of ['runs', 'pauses', 'sleeps', 'ends']) await running(id);
      await report([
        status('pauses', 9, { state: SessionState.PAUSED }),
        status('sleeps', 9, { state: SessionState.HIBERNATED }),
        status('ends', 9, { state: SessionState.ENDED }),
      ]);
      const [candidate] = await store().sessions.candidates({ ...ALL, agentIds: ['a'] });
      assert.deepEqual(candidate?.held, { sessions: 2, cpus: 2, memoryBytes: 2000 });
      assert.deepEqual(candidate.max, { sessions: 4, cpus: 8, memoryBytes: 9000 });
      assert.equal(candidate.offersSessions, true);
      const [sighted] = [(await store().agents.get('a'))!];
      const load = { runningJobs: 0, queuedJobs: 0, maxJobs: 0 };
      const room = { maxSessions: 5, maxCpus: 9, maxMemoryBytes: 1 };
      await store().agents.sight([
        {
          agentId: 'a',
          connectionId: sighted.connectionId,
          seenAtMs: NOW,
          roundTripMs: undefined,
          usage: { bytes: bytes('u'), load: { ...load, sessions: room } },
        },
      ]);
      const [updated] = await store().sessions.candidates({ ...ALL, agentIds: ['a'] });
      assert.deepEqual(updated?.max, { sessions: 5, cpus: 9, memoryBytes: 1 });
    });

    it('filters and pages, newest first', async () => {
      await started('one', 'a', { labels: { team: 'x' }, owner: 'alice' });
      await started('two', 'b', { template: 'desk', templateVersion: 2 });
      await started('three', 'a', { labels: { team: 'y' } });
      await report([status('three', 1, { state: SessionState.ENDED })]);
      const ids = async (patch: Partial<Parameters<typeof list>[0]>) =>
        (await list({ ...EVERY, ...FIRST, ...patch })).items.map((session) => session.id);
      const list = store().sessions.list.bind(store().sessions);
      assert.deepEqual(await ids({}), ['three', 'two', 'one']);
      assert.deepEqual(await ids({ live: true }), ['two', 'one']);
      assert.deepEqual(await ids({ agentId: 'a' }), ['three', 'one']);
      assert.deepEqual(await ids({ owner: 'alice' }), ['one']);
      assert.deepEqual(await ids({ template: 'desk' }), ['two']);
      assert.deepEqual(await ids({ matchLabels: { team: 'y' } }), ['three']);
      assert.deepEqual(await ids({ states: [SessionState.ENDED] }), ['three']);
      assert.deepEqual(await ids({ sessionIds: ['one', 'none'] }), ['one']);
      const first = await list({ ...EVERY, pageSize: 2, pageToken: '' });
      assert.deepEqual(await ids({ pageToken: first.nextPageToken }), ['one']);
    });

    it('fails the sessions of an agent that is deleted, and forgets ended ones in time', async () => {
      await running('desk');
      const waiting = await started('waits');
      const agent = (await store().agents.get('a'))!;
      await store().agents.disconnect('a', agent.connectionId, NOW);
      const outcome = await store().agents.delete('a', NOW);
      assert.equal(outcome.kind, 'deleted');
      assert.deepEqual(outcome.kind === 'deleted' && outcome.jobIds, []);
      assert.deepEqual(outcome.kind === 'deleted' && outcome.sessionIds, ['desk']);
      assert.equal((await statusOf('desk')).cause, SessionCause.LOST);
      assert.equal((await statusOf('waits')).cause, SessionCause.CANCELLED);
      assert.deepEqual(await store().sessions.deleteEnded(NOW - 1, 10), []);
      const forgotten = await store().sessions.deleteEnded(NOW + 1000, 10);
      assert.deepEqual(forgotten.map(({ id }) => id).sort(), ['desk', 'waits']);
      assert.equal(await store().commands.get(waiting), undefined);
    });

    it('dooms the logs of every life of a session that is forgotten, but not more than it can have had', async () => {
      await running('desk');
      await report([status('desk', 1, { generation: 3n, state: SessionState.ENDED })]);
      await store().sessions.deleteEnded(NOW + 1000, 10);
      assert.deepEqual((await store().jobs.doomedLogs(100)).toSorted(), ['desk.1', 'desk.2', 'desk.3']);
      await store().jobs.logsGone(['desk.1', 'desk.2', 'desk.3']);
      await running('liar');
      await report([status('liar', 1, { generation: 10n ** 15n, state: SessionState.ENDED })]);
      await store().sessions.deleteEnded(NOW + 1000, 10);
      assert.equal((await store().jobs.doomedLogs(5000)).length, 1000);
    });

    it('keeps the statement of a command no longer than it may be sent, and few ended commands', async () => {
      await running('desk');
      let verb = SessionVerb.HIBERNATE;
      const ids: string[] = [];
      for (let round = 0; round < 20; round++) {
        const next = act('desk', verb);
        assert.equal((await store().sessions.act(next)).kind, 'stored');
        const [claimed] = await claim();
        assert.deepEqual(claimed?.statement, bytes('statement'));
        await end(next.command.id, JobState.SUCCEEDED);
        ids.push(next.command.id);
        verb = verb === SessionVerb.WAKE ? SessionVerb.HIBERNATE : SessionVerb.WAKE;
      }
      assert.equal(await store().commands.get(ids[0]!), undefined);
      assert.notEqual(await store().commands.get(ids.at(-1)!), undefined);
    });

    it('counts versions of templates on, also after they were deleted', async () => {
      const put = async (spec: string, baseVersion?: number) =>
        await store().templates.put({
          name: 'desk',
          spec: bytes(spec),
          description: 'd',
          contentHash: bytes(spec),
          baseVersion,
          createdAtMs: NOW,
          creator: 'alice',
        });
      const first = await put('one', 0);
      assert.equal(first.kind === 'stored' && first.template.version, 1);
      const same = await put('one');
      assert.equal(same.kind === 'unchanged' && same.template.version, 1);
      assert.deepEqual(await put('two', 0), { kind: 'conflict', latest: 1 });
      assert.equal((await put('two', 1)).kind, 'stored');
      assert.deepEqual((await store().templates.get('desk', 1))?.spec, bytes('one'));
      assert.equal((await store().templates.get('desk', 0))?.version, 2);
      assert.equal(await store().templates.get('desk', 3), undefined);
      const versions = await store().templates.versions('desk', { pageSize: 1, pageToken: '' });
      assert.equal(versions.items[0]?.version, 2);
      const rest = await store().templates.versions('desk', { pageSize: 9, pageToken: versions.nextPageToken });
      assert.deepEqual(
        rest.items.map((template) => template.version),
        [1],
      );
      assert.equal((await store().templates.list(FIRST)).items.length, 1);
      assert.equal(await store().templates.delete('desk'), true);
      assert.equal(await store().templates.delete('desk'), false);
      const third = await put('one');
      assert.equal(third.kind === 'stored' && third.template.version, 3);
    });
  });
}
