// What every implementation of the store has to do for assignments and rollouts. Call it from a *.test.ts with a factory.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { AgentSelector } from '../../../src/controller/store/agent.ts';
import type {
  AssignmentChange,
  DeliveryCommit,
  DeliveryRecord,
  RolloutAgentRecord,
  RolloutRecord,
} from '../../../src/controller/store/rollout.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { artifactOf, storeArtifacts } from '../rollouts/program-agent.ts';
import { connection, type StoreUnderTest } from './store-contract.ts';

const NOW = Date.UTC(2030, 0, 1);
const PROGRAMS = 2;
const ALL: AgentSelector = { matchLabels: {}, hasLabels: [], agentIds: [] };
const bytes = (text: string) => Uint8Array.from(Buffer.from(text));

const asked = (artifact: number) => ({ bytes: bytes(`asked ${artifact}`), artifact: artifactOf(artifact) });

function change(baseRevision: number, patch: Partial<AssignmentChange> = {}): AssignmentChange {
  return { name: 'drop', baseRevision, nowMs: NOW, ...patch };
}

function rollout(id: string, patch: Partial<RolloutRecord> = {}): RolloutRecord {
  const times = { phaseAtMs: NOW, startedAtMs: NOW, endedAtMs: undefined };
  const wave = { phase: 'running' as const, paused: false, reason: '', wave: 1, waves: 2 };
  return { id, assignment: 'drop', asked: bytes('asked'), before: undefined, ...wave, ...times, ...patch };
}

function row(agentId: string, patch: Partial<RolloutAgentRecord> = {}): RolloutAgentRecord {
  return { agentId, wave: 1, step: 'updating', reason: '', sinceMs: NOW, rollbackId: '', ...patch };
}

function telling(agentId: string, baseRevision: number, patch: Partial<DeliveryRecord> = {}): DeliveryCommit {
  const artifact = artifactOf(1);
  const delivery = { assignment: 'drop', agentId, spec: bytes('spec'), artifact, delivery: 'poll' as const, atMs: NOW };
  return { baseRevision, delivery: { ...delivery, ...patch }, programs: undefined };
}

function pushing(agentId: string, baseRevision: number, expected = 0n): DeliveryCommit {
  const state = {
    agentId,
    kind: PROGRAMS,
    expected,
    body: bytes('b'),
    digest: bytes('d'),
    undo: undefined,
    nowMs: NOW,
  };
  const program = { name: 'drop', assignment: 'drop', artifact: artifactOf(1), specHash: bytes('h'), removing: false };
  const told = telling(agentId, baseRevision, { delivery: 'push' });
  return { ...told, programs: { state, programs: [program] } };
}

export function rolloutStoreContract(name: string, factory: () => Promise<StoreUnderTest>): void {
  describe(`${name}: assignments and rollouts`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeEach(async () => {
      under = await factory();
      ({ store } = under);
      for (const agentId of ['a', 'b']) await store.agents.connect(connection(agentId));
      await storeArtifacts(store, 1, 2);
    });
    afterEach(async () => await under.close());

    const reopen = async () => {
      under = await under.reopen();
      ({ store } = under);
    };

    it('change as a whole, from the revision that was read, and only to artifacts that are stored', async () => {
      const first = change(0, { asked: asked(1), putRollouts: [rollout('1')], putAgents: [row('b'), row('a')] });
      assert.deepEqual(await store.assignments.commit({ ...first, asked: asked(9) }), {
        kind: 'no_artifact',
        digest: artifactOf(9),
      });
      const outcomes = await Promise.all([store.assignments.commit(first), store.assignments.commit(first)]);
      assert.deepEqual(outcomes, [{ kind: 'stored', revision: 1 }, { kind: 'conflict' }]);
      const failed = row('a', { step: 'failed', reason: 'no', sinceMs: NOW + 1, rollbackId: 'r', wave: 2 });
      const second = { settled: asked(2), putAgents: [failed], removedAgents: ['b'], nowMs: NOW + 5 };
      await store.assignments.commit(change(1, second));
      await reopen();
      const { agents, assignment, rollout: underWay } = (await store.assignments.get('drop'))!;
      assert.deepEqual(assignment, {
        name: 'drop',
        asked: asked(1).bytes,
        settled: asked(2).bytes,
        revision: 2,
        createdAtMs: NOW,
        updatedAtMs: NOW,
        removing: false,
        rolloutId: '1',
      });
      assert.deepEqual([underWay, agents], [rollout('1'), [failed]]);
      const over = rollout('1', { phase: 'superseded', endedAtMs: NOW, before: bytes('x'), paused: true, reason: 'y' });
      const next = { asked: asked(2), nowMs: NOW + 9, putRollouts: [over, rollout('2')], putAgents: [row('b')] };
      await store.assignments.commit(change(2, next));
      const after = (await store.assignments.get('drop'))!;
      assert.deepEqual([after.rollout?.id, after.agents, after.assignment.updatedAtMs], ['2', [row('b')], NOW + 9]);
      assert.deepEqual((await store.assignments.rollout('1'))!.rollout, over);
      assert.deepEqual(await store.assignments.rolloutAgents('1', 10), [failed], 'they are kept with theirs');
      const ended = rollout('2', { phase: 'done', endedAtMs: NOW });
      await store.assignments.commit(change(3, { putRollouts: [ended] }));
      const done = (await store.assignments.get('drop'))!;
      assert.deepEqual([done.rollout, done.agents, done.assignment.rolloutId], [undefined, [], '2']);
    });

    it('tell agents together with what is wanted of them, or not at all', async () => {
      await store.assignments.commit(change(0, { asked: asked(1) }));
      const kinds = async (...commits: readonly DeliveryCommit[]) => {
        const outcomes = [];
        for (const commit of commits) outcomes.push((await store.assignments.tell(commit)).kind);
        return outcomes;
      };
      const unknown = telling('a', 1, { artifact: artifactOf(9) });
      const refused = [pushing('a', 2), pushing('a', 1, 3n), telling('nobody', 1), unknown];
      assert.deepEqual(await kinds(...refused), ['conflict', 'moved', 'missing', 'no_artifact']);
      assert.deepEqual(await store.assignments.ofAgent('a'), []);
      assert.deepEqual(await kinds(pushing('a', 1), telling('b', 1)), ['stored', 'stored']);
      await reopen();
      const [a, b] = await store.assignments.agents('drop', [ALL]);
      assert.deepEqual([a!.delivery, a!.program], [pushing('a', 1).delivery, { generation: 1n, removing: false }]);
      assert.deepEqual([b!.delivery, b!.program], [telling('b', 1).delivery, undefined]);
      assert.equal((await store.programs.get('a', 'drop'))!.assignment, 'drop');
      assert.equal(await store.assignments.agentWithOwn('drop'), undefined);
      const taken = telling('b', 1, { spec: undefined, artifact: '', atMs: NOW + 1 });
      await kinds(taken);
      await store.assignments.forget([telling('b', 1).delivery, { ...taken.delivery, atMs: NOW }]);
      assert.deepEqual(await store.assignments.ofAgent('b'), [taken.delivery], 'it was told something since');
      await store.assignments.forget([taken.delivery]);
      assert.deepEqual(await store.assignments.ofAgent('b'), []);
      const { connectionId } = (await store.agents.get('a'))!;
      await store.agents.disconnect('a', connectionId, NOW);
      await store.agents.delete('a', NOW);
      assert.deepEqual(await store.assignments.ofAgent('a'), [], 'they go with their agent');
    });

    it('tell of each agent that is picked, told or in a rollout what it is and said', async () => {
      const none = { ...ALL, agentIds: ['nobody'] };
      await store.assignments.commit(
        change(0, { asked: asked(1), putRollouts: [rollout('1')], putAgents: [row('b')] }),
      );
      const found = async (...selectors: readonly AgentSelector[]) =>
        (await store.assignments.agents('drop', selectors)).map(({ agentId }) => agentId);
      assert.deepEqual(await found(none), ['b']);
      assert.deepEqual(await found(none, { ...ALL, agentIds: ['a'] }), ['a', 'b']);
      await store.assignments.commit(change(1, { putRollouts: [rollout('1', { endedAtMs: NOW })] }));
      assert.deepEqual(await found(none), []);
      await store.assignments.tell(pushing('b', 2));
      const report = { agentId: 'b', kind: PROGRAMS, generation: 1n, report: bytes('said'), storedAtMs: NOW };
      await store.stateReports.put(report);
      await store.desiredStates.refused('b', PROGRAMS, { generation: 1n, error: bytes('no'), atMs: NOW });
      await store.agents.assignLabels('b', { tier: 'web' }, []);
      const { connectionId } = (await store.agents.get('b'))!;
      await store.agents.disconnect('b', connectionId, NOW);
      await store.agents.revoke('b', 'lost');
      const [b] = await store.assignments.agents('drop', [none]);
      assert.deepEqual([b!.valid, b!.online, b!.connectedAtMs, b!.labels], [false, false, NOW, { tier: 'web' }]);
      assert.deepEqual(b!.report, { generation: 1n, bytes: bytes('said') });
      assert.deepEqual(b!.refusal, { generation: 1n, error: bytes('no') });
    });

    it('keep the artifacts that they may still need', async () => {
      await store.assignments.commit(change(0, { asked: asked(2), settled: asked(1) }));
      const by = async (artifact: number) => {
        const outcome = await store.artifacts.delete(artifactOf(artifact));
        return outcome.kind === 'wanted' ? outcome.by : outcome.kind;
      };
      assert.deepEqual([await by(2), await by(1)], ['assignment drop', 'assignment drop']);
      await store.assignments.tell(telling('a', 1));
      await store.assignments.commit(change(1, { settled: asked(2) }));
      assert.equal(await by(1), 'assignment drop', 'an agent has it');
      await store.assignments.tell(telling('a', 2, { artifact: artifactOf(2) }));
      assert.equal(await by(1), 'deleted');
    });

    it('are listed, and forgotten when nobody was told anything any more', async () => {
      for (const one of ['n', 'drop']) await store.assignments.commit(change(0, { name: one, asked: asked(1) }));
      const page = await store.assignments.list({ pageSize: 1, pageToken: '' });
      const rest = await store.assignments.list({ pageSize: 5, pageToken: page.nextPageToken });
      assert.deepEqual([page.items[0]!.name, rest.items[0]!.name, rest.nextPageToken], ['drop', 'n', '']);
      const failed = row('z', { step: 'failed', reason: 'no' });
      const reverted = row('y', { step: 'reverted', reason: 'no' });
      const agents = [row('w'), failed, row('x', { step: 'current' }), reverted, row('v', { step: 'offline' })];
      await store.assignments.commit(change(1, { putRollouts: [rollout('1')], putAgents: agents }));
      await store.assignments.commit(change(1, { name: 'n', putRollouts: [rollout('2', { assignment: 'n' })] }));
      const rollouts = async (patch = {}) => {
        const query = { assignment: '', pageSize: 10, pageToken: '', ...patch };
        return (await store.assignments.listRollouts(query)).items.map(({ rollout: { id } }) => id);
      };
      assert.deepEqual([await rollouts(), await rollouts({ assignment: 'n' })], [['2', '1'], ['2']]);
      assert.deepEqual((await store.assignments.rollout('1'))!.counts, { all: 5, current: 1, failed: 2, offline: 1 });
      const told = (await store.assignments.rolloutAgents('1', 2)).map(({ agentId }) => agentId);
      assert.deepEqual(told, ['z', 'y']);
      const over = rollout('1', { endedAtMs: NOW });
      await store.assignments.commit(change(2, { putRollouts: [over] }));
      assert.equal(await store.assignments.deleteEndedRollouts(NOW + 1, 10), 0, 'it is the latest');
      await store.assignments.commit(change(3, { putRollouts: [rollout('3')] }));
      assert.equal(await store.assignments.deleteEndedRollouts(NOW, 10), 0);
      assert.equal(await store.assignments.deleteEndedRollouts(NOW + 1, 10), 1);
      assert.deepEqual(await store.assignments.rolloutAgents('1', 9), []);
      await store.assignments.tell(telling('a', 4));
      assert.equal(await store.assignments.delete('drop', 4), false, 'an agent has it');
      const taken = telling('a', 4, { spec: undefined, artifact: '' });
      await store.assignments.tell(taken);
      await store.assignments.forget([taken.delivery]);
      assert.equal(await store.assignments.delete('drop', 3), false, 'it has changed');
      assert.equal(await store.assignments.delete('drop', 4), true);
      assert.deepEqual([await store.assignments.get('drop'), await rollouts()], [undefined, ['2']]);
    });
  });
}
