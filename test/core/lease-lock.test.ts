// The lock over a store in memory that swaps by version, applies writes late, and loses questions and answers, in every order that
// fast-check finds: nobody leads beside another, whatever their clocks show, and epochs grow.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../src/core/errors.ts';
import { LeaseLock, type LeaseStore } from '../../src/core/lease-lock.ts';
import type { FoundLease, LeaseRecord } from '../../src/core/observed-lease.ts';

const TTL_MS = 1000;
/** As the election has it: what a leader doesn't believe in, as clocks don't run alike. */
const BELIEVED_MS = TTL_MS * 0.9;
const never = new AbortController().signal;

class MemoryStore {
  record: FoundLease | undefined;
  #writes = 0;

  read(): FoundLease | undefined {
    return this.record;
  }

  swap(over: FoundLease | undefined, record: LeaseRecord): boolean {
    if (this.record?.version !== over?.version) return false;
    this.record = { ...record, version: String(++this.#writes) };
    return true;
  }

  /** A view of it through which each question first goes. */
  through(pass: <T>(ask: () => T) => Promise<T>): LeaseStore {
    return {
      name: 'memory',
      read: async () => await pass(() => this.read()),
      swap: async (over, record) => await pass(() => this.swap(over, record)),
      [Symbol.asyncDispose]: async () => undefined,
    };
  }
}

const direct = async <T>(ask: () => T): Promise<T> => ask();
const options = (holder: string, elapsed = () => 0) => ({ holder, ttlMs: TTL_MS, elapsed });

test('a label that others set between look and write is no reason to lose the lead; one that never stops is an error', async () => {
  const memory = new MemoryStore();
  let meddle = 0;
  await using lock = new LeaseLock(
    memory.through(async (ask) => {
      const answer = ask();
      if (meddle-- > 0 && memory.record !== undefined) memory.record = { ...memory.record, version: `m${meddle}` };
      return answer;
    }),
    options('me'),
  );
  await lock.acquire(0n, never);
  meddle = 4;
  assert.equal(await lock.renew(1n, never), true);
  meddle = 1000;
  await assert.rejects(lock.renew(1n, never), { reason: 'unavailable', message: /memory.*5 times/ });
  meddle = 0;
  await lock.release(1n, never);
  assert.deepEqual({ ...memory.record, version: '' }, { holder: '', epoch: 1n, ttlMs: TTL_MS, version: '' });
});

test('whoever is faster has it, and the other is told that it is taken', async () => {
  const memory = new MemoryStore();
  await using first = new LeaseLock(memory.through(direct), options('first'));
  await using second = new LeaseLock(
    memory.through(async (ask) => {
      const answer = ask();
      if (memory.record === undefined) await first.acquire(0n, never);
      return answer;
    }),
    options('second'),
  );
  assert.deepEqual(await second.acquire(0n, never), { kind: 'taken' });
  assert.deepEqual(await second.acquire(0n, never), { kind: 'taken', holder: 'first', epoch: 1n });
});

interface World {
  nowMs: number;
  highest: bigint;
  terms: number;
  readonly untilMs: Map<string, number>;
}

/** Asks, as the election does, `rounds` times; checks at each begin that no other believes that it leads. */
async function replica(world: World, lock: LeaseLock<FoundLease>, name: string, rate: number, rounds: number) {
  const elapsed = () => world.nowMs * rate;
  let epoch: bigint | undefined;
  let floor = 0n;
  const until = (askedMs: number) => (askedMs + BELIEVED_MS) / rate;
  for (let round = 0; round < rounds; round++) {
    const askedMs = elapsed();
    if (epoch !== undefined && world.untilMs.get(name)! <= world.nowMs) epoch = undefined;
    try {
      if (epoch !== undefined) {
        const still = await lock.renew(epoch, never);
        if (still && world.untilMs.get(name)! > world.nowMs) world.untilMs.set(name, until(askedMs));
        else epoch = undefined;
        if (epoch === undefined) world.untilMs.set(name, 0);
        continue;
      }
      const answer = await lock.acquire(floor, never);
      if (answer.epoch !== undefined && answer.epoch > floor) floor = answer.epoch;
      if (answer.kind !== 'acquired' || until(askedMs) <= world.nowMs) continue;
      for (const [other, untilMs] of world.untilMs) {
        assert.ok(other === name || untilMs <= world.nowMs, `${name} and ${other} lead at ${world.nowMs}`);
      }
      assert.ok(answer.epoch > world.highest, `epoch ${answer.epoch} after ${world.highest}`);
      epoch = world.highest = answer.epoch;
      world.terms++;
      world.untilMs.set(name, until(askedMs));
    } catch (error) {
      if (!(error instanceof LonglineError)) throw error;
    }
  }
}

/** One step of the store: how long it takes, and what becomes of it. */
const step = fc.record({
  passedMs: fc.oneof(fc.nat(60), fc.nat(60), fc.nat(500)),
  lost: fc.constantFrom('nothing', 'nothing', 'nothing', 'question', 'answer', 'patience'),
});

test('in any order, with lost questions and answers and clocks that run 4 % apart: one leads, epochs grow', async () => {
  let terms = 0;
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.array(step, { minLength: 1, maxLength: 60 }), async (schedule, steps) => {
      const memory = new MemoryStore();
      const world: World = { nowMs: 0, highest: 0n, terms: 0, untilMs: new Map() };
      let count = 0;
      const pass = async <T>(ask: () => T): Promise<T> => {
        await schedule.schedule(Promise.resolve());
        const { passedMs, lost } = steps[count++ % steps.length]!;
        world.nowMs += passedMs;
        if (lost === 'patience') {
          void schedule.schedule(Promise.resolve()).then(ask);
          throw new LonglineError('late', 'nobody waited for it, and it is carried out some time');
        }
        if (lost === 'question') throw new LonglineError('unavailable', 'the question was lost');
        const answer = ask();
        // The answer is on its way while others go on.
        await schedule.schedule(Promise.resolve());
        if (lost === 'answer') throw new LonglineError('unavailable', 'the answer was lost');
        return answer;
      };
      const rates = { a: 0.98, b: 1, c: 1.02 };
      const replicas = Object.entries(rates).map(async ([name, rate]) => {
        const lock = new LeaseLock(memory.through(pass), {
          holder: name,
          ttlMs: TTL_MS,
          elapsed: () => world.nowMs * rate,
        });
        await replica(world, lock, name, rate, 30);
      });
      await schedule.waitFor(Promise.all(replicas));
      terms += world.terms;
    }),
    { numRuns: 80 },
  );
  assert.ok(terms > 40, `only ${terms} terms in all: the property saw little`);
});
