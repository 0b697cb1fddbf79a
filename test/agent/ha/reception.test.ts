// When a leader gives up the lead because of what the controller says, and how far it believes that.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Reception } from '../../../src/agent/ha/reception.ts';
import { LonglineError } from '../../../src/core/errors.ts';

const MINUTE = 60_000;
const stale = (newestEpoch?: bigint) =>
  new LonglineError('stale', 'an epoch is over', newestEpoch === undefined ? {} : { newestEpoch });
const identity = new LonglineError('identity', 'the replica was revoked');

test('an epoch that the controller knows of is over, and the next is above it', () => {
  assert.deepEqual(pick(new Reception().refused(stale(41n), 1n, 0)), { floor: 41n, pauseMs: 0 });
  // Another replica came with the same.
  assert.deepEqual(pick(new Reception().refused(stale(41n), 41n, 0)), { floor: 41n, pauseMs: 0 });
});

test('a replica whose identity is refused with both certificates leaves the lead to others for a while', () => {
  const reception = new Reception();
  assert.equal(reception.refused(identity, 3n, 0), undefined);
  reception.welcomed();
  assert.equal(reception.refused(identity, 3n, 0), undefined);
  assert.deepEqual(pick(reception.refused(identity, 3n, 0)), { floor: undefined, pauseMs: 5000 });
});

test('nothing else makes a leader give up', () => {
  const reception = new Reception();
  const others = (['unavailable', 'limit', 'already_exists', 'late', 'internal'] as const).map(
    (reason) => new LonglineError(reason, 'no'),
  );
  for (const error of [...others, stale(), stale(4n), stale(2n ** 53n), stale(2n ** 63n), stale(2n ** 64n - 1n)]) {
    assert.equal(reception.refused(error, 5n, 0), undefined, `${error.reason} ${error.newestEpoch}`);
  }
  assert.ok(reception.refused(stale(2n ** 53n - 1n), 5n, 0), 'the highest there can be is heard');
});

test('a controller that goes on refusing gets a new leader more and more rarely; a welcome and time forget that', () => {
  const reception = new Reception();
  const givenUpAt: number[] = [];
  const refuseFor = (fromMs: number, toMs: number) => {
    reception.began();
    for (let nowMs = fromMs; nowMs < toMs; nowMs += 1000) {
      if (reception.refused(identity, 5n, nowMs) === undefined) continue;
      givenUpAt.push(nowMs - fromMs);
      return nowMs;
    }
    return toMs;
  };
  let nowMs = 0;
  for (let term = 0; term < 9; term++) nowMs = refuseFor(nowMs, nowMs + 60 * MINUTE);
  const seconds = givenUpAt.map((ms) => ms / 1000);
  assert.deepEqual(seconds, [1, 10, 20, 40, 80, 160, 320, 600, 600]);
  reception.began();
  assert.equal(reception.refused(stale(6n), 5n, nowMs), undefined);
  reception.welcomed();
  assert.equal(reception.refused(stale(6n), 5n, nowMs), undefined, 'it gave up a moment ago');
  reception.welcomed();
  assert.ok(reception.refused(stale(6n), 5n, nowMs + 10 * MINUTE));
});

test('a controller that welcomes and refuses in turn has no new leader each second for it', () => {
  const reception = new Reception();
  const atS: number[] = [];
  for (let second = 0; second < 3600; second += 1) {
    if (second % 5 === 0) {
      reception.began();
      reception.welcomed();
    }
    if (reception.refused(stale(2n ** 50n), 5n, second * 1000) !== undefined) atS.push(second);
  }
  assert.deepEqual(atS, [0, 600, 1200, 1800, 2400, 3000]);
});

test('whatever epochs a controller names: no refusal raises them by more than 2^32, and a thousand that count leave room for 2^52', () => {
  const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  fc.assert(
    fc.property(fc.array(uint64, { minLength: 1, maxLength: 1000 }), (named) => {
      const reception = new Reception();
      let epoch = 1n;
      for (const [index, newest] of named.entries()) {
        reception.began();
        reception.welcomed();
        const { floor } = reception.refused(stale(newest), epoch, index * 10 * MINUTE) ?? {};
        if (floor === undefined) continue;
        assert.ok(floor >= epoch && floor <= newest && floor - epoch <= 2n ** 32n);
        epoch = floor + 1n;
      }
      assert.ok(epoch < 2n ** 53n - 2n ** 52n);
    }),
  );
});

function pick(resignation: ReturnType<Reception['refused']>) {
  assert.ok(resignation);
  assert.match(resignation.why.message, /the lead is given up: /);
  return { floor: resignation.floor, pauseMs: resignation.pauseMs };
}
