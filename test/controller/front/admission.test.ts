import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { Admission } from '../../../src/controller/front/admission.ts';
import { systemClock } from '../../../src/core/clock.ts';

it('lets a burst in, then the rate, and says when to come back', () => {
  let nowMs = 0;
  const admission = new Admission({ perSecond: 10, burst: 3 }, { ...systemClock, monotonic: () => nowMs });
  assert.deepEqual(
    [1, 2, 3, 4].map(() => admission.tryEnter()),
    [0, 0, 0, 100],
  );
  nowMs += 50;
  assert.equal(admission.tryEnter(), 50);
  nowMs += 50;
  assert.equal(admission.tryEnter(), 0);
  nowMs += 60_000;
  assert.deepEqual(
    [1, 2, 3, 4].map(() => admission.tryEnter()),
    [0, 0, 0, 100],
  );
});

it('never lets in more than burst plus rate times time, and always lets in whoever waited as told', () => {
  const steps = fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 200 });
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 20 }), (waits, perSecond, burst) => {
      let nowMs = 0;
      const admission = new Admission({ perSecond, burst }, { ...systemClock, monotonic: () => nowMs });
      let entered = 0;
      for (const wait of waits) {
        nowMs += wait;
        if (admission.tryEnter() === 0) entered += 1;
      }
      assert.ok(entered <= burst + (nowMs / 1000) * perSecond + 1e-6);
      nowMs += admission.waitMs();
      assert.equal(admission.tryEnter(), 0);
    }),
    { numRuns: 1000 },
  );
});
