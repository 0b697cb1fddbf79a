// What every leader lock promises, whatever it elects by: the same test bodies against each. A stage stands for the store and
// for the hosts around it, as real as can be.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { LeaderLock } from '../../src/core/leader-lock.ts';

/** A store, and locks on it. Disposed after the last test. */
export interface LockStage extends AsyncDisposable {
  /** A lock as another process would have it; the caller disposes it. Agents are told apart by their id. */
  lock(holder: string, agentId: string): LeaderLock;
}

/** A store that has hosts of its own: locks on it lapse, it forgets, and it can be away. */
export interface RemoteLockStage extends LockStage {
  /** A whole period passes, for the store and for each lock that was made here. */
  pass(): Promise<void>;
  /** The store loses all that it knew. */
  forget(): Promise<void>;
  /** The store can't be asked, until `back`. */
  away(): Promise<void>;
  back(): Promise<void>;
}

const never = new AbortController().signal;

/** One suite's stage, and an agent of its own for each test. */
class Suite<Stage extends LockStage> {
  stage!: Stage;
  #count = 0;

  constructor(open: () => Promise<Stage>) {
    before(async () => {
      this.stage = await open();
    });
    after(() => this.stage?.[Symbol.asyncDispose]());
    beforeEach(() => {
      this.#count++;
    });
  }

  lock(holder: string, more = ''): LeaderLock {
    return this.stage.lock(holder, `agent-${this.#count}${more}`);
  }

  /** Takes what is nobody's; a store that knows of less than the floor has its caller wait. */
  async take(lock: LeaderLock, floor = 0n): Promise<bigint> {
    let answer = await lock.acquire(floor, never);
    if (answer.kind === 'taken' && 'pass' in this.stage) {
      await (this.stage as unknown as RemoteLockStage).pass();
      answer = await lock.acquire(floor, never);
    }
    assert.equal(answer.kind, 'acquired', `taken by ${answer.kind === 'taken' ? answer.holder : ''}`);
    return answer.epoch!;
  }
}

/** Declares the suite for any lock. `skip` says why it can't be run here. */
export function leaderLockContract(name: string, open: () => Promise<LockStage>, skip: string | false = false): void {
  describe(`leader lock by ${name}`, { skip }, () => {
    const suite = new Suite(open);
    holding(suite);
    contending(suite);
  });
}

/** Declares the suite for a lock by a store on other hosts. */
export function remoteLockContract(
  name: string,
  open: () => Promise<RemoteLockStage>,
  skip: string | false = false,
): void {
  describe(`leader lock by ${name}`, { skip }, () => {
    const suite = new Suite(open);
    holding(suite);
    contending(suite);
    lapsing(suite);
    forgetting(suite);
  });
}

function holding(suite: Suite<LockStage>): void {
  test('one has it, the others hear who, and nobody else lets go of it', async () => {
    await using first = suite.lock('one');
    await using second = suite.lock('two');
    const epoch = await suite.take(first);
    assert.deepEqual(await second.acquire(0n, never), { kind: 'taken', holder: 'one', epoch });
    assert.equal(await first.renew(epoch, never), true);
    await second.release(epoch, never);
    assert.equal(await first.renew(epoch, never), true);
    assert.equal((await second.acquire(0n, never)).kind, 'taken');
  });

  test('after a release the next has it at once, in a higher epoch', async () => {
    await using first = suite.lock('one');
    await using second = suite.lock('two');
    const epoch = await suite.take(first);
    await second.acquire(0n, never);
    await first.release(epoch, never);
    assert.deepEqual(await second.acquire(epoch, never), { kind: 'acquired', epoch: epoch + 1n });
    assert.equal(await first.renew(epoch, never), false);
    await first.release(epoch, never);
    assert.equal(await second.renew(epoch + 1n, never), true, 'a release that comes late is void');
    await second.release(epoch + 1n, never);
    assert.equal(await suite.take(first), epoch + 2n, 'the lock remembers, whatever who asks knows');
  });

  test('an epoch is above what the replica knows, and the next above that', async () => {
    await using first = suite.lock('one');
    await using second = suite.lock('two');
    assert.equal(await suite.take(first, 41n), 42n);
    await first.release(42n, never);
    assert.equal(await suite.take(second), 43n);
  });
}

function contending(suite: Suite<LockStage>): void {
  test('agents do not meet', async () => {
    await using first = suite.lock('one');
    await using other = suite.lock('two', '-other');
    await suite.take(first);
    await suite.take(other);
  });

  test('of many that try at once one has it, each time in a higher epoch', async () => {
    const locks = Array.from({ length: 6 }, (_, index) => suite.lock(`holder-${index}`));
    try {
      let epoch = 0n;
      for (let round = 0; round < 4; round++) {
        const answers = await Promise.all(locks.map((one) => one.acquire(epoch, never)));
        const winners = answers.filter(({ kind }) => kind === 'acquired');
        assert.equal(winners.length, 1);
        assert.ok(winners[0]!.epoch! > epoch);
        epoch = winners[0]!.epoch!;
        const winner = locks[answers.indexOf(winners[0]!)]!;
        assert.equal(await winner.renew(epoch, never), true);
        await winner.release(epoch, never);
      }
    } finally {
      await Promise.all(locks.map((one) => one[Symbol.asyncDispose]()));
    }
  });
}

function lapsing(suite: Suite<RemoteLockStage>): void {
  test('a hold lapses, and whoever had it is told so', async () => {
    await using first = suite.lock('one');
    await using second = suite.lock('two');
    assert.ok(first.expires);
    const epoch = await suite.take(first);
    assert.equal((await second.acquire(0n, never)).kind, 'taken');
    await suite.stage.pass();
    assert.deepEqual(await second.acquire(0n, never), { kind: 'acquired', epoch: epoch + 1n });
    assert.equal(await first.renew(epoch, never), false);
    assert.equal(await second.renew(epoch + 1n, never), true);
  });

  test('a try whose answer was lost is taken up in another epoch, and the one before is void', async () => {
    await using first = suite.lock('one');
    const epoch = await suite.take(first);
    assert.deepEqual(await first.acquire(epoch, never), { kind: 'acquired', epoch: epoch + 1n });
    assert.equal(await first.renew(epoch, never), false);
    await first.release(epoch, never);
    assert.equal(await first.renew(epoch + 1n, never), true);
  });

  test('nothing is asked once it is too late', async () => {
    await using first = suite.lock('one');
    const epoch = await suite.take(first);
    const late = AbortSignal.abort(new Error('time is up'));
    await assert.rejects(first.acquire(epoch, late), /time is up/);
    await assert.rejects(first.renew(epoch, late), /time is up/);
    await assert.rejects(first.release(epoch, late), /time is up/);
    assert.equal(await first.renew(epoch, never), true);
  });
}

function forgetting(suite: Suite<RemoteLockStage>): void {
  test('a store that forgot: the leader claims its hold again, unless another came before it', async () => {
    await using first = suite.lock('one');
    await using second = suite.lock('two');
    const epoch = await suite.take(first);
    await suite.stage.forget();
    assert.equal(await first.renew(epoch, never), true);
    assert.deepEqual(await second.acquire(epoch, never), { kind: 'taken', holder: 'one', epoch });
    await suite.stage.forget();
    assert.equal((await second.acquire(0n, never)).kind, 'acquired', 'it knows no better');
    assert.equal(await first.renew(epoch, never), false, 'although the epochs are equal');
  });

  test('a store that forgot: who knows of a higher epoch waits a whole period', async () => {
    await using first = suite.lock('one');
    await using second = suite.lock('two');
    const epoch = await suite.take(first);
    await suite.stage.forget();
    assert.deepEqual(await second.acquire(epoch, never), { kind: 'taken' });
    await suite.stage.pass();
    assert.deepEqual(await second.acquire(epoch, never), { kind: 'acquired', epoch: epoch + 1n });
  });

  test('a store that can not be asked is an error, never an answer; it is found again', async () => {
    await using first = suite.lock('one');
    await using second = suite.lock('two');
    const epoch = await suite.take(first);
    assert.equal((await second.acquire(epoch, never)).kind, 'taken');
    await suite.stage.away();
    const unavailable = { name: 'LonglineError', reason: 'unavailable' };
    await assert.rejects(first.renew(epoch, never), unavailable);
    await assert.rejects(second.acquire(epoch, never), unavailable);
    await assert.rejects(first.release(epoch, never), unavailable);
    await suite.stage.back();
    assert.equal(await first.renew(epoch, never), true);
    assert.equal((await second.acquire(epoch, never)).kind, 'taken');
  });
}
