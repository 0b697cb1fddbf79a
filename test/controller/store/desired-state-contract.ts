// What every implementation of the store has to do for desired states. Call it from a *.test.ts with a factory.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { DesiredStateUpdate } from '../../../src/controller/store/desired-state.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { connection, type StoreUnderTest } from './store-contract.ts';

const NOW = Date.UTC(2030, 0, 1);
const bytes = (text: string) => Uint8Array.from(Buffer.from(text));
const texts = (deltas: readonly Uint8Array[] | undefined) => deltas?.map((delta) => Buffer.from(delta).toString());

function update(expected: number, patch: Partial<DesiredStateUpdate> = {}): DesiredStateUpdate {
  const undo = expected === 0 ? undefined : bytes(`to ${expected}`);
  const body = bytes(`body ${expected + 1}`);
  return {
    agentId: 'a',
    kind: 1,
    expected: BigInt(expected),
    body,
    digest: bytes('digest'),
    undo,
    nowMs: NOW,
    ...patch,
  };
}

export function desiredStateContract(name: string, factory: () => Promise<StoreUnderTest>): void {
  describe(`${name}: desired states`, () => {
    let under: StoreUnderTest;
    let store: Store;
    beforeEach(async () => {
      under = await factory();
      ({ store } = under);
      for (const agentId of ['a', 'b']) await store.agents.connect(connection(agentId));
    });
    afterEach(async () => await under.close());

    it('counts generations, and of two that are made from the same one stores one', async () => {
      const states = store.desiredStates;
      const outcomes = await Promise.all([states.put(update(0)), states.put(update(0, { body: bytes('late') }))]);
      assert.deepEqual(outcomes, [{ kind: 'stored', generation: 1n }, { kind: 'moved' }]);
      const traceparent = '00-trace';
      assert.deepEqual(await states.put(update(1, { traceparent })), { kind: 'stored', generation: 2n });
      assert.deepEqual(await states.put(update(0, { kind: 2 })), { kind: 'stored', generation: 1n });
      under = await under.reopen();
      const record = await under.store.desiredStates.get('a', 1);
      const expected = { agentId: 'a', kind: 1, generation: 2n, body: bytes('body 2'), digest: bytes('digest') };
      assert.deepEqual(record, { ...expected, changedAtMs: NOW, refusal: undefined, traceparent });
      const heads = await under.store.desiredStates.heads('a');
      assert.deepEqual(
        heads.map(({ kind, generation }) => [kind, generation]),
        [
          [1, 2n],
          [2, 1n],
        ],
      );
    });

    it('keeps nothing of an agent that is not there, or no longer', async () => {
      assert.deepEqual(await store.desiredStates.put(update(0, { agentId: 'nobody' })), { kind: 'missing' });
      await store.desiredStates.put(update(0));
      await store.desiredStates.put(update(1));
      const { connectionId } = (await store.agents.get('a'))!;
      await store.agents.disconnect('a', connectionId, NOW);
      assert.equal((await store.agents.delete('a', NOW)).kind, 'deleted');
      assert.equal(await store.desiredStates.get('a', 1), undefined);
      await store.agents.connect(connection('a'));
      assert.deepEqual(await store.desiredStates.put(update(0)), { kind: 'stored', generation: 1n });
      assert.equal(await store.desiredStates.undos('a', 1, 0n), undefined);
    });

    it('lists those of a kind by agent', async () => {
      for (const agentId of ['b', 'a']) await store.desiredStates.put(update(0, { agentId }));
      const idsAfter = async (afterAgentId: string, limit: number) =>
        (await store.desiredStates.list({ kind: 1, afterAgentId, limit })).map(({ agentId }) => agentId);
      assert.deepEqual(await idsAfter('', 1), ['a']);
      assert.deepEqual(await idsAfter('a', 10), ['b']);
      assert.deepEqual(await store.desiredStates.list({ kind: 2, afterAgentId: '', limit: 10 }), []);
    });

    it('gives the way back to a generation as long as all of it is kept', async () => {
      const states = store.desiredStates;
      for (let expected = 0; expected < 70; expected++) await states.put(update(expected));
      assert.deepEqual(texts(await states.undos('a', 1, 68n)), ['to 69', 'to 68']);
      assert.deepEqual(await states.undos('a', 1, 70n), []);
      assert.equal((await states.undos('a', 1, 6n))?.length, 64);
      assert.equal(await states.undos('a', 1, 5n), undefined);
      assert.equal(await states.undos('a', 1, 71n), undefined);
      await states.put(update(70, { undo: Buffer.alloc(900_000) }));
      await states.put(update(71, { undo: Buffer.alloc(200_000) }));
      assert.equal((await states.undos('a', 1, 71n))?.length, 1);
      assert.equal(await states.undos('a', 1, 70n), undefined);
      await states.put(update(72, { undo: undefined }));
      assert.equal(await states.undos('a', 1, 72n), undefined);
    });

    it('raises a generation above what an agent has from elsewhere, once', async () => {
      const states = store.desiredStates;
      await states.put(update(0));
      await states.put(update(1));
      await states.raise('a', 1, { generation: 2n, digest: bytes('digest') });
      assert.equal((await states.get('a', 1))?.generation, 2n, 'it is what is held');
      const held = { generation: 7n, digest: bytes('another') };
      await states.raise('a', 1, held);
      await states.raise('a', 1, held);
      const raised = await states.get('a', 1);
      assert.deepEqual([raised?.generation, raised?.body], [8n, bytes('body 2')]);
      assert.equal(await states.undos('a', 1, 1n), undefined);
      await states.raise('a', 1, { ...held, generation: 8n });
      assert.equal((await states.get('a', 1))?.generation, 9n);
      await states.raise('b', 1, held);
      assert.equal(await states.get('b', 1), undefined);
    });

    it('notes what was refused until that or something later is applied', async () => {
      const states = store.desiredStates;
      const refusal = (generation: bigint) => ({ generation, error: bytes(`error ${generation}`), atMs: NOW });
      const refused = async () => (await states.get('a', 1))?.refusal;
      for (const expected of [0, 1, 2]) await states.put(update(expected));
      await states.refused('a', 1, refusal(4n));
      assert.equal(await refused(), undefined);
      await states.refused('a', 1, refusal(2n));
      await states.refused('a', 1, refusal(1n));
      assert.deepEqual(await refused(), refusal(2n));
      await states.applied('a', 1, 1n);
      assert.deepEqual(await refused(), refusal(2n));
      await states.applied('a', 1, 2n);
      assert.equal(await refused(), undefined);
    });
  });
}
