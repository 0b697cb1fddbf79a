// What every implementation of the store has to do beyond identity. Call it from a *.test.ts with a factory; `reopen`
// closes the store and opens it again on the same data.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { JobResultSchema, JobState } from '#gen/longline/v1/job_pb.js';
import type { AgentConnection } from '../../../src/controller/store/agent.ts';
import type { JobSubmission } from '../../../src/controller/store/job.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { newId } from '../../../src/core/ids.ts';

/** A store under test. */
export interface StoreUnderTest {
  readonly store: Store;
  reopen(): Promise<StoreUnderTest>;
  close(): Promise<void>;
}

const NOW = Date.UTC(2030, 0, 1);
const ALL = { matchLabels: {}, hasLabels: [], agentIds: [] };
const FIRST = { pageSize: 100, pageToken: '' };
const bytes = (text: string) => new TextEncoder().encode(text);

export function connection(agentId: string, patch: Partial<AgentConnection> = {}): AgentConnection {
  return {
    agentId,
    connectionId: newId(),
    replicaId: 'r1',
    instanceId: 'i1',
    bootId: 'b1',
    leaderEpoch: 0n,
    presentedToken: new Uint8Array(),
    sessionToken: bytes('token'),
    nowMs: NOW,
    aliveSinceMs: NOW - 1000,
    ...patch,
  };
}

function submission(agentIds: readonly string[], patch: Partial<JobSubmission['job']> = {}): JobSubmission {
  return {
    job: {
      id: newId(),
      spec: bytes('spec'),
      target: bytes('target'),
      createdAtMs: NOW,
      expiresAtMs: NOW + 60_000,
      creator: 'alice',
      requestId: '',
      labels: {},
      ...patch,
    },
    requestHash: bytes('hash'),
    statements: [bytes('statement')],
    commands: agentIds.map((agentId) => ({ id: newId(), agentId, statement: 0 })),
    traceparent: '00-trace',
    tracestate: '',
  };
}

/** Declares the contract's tests for one implementation. */
export function storeContract(name: string, factory: () => Promise<StoreUnderTest>): void {
  describe(`${name}: store`, () => {
    let current: StoreUnderTest;
    const store = () => current.store;
    beforeEach(async () => {
      current = await factory();
    });
    afterEach(async () => await current.close());

    const connect = async (id: string, patch?: Partial<AgentConnection>) =>
      await store().agents.connect(connection(id, patch));
    const submit = async (agentIds: readonly string[], patch?: Partial<JobSubmission['job']>) => {
      const made = submission(agentIds, patch);
      assert.equal((await store().jobs.submit(made)).kind, 'stored');
      return { jobId: made.job.id, ids: made.commands.map((command) => command.id) };
    };
    const claim = async (agentId: string, afterSeq = 0, nowMs = NOW) =>
      await store().commands.claim({ agentId, afterSeq, limit: 100, nowMs });
    const jobState = async (jobId: string) => (await store().jobs.get(jobId))?.state;
    const state = async (id: string) => (await store().commands.get(id))?.state;
    const result = (commandId: string, agentId: string, jobStateNow: JobState) =>
      store().commands.result({
        commandId,
        agentId,
        rejected: false,
        jobState: jobStateNow,
        result: bytes('r'),
        sessionResult: new Uint8Array(),
        programResult: new Uint8Array(),
        nowMs: NOW + 9,
      });

    it('moves agents between states and keeps the newest stream', async () => {
      await store().agentIdentities.save({
        identity: {
          agentId: 'a',
          instanceId: 'i1',
          labels: { zone: 'x' },
          enrolledAtMs: NOW,
          enrollmentTokenId: '',
          publicKeyHash: undefined,
          certificates: [{ serial: '1', expiresAtMs: NOW + 5, instanceId: 'i1', tokenId: '' }],
          apiKeyHash: undefined,
          revoked: false,
          version: 1,
        },
        spendTokenId: undefined,
        nowMs: NOW,
      });
      const enrolled = await store().agents.get('a');
      assert.equal(enrolled?.state, AgentState.ENROLLED);
      assert.equal(enrolled.certificateExpiresAtMs, NOW + 5);
      assert.deepEqual(enrolled.assignedLabels, { zone: 'x' });
      const first = connection('a');
      assert.deepEqual((await store().agents.connect(first)).kind, 'connected');
      const second = await connect('a', { connectionId: 'c2', presentedToken: bytes('token') });
      assert.equal(second.kind === 'connected' && second.resumed, true);
      assert.equal(await store().agents.disconnect('a', first.connectionId, NOW), false);
      assert.equal((await store().agents.get('a'))?.state, AgentState.ONLINE);
      await store().agents.setDrain('a', 'drained by bob');
      assert.equal((await store().agents.get('a'))?.state, AgentState.DRAINING);
      assert.equal(await store().agents.disconnect('a', 'c2', NOW), true);
      assert.equal((await store().agents.get('a'))?.state, AgentState.OFFLINE);
      await store().agents.revoke('a', 'lost');
      assert.equal((await store().agents.get('a'))?.state, AgentState.REVOKED);
      assert.equal((await store().agentIdentities.find('a'))?.revoked, true);
      assert.equal((await connect('a')).kind, 'revoked');
    });

    it('fences older epochs and keeps a second host of the same name out while the first lives', async () => {
      await connect('a', { leaderEpoch: 5n });
      const older = await connect('a', { leaderEpoch: 4n });
      assert.deepEqual(older, { kind: 'fenced', newestEpoch: 5n });
      assert.equal((await connect('a', { leaderEpoch: 5n, instanceId: 'i2' })).kind, 'occupied');
      assert.equal((await connect('a', { leaderEpoch: 5n, bootId: 'another process' })).kind, 'occupied');
      assert.equal((await connect('a', { leaderEpoch: 5n })).kind, 'connected');
      // An epoch is one instance's, also when that is gone.
      const gone = { instanceId: 'i2', aliveSinceMs: NOW + 1 };
      assert.deepEqual(await connect('a', { leaderEpoch: 5n, ...gone }), { kind: 'fenced', newestEpoch: 5n });
      assert.equal((await connect('a', { leaderEpoch: 6n, instanceId: 'i3' })).kind, 'connected');
      // Without elections there is no other way for an agent to come back on another host.
      await connect('b', { leaderEpoch: 0n });
      assert.equal((await connect('b', { leaderEpoch: 0n, ...gone })).kind, 'connected');
    });

    it('overlays labels, selects by them and pages by id', async () => {
      for (const id of ['a', 'b', 'c']) await connect(id);
      await store().agents.putFacts({
        agentId: 'b',
        facts: bytes('facts'),
        digest: bytes('digest'),
        labels: { zone: 'own', 'team/x': '1' },
        offersJobs: true,
        maxJobs: 5,
        offersSessions: false,
        sessions: { maxSessions: 0, maxCpus: 0, maxMemoryBytes: 0 },
      });
      await store().agents.assignLabels('b', { zone: 'set' }, []);
      const picked = async (selector: Partial<typeof ALL>) =>
        (await store().agents.candidates({ ...ALL, ...selector })).map((agent) => agent.id);
      assert.deepEqual(await picked({ matchLabels: { zone: 'set' } }), ['b']);
      assert.deepEqual(await picked({ matchLabels: { zone: 'own' } }), []);
      assert.deepEqual(await picked({ hasLabels: ['team/x'] as never }), ['b']);
      assert.deepEqual(await picked({ agentIds: ['c', 'zz'] as never }), ['c']);
      assert.deepEqual((await store().agents.assignLabels('b', {}, ['zone']))?.labels, { zone: 'own', 'team/x': '1' });
      const first = await store().agents.list({ selector: ALL, states: [], pageSize: 2, pageToken: '' });
      const next = await store().agents.list({
        selector: ALL,
        states: [],
        pageSize: 2,
        pageToken: first.nextPageToken,
      });
      assert.deepEqual(
        [...first.items, ...next.items].map((agent) => agent.id),
        ['a', 'b', 'c'],
      );
      assert.equal(next.nextPageToken, '');
      await assert.rejects(
        store().agents.list({ selector: ALL, states: [], pageSize: 2, pageToken: 'xx' }),
        /page_token/,
      );
      const online = await store().agents.list({
        selector: ALL,
        states: [AgentState.OFFLINE],
        pageSize: 9,
        pageToken: '',
      });
      assert.deepEqual(online.items, []);
    });

    it('numbers commands per agent and survives being closed at any state', async () => {
      await connect('a');
      await connect('b');
      const { jobId, ids } = await submit(['a', 'b']);
      const second = await submit(['a']);
      assert.deepEqual(
        (await claim('a')).map(({ id, seq }) => [id, seq]),
        [
          [ids[0], 1],
          [second.ids[0], 2],
        ],
      );
      assert.equal((await claim('b'))[0]?.traceparent, '00-trace');
      current = await current.reopen();
      assert.equal(await state(ids[0]!), 'sent');
      assert.deepEqual(
        (await claim('a')).map(({ seq }) => seq),
        [1, 2],
      );
      assert.deepEqual(
        (await claim('a', 1)).map(({ seq }) => seq),
        [2],
      );
      assert.equal((await store().commands.received(ids[0]!, 'a', NOW))?.jobId, jobId);
      assert.equal(await store().commands.received(ids[1]!, 'a', NOW), undefined);
      current = await current.reopen();
      assert.equal(await state(ids[0]!), 'received');
      assert.deepEqual(
        (await claim('a')).map(({ seq }) => seq),
        [2],
      );
      assert.equal(await jobState(jobId), JobState.QUEUED);
      await result(ids[0]!, 'a', JobState.SUCCEEDED);
      assert.equal(await jobState(jobId), JobState.PENDING);
      await result(ids[1]!, 'b', JobState.FAILED);
      current = await current.reopen();
      assert.equal(await jobState(jobId), JobState.FAILED);
      assert.equal(await result(ids[0]!, 'a', JobState.FAILED), undefined);
      assert.equal((await store().commands.get(ids[0]!))?.jobState, JobState.SUCCEEDED);
    });

    it('takes the latest step and no step after the end', async () => {
      await connect('a');
      const { ids } = await submit(['a']);
      const step = (number: number, jobStateNow: JobState) =>
        store().commands.progress({
          commandId: ids[0]!,
          agentId: 'a',
          number,
          progress: bytes(`p${number}`),
          jobState: jobStateNow,
        });
      await step(3, JobState.RUNNING);
      assert.equal(await step(2, JobState.PREPARING), undefined);
      assert.equal((await store().commands.get(ids[0]!))?.jobState, JobState.RUNNING);
      await result(ids[0]!, 'a', JobState.TIMED_OUT);
      assert.equal(await step(4, JobState.RUNNING), undefined);
    });

    it('cancels what was never sent and asks for the rest', async () => {
      await connect('a');
      const unsent = await submit(['a']);
      const outcome = await store().commands.requestCancel(unsent.ids[0]!, 'why', NOW);
      assert.equal(outcome.kind, 'cancelled');
      assert.equal(await jobState(unsent.jobId), JobState.CANCELLED);
      assert.deepEqual(await claim('a'), []);
      const sent = await submit(['a']);
      await claim('a');
      assert.equal((await store().commands.requestCancel(sent.ids[0]!, 'why', NOW)).kind, 'requested');
      assert.equal((await store().commands.requestCancel(sent.ids[0]!, 'again', NOW)).kind, 'unchanged');
      assert.deepEqual(await store().commands.pendingCancels('a'), [
        { commandId: sent.ids[0], seq: 2, received: false, reason: 'why' },
      ]);
      await result(sent.ids[0]!, 'a', JobState.CANCELLED);
      assert.deepEqual(await store().commands.pendingCancels('a'), []);
      assert.equal((await store().commands.requestCancel(sent.ids[0]!, 'late', NOW)).kind, 'unchanged');
    });

    it('expires what was not confirmed, and believes the agent over its own guess', async () => {
      await connect('a');
      const unsent = await submit(['a'], { expiresAtMs: NOW + 10 });
      const sent = await submit(['a'], { expiresAtMs: NOW + 20 });
      await store().commands.claim({ agentId: 'a', afterSeq: 1, limit: 1, nowMs: NOW });
      assert.deepEqual(
        (await store().commands.expire(NOW + 30, 100, 10)).map((change) => change.commandId),
        unsent.ids,
      );
      const late = await store().commands.get(unsent.ids[0]!);
      assert.equal(late?.jobState, JobState.REJECTED);
      assert.equal(fromBinary(JobResultSchema, late.result!).error?.reason, ErrorReason.LATE);
      assert.deepEqual(await claim('a', 0, NOW + 30), []);
      assert.equal((await store().commands.expire(NOW + 120, 100, 10)).length, 1);
      assert.equal(await jobState(sent.jobId), JobState.REJECTED);
      await store().commands.received(sent.ids[0]!, 'a', NOW + 130);
      assert.equal(await jobState(sent.jobId), JobState.QUEUED);
      await result(sent.ids[0]!, 'a', JobState.SUCCEEDED);
      assert.equal(await jobState(sent.jobId), JobState.SUCCEEDED);
      assert.equal(await store().commands.received(unsent.ids[0]!, 'a', NOW), undefined);
    });

    it('squares itself with what an agent has', async () => {
      await connect('a');
      const { ids } = await submit(['a']);
      const lost = await submit(['a']);
      const fresh = await submit(['a']);
      await claim('a');
      for (const id of [lost.ids[0]!, fresh.ids[0]!]) await store().commands.received(id, 'a', NOW);
      const resume = (sameBoot: boolean) =>
        store().commands.resume({
          agentId: 'a',
          lastCommandSeq: 2,
          inFlightIds: [ids[0]!, 'unknown'],
          pendingResultIds: [],
          sameBoot,
          nowMs: NOW,
        });
      const first = await resume(true);
      assert.deepEqual(
        first.changes.map((change) => change.commandId),
        [ids[0]],
      );
      assert.equal(await state(ids[0]!), 'received');
      assert.deepEqual(first.missingIds, lost.ids);
      assert.equal(await state(lost.ids[0]!), 'received', 'nothing is declared lost on the word of a Hello alone');
      assert.deepEqual(await resume(false), { changes: [], missingIds: [...lost.ids, ...fresh.ids] });
    });

    it('loses commands that their agent had and that have not ended, until it says otherwise', async () => {
      await connect('a');
      const lost = await submit(['a']);
      const over = await submit(['a']);
      const unsent = await submit(['a']);
      await claim('a', 0, 2);
      for (const id of [lost.ids[0]!, over.ids[0]!]) await store().commands.received(id, 'a', NOW);
      await result(over.ids[0]!, 'a', JobState.SUCCEEDED);
      const all = [...lost.ids, ...over.ids, ...unsent.ids];
      assert.deepEqual(await store().commands.lose(all, 'b', NOW), []);
      assert.deepEqual(
        (await store().commands.lose(all, 'a', NOW)).map((change) => change.commandId),
        lost.ids,
      );
      assert.equal(await jobState(lost.jobId), JobState.INDETERMINATE);
      assert.equal(await jobState(over.jobId), JobState.SUCCEEDED);
      assert.equal(await jobState(unsent.jobId), JobState.PENDING);
      await store().commands.received(lost.ids[0]!, 'a', NOW);
      assert.equal(await jobState(lost.jobId), JobState.QUEUED);
    });

    it('stores a job once per request id, and nothing for agents that take none', async () => {
      await connect('a');
      const made = submission(['a'], { requestId: 'k' });
      assert.equal((await store().jobs.submit(made)).kind, 'stored');
      const again = { ...submission(['a'], { requestId: 'k' }), requestHash: bytes('other') };
      assert.deepEqual(await store().jobs.submit(again), { kind: 'repeated', jobId: made.job.id, sameContent: false });
      await store().jobs.forgetRequests(NOW + 1);
      assert.equal(await store().jobs.findRequest('k'), undefined);
      await store().agents.setDrain('a', 'x');
      assert.deepEqual(await store().jobs.submit(submission(['a'])), { kind: 'refused', agentId: 'a', why: 'drained' });
      assert.deepEqual(await store().jobs.submit(submission(['zz'])), {
        kind: 'refused',
        agentId: 'zz',
        why: 'missing',
      });
    });

    it('lists jobs newest first by agent, state, label and time, and deletes ended ones', async () => {
      await connect('a');
      await connect('b');
      const one = await submit(['a'], { labels: { team: 'x' } });
      const two = await submit(['b'], { createdAtMs: NOW + 10 });
      const three = await submit(['a', 'b'], { createdAtMs: NOW + 20 });
      const list = async (patch: object) =>
        (
          await store().jobs.list({ agentId: '', states: [], matchLabels: {}, sinceMs: undefined, ...FIRST, ...patch })
        ).items.map((job) => job.id);
      assert.deepEqual(await list({}), [three.jobId, two.jobId, one.jobId]);
      assert.deepEqual(await list({ agentId: 'a' }), [three.jobId, one.jobId]);
      assert.deepEqual(await list({ matchLabels: { team: 'x' } }), [one.jobId]);
      assert.deepEqual(await list({ sinceMs: NOW + 10 }), [three.jobId, two.jobId]);
      await result(one.ids[0]!, 'a', JobState.SUCCEEDED);
      assert.deepEqual(await list({ states: [JobState.SUCCEEDED] }), [one.jobId]);
      assert.equal(await store().jobs.deleteEnded(NOW + 100, 10), 1);
      assert.deepEqual(await store().jobs.doomedLogs(10), one.ids);
      await store().jobs.logsGone(one.ids);
      assert.deepEqual(await store().jobs.doomedLogs(10), []);
      assert.deepEqual(await list({}), [three.jobId, two.jobId]);
      assert.equal(await store().commands.get(one.ids[0]!), undefined);
    });

    it('deletes the oldest ended jobs beyond a number, and runs none of them again for an old request', async () => {
      await connect('a');
      const jobs = [];
      for (const requestId of ['r1', 'r2', 'r3', 'r4']) jobs.push(await submit(['a'], { requestId }));
      const [first, second, third, fourth] = jobs;
      for (const { ids } of [second!, third!, fourth!]) await result(ids[0]!, 'a', JobState.SUCCEEDED);
      assert.equal(await store().jobs.deleteBeyond(4, 10), 0);
      assert.equal(await store().jobs.deleteBeyond(2, 1), 1);
      assert.equal(await store().jobs.deleteBeyond(2, 10), 1);
      assert.equal(await store().jobs.deleteBeyond(2, 10), 0);
      const kept = async ({ jobId }: { jobId: string }) => (await store().jobs.get(jobId)) !== undefined;
      assert.deepEqual(await Promise.all(jobs.map(kept)), [true, false, false, true]);
      assert.deepEqual((await store().jobs.doomedLogs(10)).toSorted(), [...second!.ids, ...third!.ids].toSorted());
      // The oldest hasn't ended: it stays, however many there may be.
      assert.equal(await store().jobs.deleteBeyond(0, 10), 1);
      assert.equal(await kept(first!), true);
      assert.equal((await store().jobs.findRequest('r2'))?.jobId, second!.jobId);
      await store().jobs.forgetRequests(NOW + 1000);
      assert.equal(await store().jobs.findRequest('r2'), undefined);
    });

    it('forgets agents that are away, ending what they had', async () => {
      await connect('a', { connectionId: 'c' });
      const unsent = await submit(['a']);
      const sent = await submit(['a']);
      await store().commands.claim({ agentId: 'a', afterSeq: 1, limit: 1, nowMs: NOW });
      assert.deepEqual(await store().agents.delete('a', NOW), { kind: 'online' });
      await store().agents.disconnect('a', 'c', NOW);
      const deleted = await store().agents.delete('a', NOW);
      assert.deepEqual(deleted, { kind: 'deleted', jobIds: [unsent.jobId, sent.jobId], sessionIds: [] });
      assert.equal(await jobState(unsent.jobId), JobState.CANCELLED);
      assert.equal(await jobState(sent.jobId), JobState.INDETERMINATE);
      assert.deepEqual(await store().agents.delete('a', NOW), { kind: 'missing' });
    });

    it('keeps checkpoints, both of two that contradict each other', async () => {
      const record = {
        agentId: 'a',
        chainId: 'c',
        sequence: 7,
        head: bytes('h1'),
        signedAtMs: NOW,
        storedAtMs: NOW + 1,
        publicKey: bytes('k'),
        payload: bytes('p'),
        signature: bytes('s'),
      };
      assert.equal(await store().auditCheckpoints.add(record), 'stored');
      assert.equal(await store().auditCheckpoints.add(record), 'known');
      assert.equal(await store().auditCheckpoints.add({ ...record, head: bytes('h2') }), 'conflict');
      const first = await store().auditCheckpoints.list('a', { pageSize: 1, pageToken: '' });
      const second = await store().auditCheckpoints.list('a', { pageSize: 1, pageToken: first.nextPageToken });
      assert.deepEqual(
        [...first.items, ...second.items].map((item) => Buffer.from(item.head).toString()),
        ['h2', 'h1'],
      );
    });

    it('forgets old audit checkpoints, but neither the newest of a chain nor evidence', async () => {
      const add = async (chainId: string, sequence: number, head: string, storedAtMs: number) =>
        await store().auditCheckpoints.add({
          ...{ agentId: 'a', chainId, sequence, head: bytes(head), signedAtMs: NOW, storedAtMs },
          ...{ publicKey: bytes('k'), payload: bytes('p'), signature: bytes('s') },
        });
      for (const [chain, sequence, head] of [
        ['one', 1, 'old'],
        ['one', 2, 'evidence'],
        ['one', 2, 'against it'],
        ['one', 3, 'old too'],
        ['two', 9, 'newest of two'],
      ] as const) {
        await add(chain, sequence, head, NOW);
      }
      await add('one', 4, 'young', NOW + 100);
      await add('one', 5, 'newest', NOW + 100);
      assert.equal(await store().auditCheckpoints.deleteOld(NOW + 50, 1), 1);
      assert.equal(await store().auditCheckpoints.deleteOld(NOW + 50, 10), 1);
      assert.equal(await store().auditCheckpoints.deleteOld(NOW + 50, 10), 0);
      const { items } = await store().auditCheckpoints.list('a', { pageSize: 100, pageToken: '' });
      assert.deepEqual(
        items.map((item) => Buffer.from(item.head).toString()),
        ['newest', 'young', 'newest of two', 'against it', 'evidence'],
      );
    });

    it('drops signs of life of streams that are over', async () => {
      await connect('a', { connectionId: 'new' });
      const usage = { bytes: bytes('u'), load: { runningJobs: 2, queuedJobs: 1, maxJobs: 5 } };
      const sighting = { agentId: 'a', connectionId: 'old', seenAtMs: NOW + 50, roundTripMs: 3, usage };
      await store().agents.sight([sighting]);
      assert.equal((await store().agents.get('a'))?.seenAtMs, NOW);
      await store().agents.sight([{ ...sighting, connectionId: 'new' }]);
      const [candidate] = await store().agents.candidates(ALL);
      assert.deepEqual([candidate?.runningJobs, candidate?.queuedJobs, candidate?.maxJobs], [2, 1, 5]);
      assert.deepEqual(await store().agents.releaseReplica('r1', NOW), ['a']);
      assert.equal((await store().agents.get('a'))?.state, AgentState.OFFLINE);
    });
  });
}
