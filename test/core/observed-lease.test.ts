// What a replica makes of a record: when it may be taken and with which epoch, when it still is its own.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type FoundLease, mayRelease, mayRenew, ObservedLease } from '../../src/core/observed-lease.ts';

const TTL_MS = 10_000;
const found = (holder: string, epoch: bigint, version: string, ttlMs = TTL_MS): FoundLease => {
  return { holder, epoch, version, ttlMs };
};
const free = (epoch: bigint) => ({ kind: 'free', epoch });

describe('what was found', () => {
  test('nothing there, and nothing known: free at once', () => {
    assert.deepEqual(new ObservedLease('me', TTL_MS).judge(undefined, 0n, 5), free(1n));
  });

  test("another's: taken until the same version was there for the whole period of its holder", () => {
    const lease = new ObservedLease('me', TTL_MS);
    const taken = { kind: 'taken', holder: 'other', epoch: 7n };
    assert.deepEqual(lease.judge(found('other', 7n, 'v1', 500), 7n, 1000), taken);
    assert.deepEqual(lease.judge(found('other', 7n, 'v1', 500), 7n, 1499), taken);
    assert.deepEqual(lease.judge(found('other', 7n, 'v2', 500), 7n, 1500), taken, 'it was written meanwhile');
    assert.deepEqual(lease.judge(found('other', 7n, 'v2', 500), 7n, 1999), taken);
    assert.deepEqual(lease.judge(found('other', 7n, 'v2', 500), 7n, 2000), free(8n));
    assert.deepEqual(lease.judge(found('other', 7n, 'v3', 500), 7n, 2001), taken, 'after all it lives');
  });

  test('let go of: free at once, with an epoch above what both know', () => {
    assert.deepEqual(new ObservedLease('me', TTL_MS).judge(found('', 7n, 'v1'), 3n, 0), free(8n));
    assert.deepEqual(new ObservedLease('me', TTL_MS).judge(found('', 7n, 'v1'), 7n, 0), free(8n));
  });

  test('our own, as the answer was lost: free at once, with another epoch', () => {
    assert.deepEqual(new ObservedLease('me', TTL_MS).judge(found('me', 7n, 'v1'), 6n, 0), free(8n));
  });

  test('behind what we know: a leader that the store forgot has a whole period to write again', () => {
    for (const there of [undefined, found('', 7n, 'v1'), found('me', 7n, 'v1'), found('other', 7n, 'v1', 500)]) {
      const lease = new ObservedLease('me', TTL_MS);
      assert.equal(lease.judge(there, 41n, 0).kind, 'taken');
      assert.equal(lease.judge(there, 41n, TTL_MS - 1).kind, 'taken');
      assert.deepEqual(lease.judge(there, 41n, TTL_MS), free(42n));
    }
    const lease = new ObservedLease('me', TTL_MS);
    lease.judge(undefined, 41n, 0);
    assert.equal(lease.judge(found('other', 41n, 'v1'), 41n, TTL_MS).kind, 'taken', 'it did');
  });
});

test('a hold is renewed unless somebody came after it, and a store that lost it is told anew', () => {
  const rows: readonly (readonly [FoundLease | undefined, boolean, boolean])[] = [
    [undefined, true, false],
    [found('me', 7n, 'v'), true, true],
    [found('me', 6n, 'v'), true, false],
    [found('me', 8n, 'v'), false, false],
    [found('', 7n, 'v'), true, false],
    [found('', 8n, 'v'), false, false],
    [found('other', 7n, 'v'), false, false],
    [found('other', 3n, 'v'), false, false],
    [found('other', 8n, 'v'), false, false],
  ];
  for (const [there, renew, release] of rows) {
    const shown = `${there?.holder}/${there?.epoch}`;
    assert.equal(mayRenew(there, 'me', 7n), renew, `renew over ${shown}`);
    assert.equal(mayRelease(there, 'me', 7n), release, `release over ${shown}`);
  }
});

test('whatever is found when: an epoch above all that is known, and never before its time', () => {
  const look = fc.record({
    holder: fc.constantFrom('', 'me', 'other', 'third'),
    epoch: fc.bigInt({ min: 0n, max: 5n }),
    version: fc.constantFrom('a', 'b', 'c'),
    ttlMs: fc.integer({ min: 1, max: 300 }),
    isThere: fc.boolean(),
    floor: fc.bigInt({ min: 0n, max: 5n }),
    passedMs: fc.nat(200),
  });
  fc.assert(
    fc.property(fc.array(look, { maxLength: 40 }), (looks) => {
      const lease = new ObservedLease('me', 200);
      let nowMs = 0;
      let sameSinceMs = 0;
      let before: string | undefined;
      for (const { isThere, floor, passedMs, ...there } of looks) {
        nowMs += passedMs;
        const now = isThere ? there.version : 'nothing';
        if (now !== before) sameSinceMs = nowMs;
        before = now;
        const verdict = lease.judge(isThere ? there : undefined, floor, nowMs);
        const known = isThere ? there.epoch : 0n;
        if (verdict.kind === 'free') {
          assert.ok(verdict.epoch > floor && verdict.epoch > known);
          if (known < floor) assert.ok(nowMs - sameSinceMs >= 200);
          if (isThere && !['', 'me'].includes(there.holder)) assert.ok(nowMs - sameSinceMs >= there.ttlMs);
        } else {
          const waitMs = Math.max(200, isThere ? there.ttlMs : 0);
          assert.ok(nowMs - sameSinceMs < waitMs, 'nobody waits for ever');
        }
      }
    }),
  );
});
