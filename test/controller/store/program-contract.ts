// What every implementation of the store has to do for artifacts, programs, their rollbacks and commands about them. Call it from
// a *.test.ts with a factory.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { Outcome, ResultSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { ARTIFACT_PIECE_BYTES, type ArtifactRecord } from '../../../src/controller/store/artifact.ts';
import type { ProgramCommand, ProgramCommit, RollbackRecord } from '../../../src/controller/store/program.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { newId } from '../../../src/core/ids.ts';
import { connection, type StoreUnderTest } from './store-contract.ts';

const NOW = Date.UTC(2030, 0, 1);
const PROGRAMS = 2;
const PLENTY = 1024 ** 3;
const bytes = (text: string) => Uint8Array.from(Buffer.from(text));

/** Digest of an artifact. */
export const digestOf = (data: Uint8Array) => `sha256:${createHash('sha256').update(data).digest('hex')}`;

function artifact(data: Uint8Array, patch: Partial<ArtifactRecord> = {}): ArtifactRecord {
  return {
    digest: digestOf(data),
    size: data.length,
    name: 'drop',
    metadata: bytes('metadata'),
    signers: ['k1', 'k2'],
    createdAtMs: NOW,
    ...patch,
  };
}

export function programStoreContract(name: string, factory: () => Promise<StoreUnderTest>): void {
  let under: StoreUnderTest;
  let store: Store;
  const begin = async () => {
    under = await factory();
    ({ store } = under);
    for (const agentId of ['a', 'b']) await store.agents.connect(connection(agentId));
  };
  const reopen = async () => {
    under = await under.reopen();
    ({ store } = under);
  };
  const put = async (data: Uint8Array, patch: Partial<ArtifactRecord> = {}) =>
    await store.artifacts.put(artifact(data, patch), data, PLENTY);
  const commit = (agentId: string, expected: number, data: Uint8Array, names: string[], patch = {}): ProgramCommit => {
    const body = bytes(`${agentId} ${names} ${expected}`);
    return {
      state: {
        agentId,
        kind: PROGRAMS,
        expected: BigInt(expected),
        body,
        digest: bytes('d'),
        undo: undefined,
        nowMs: NOW,
      },
      programs: names.map((one) => {
        return { name: one, assignment: '', artifact: digestOf(data), specHash: bytes(one), removing: false, ...patch };
      }),
    };
  };

  describe(`${name}: artifacts`, () => {
    beforeEach(begin);
    afterEach(async () => await under.close());

    it('are stored whole, once, and read in pieces from anywhere', async () => {
      const data = new Uint8Array(randomBytes(2 * ARTIFACT_PIECE_BYTES + 7));
      const outcomes = await Promise.all([put(data), put(data, { createdAtMs: NOW + 1 })]);
      assert.deepEqual(
        outcomes.map(({ kind }) => kind),
        ['stored', 'known'],
      );
      await reopen();
      const { digest } = artifact(data);
      assert.deepEqual(await store.artifacts.get(digest), artifact(data));
      for (const from of [
        0,
        1,
        ARTIFACT_PIECE_BYTES - 1,
        ARTIFACT_PIECE_BYTES,
        data.length - 1,
        data.length,
        data.length + 9,
      ]) {
        const parts: Uint8Array[] = [];
        for (let at = from; ; at += parts.at(-1)!.length) {
          const piece = (await store.artifacts.read(digest, at))!;
          if (piece.length === 0) break;
          assert.ok(piece.length <= ARTIFACT_PIECE_BYTES);
          parts.push(piece);
        }
        assert.equal(Buffer.compare(Buffer.concat(parts), data.subarray(from)), 0, `from ${from}`);
      }
      assert.equal(await store.artifacts.read(digestOf(bytes('other')), 0), undefined);
      const exact = new Uint8Array(ARTIFACT_PIECE_BYTES);
      await put(exact);
      assert.deepEqual(await store.artifacts.read(digestOf(exact), exact.length), new Uint8Array());
    });

    it('are bounded together, leaving nothing of what is too much', async () => {
      const [one, other] = [bytes('one'), new Uint8Array(ARTIFACT_PIECE_BYTES + 1)];
      await put(one);
      const full = await store.artifacts.put(artifact(other), other, 100);
      assert.deepEqual(full, { kind: 'full', bytes: 3 });
      assert.equal(await store.artifacts.read(digestOf(other), 0), undefined);
      assert.equal((await store.artifacts.put(artifact(one), one, 1)).kind, 'known', 'it takes nothing more');
    });

    it('are found by a prefix, and listed newest first by name', async () => {
      const all = ['1', '2', '3'].map(bytes);
      for (const [place, data] of all.entries()) await put(data, { name: place === 1 ? 'other' : 'drop' });
      const digests = all.map(digestOf);
      assert.deepEqual(
        (await store.artifacts.startingWith('sha256:', 2)).map(({ digest }) => digest),
        [...digests].sort().slice(0, 2),
      );
      assert.equal((await store.artifacts.startingWith(digests[0]!.slice(0, 15), 2))[0]?.digest, digests[0]);
      assert.deepEqual(await store.artifacts.startingWith('sha256:%', 2), []);
      const list = async (wanted: string) => {
        const found: string[] = [];
        for (let pageToken = ''; ; ) {
          const page = await store.artifacts.list({ name: wanted, pageSize: 1, pageToken });
          found.push(...page.items.map(({ digest }) => digest));
          pageToken = page.nextPageToken;
          if (pageToken === '') return found;
        }
      };
      assert.deepEqual(await list(''), [...digests].reverse());
      assert.deepEqual(await list('drop'), [digests[2], digests[0]]);
    });

    it('stay while a program wants them, and go with all their bytes', async () => {
      const data = bytes('wanted');
      const digest = digestOf(data);
      assert.deepEqual(await store.programs.commit(commit('a', 0, data, ['x'])), { kind: 'no_artifact', digest });
      assert.equal(await store.desiredStates.get('a', PROGRAMS), undefined, 'nothing was stored');
      await put(data);
      assert.equal((await store.programs.commit(commit('a', 0, data, ['x']))).kind, 'stored');
      assert.deepEqual(await store.artifacts.delete(digest), { kind: 'wanted', by: 'program x of agent a' });
      await store.programs.commit(commit('a', 1, data, ['x'], { removing: true }));
      assert.deepEqual(await store.artifacts.delete(digest), { kind: 'deleted' });
      assert.deepEqual(await store.artifacts.delete(digest), { kind: 'missing' });
      assert.equal(await store.artifacts.read(digest, 0), undefined);
      assert.equal((await put(data)).kind, 'stored', 'and can come again');
    });
  });

  describe(`${name}: programs`, () => {
    const data = bytes('artifact');
    beforeEach(async () => {
      await begin();
      await put(data);
    });
    afterEach(async () => await under.close());

    it('are noted together with what is wanted of their agent, or not at all', async () => {
      const outcomes = await Promise.all([
        store.programs.commit(commit('a', 0, data, ['x', 'y'])),
        store.programs.commit(commit('a', 0, data, ['z'])),
        store.programs.commit(commit('nobody', 0, data, ['z'])),
      ]);
      assert.deepEqual(outcomes, [{ kind: 'stored', generation: 1n }, { kind: 'moved' }, { kind: 'missing' }]);
      await store.programs.commit(commit('a', 1, data, ['y'], { assignment: 'y', removing: true }));
      await reopen();
      const all = await store.programs.ofAgent('a');
      assert.deepEqual(
        all.map((one) => [one.name, one.assignment, one.artifact, one.generation, one.removing, one.updatedAtMs]),
        [
          ['x', '', digestOf(data), 1n, false, NOW],
          ['y', 'y', digestOf(data), 2n, true, NOW],
        ],
      );
      assert.deepEqual(await store.programs.get('a', 'y'), all[1]);
      assert.equal(await store.programs.get('b', 'y'), undefined);
    });

    it('are of the generation that theirs is raised to', async () => {
      await store.programs.commit(commit('a', 0, data, ['x']));
      await store.desiredStates.raise('a', PROGRAMS - 1, { generation: 7n, digest: bytes('another') });
      assert.equal((await store.programs.get('a', 'x'))!.generation, 1n, 'another kind');
      await store.desiredStates.raise('a', PROGRAMS, { generation: 7n, digest: bytes('another') });
      assert.equal((await store.programs.get('a', 'x'))!.generation, 8n);
    });

    it('are listed by agent and name, in pages and by what they are', async () => {
      await store.programs.commit(commit('b', 0, data, ['x', 'm'], { assignment: 'm' }));
      await store.programs.commit(commit('a', 0, data, ['y', 'x']));
      const list = async (patch = {}) => {
        const found: string[] = [];
        for (let pageToken = ''; ; ) {
          const every = { agentId: '', assignment: '', name: '', pageSize: 1, pageToken, ...patch };
          const page = await store.programs.list(every);
          found.push(...page.items.map((one) => `${one.agentId}/${one.name}`));
          pageToken = page.nextPageToken;
          if (pageToken === '') return found;
        }
      };
      assert.deepEqual(await list(), ['a/x', 'a/y', 'b/m', 'b/x']);
      assert.deepEqual(await list({ agentId: 'a' }), ['a/x', 'a/y']);
      assert.deepEqual(await list({ assignment: 'm' }), ['b/m', 'b/x']);
      assert.deepEqual(await list({ name: 'x' }), ['a/x', 'b/x']);
    });

    it('are forgotten when they are being removed and nothing newer was asked, and with their agent', async () => {
      await store.programs.commit(commit('a', 0, data, ['x', 'y']));
      assert.deepEqual(await store.programs.agentsRemoving('', 10), []);
      await store.programs.commit(commit('a', 1, data, ['x'], { removing: true }));
      assert.deepEqual(await store.programs.agentsRemoving('', 10), ['a']);
      assert.deepEqual(await store.programs.agentsRemoving('a', 10), []);
      assert.deepEqual(await store.programs.forget('a', ['x', 'y'], 1n), []);
      assert.deepEqual(await store.programs.forget('a', ['x', 'y'], 2n), ['x']);
      await store.rollbacks.add([rollback('a', '1')], 10);
      const asked = command();
      await store.programCommands.submit(asked);
      const { connectionId } = (await store.agents.get('a'))!;
      await store.agents.disconnect('a', connectionId, NOW);
      await store.agents.delete('a', NOW);
      assert.deepEqual(await store.programs.ofAgent('a'), []);
      assert.deepEqual(await ids(), []);
      assert.equal(await store.commands.get(asked.id), undefined);
      assert.equal((await store.artifacts.delete(digestOf(data))).kind, 'deleted');
    });

    const rollback = (agentId: string, id: string, patch: Partial<RollbackRecord> = {}): RollbackRecord => {
      return { agentId, id, program: 'x', atMs: NOW, rollback: bytes(id), ...patch };
    };
    const ids = async (patch = {}) => {
      const found: string[] = [];
      for (let pageToken = ''; ; ) {
        const page = await store.rollbacks.list({ agentId: '', name: '', pageSize: 2, pageToken, ...patch });
        found.push(...page.items.map(({ agentId, id }) => `${agentId}${id}`));
        pageToken = page.nextPageToken;
        if (pageToken === '') return found;
      }
    };

    it('leave rollbacks, each once, the newest of each agent, newest first', async () => {
      const first = [rollback('a', '1'), rollback('b', '1', { atMs: NOW - 5, program: 'y' })];
      assert.equal(await store.rollbacks.add(first, 3), 2);
      assert.equal(await store.rollbacks.add([rollback('a', '1', { atMs: NOW + 9 })], 3), 0, 'it is known');
      assert.equal(await store.rollbacks.add([rollback('nobody', '1')], 3), 0);
      const more = ['2', '3', '4'].map((id, place) => rollback('a', id, { atMs: NOW + place }));
      assert.equal(await store.rollbacks.add(more, 3), 3);
      await reopen();
      assert.deepEqual(await ids(), ['a4', 'a3', 'a2', 'b1']);
      assert.deepEqual(await ids({ agentId: 'b' }), ['b1']);
      assert.deepEqual(await ids({ name: 'y' }), ['b1']);
    });

    const command = (patch: Partial<ProgramCommand> = {}): ProgramCommand => ({
      id: newId(),
      agentId: 'a',
      statement: bytes('statement'),
      createdAtMs: NOW,
      expiresAtMs: NOW + 1000,
      creator: 'alice',
      traceparent: '00-trace',
      tracestate: '',
      ...patch,
    });
    const resultOf = async (id: string) => fromBinary(ResultSchema, (await store.commands.get(id))!.result!);

    it('can be asked for something, once, by a command of their agent', async () => {
      const [one, other] = [command(), command()];
      assert.deepEqual(await store.programCommands.submit(one), { kind: 'stored' });
      assert.deepEqual(await store.programCommands.submit(other), { kind: 'stored' });
      const [claimed] = await store.commands.claim({ agentId: 'a', afterSeq: 0, limit: 1, nowMs: NOW });
      assert.deepEqual([claimed!.id, Buffer.from(claimed!.statement).toString()], [one.id, 'statement']);
      assert.equal((await store.commands.received(one.id, 'a', NOW))!.jobId, one.id);
      const end = { jobState: 5, rejected: false, nowMs: NOW, result: bytes('job'), sessionResult: bytes('session') };
      const programResult = bytes('program');
      const change = await store.commands.result({ ...end, commandId: one.id, agentId: 'a', programResult });
      assert.deepEqual([change!.jobId, change!.sessionId], [one.id, '']);
      const { result, state } = (await store.commands.get(one.id))!;
      assert.deepEqual([state, Buffer.from(result!).toString()], ['ended', 'program']);
      await store.commands.expire(NOW + 2000, 0, 10);
      const expired = await resultOf(other.id);
      assert.deepEqual([expired.outcome, expired.error?.reason], [Outcome.FAILED, ErrorReason.LATE]);
    });

    it('can not be asked for anything where their agent takes no commands', async () => {
      await store.agents.revoke('b', 'lost');
      const refused = { kind: 'refused', agentId: 'b', why: 'revoked' };
      assert.deepEqual(await store.programCommands.submit(command({ agentId: 'b' })), refused);
      const missing = await store.programCommands.submit(command({ agentId: 'nobody' }));
      assert.deepEqual(missing, { ...refused, agentId: 'nobody', why: 'missing' });
    });

    it('keep the latest ended commands of each agent only', async () => {
      const all = Array.from({ length: 70 }, () => command());
      for (const one of all) {
        await store.programCommands.submit(one);
        await store.commands.requestCancel(one.id, 'enough', NOW);
      }
      const found = await Promise.all(all.map(async ({ id }) => (await store.commands.get(id)) !== undefined));
      assert.deepEqual([found.filter(Boolean).length, found.at(-1), found[0]], [65, true, false]);
      assert.equal((await resultOf(all.at(-1)!.id)).error?.reason, ErrorReason.CANCELLED);
    });
  });
}
