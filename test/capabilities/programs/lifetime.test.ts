import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { beginLifetime, leftMs, type Moment, noted, usedMs } from '../../../src/capabilities/programs/lifetime.ts';

const START: Moment = { bootId: 'a', bootMs: 50_000, wallMs: 1_790_000_000_000 };
const after = (ms: number, jumpMs = 0): Moment => ({
  bootId: 'a',
  bootMs: START.bootMs + ms,
  wallMs: START.wallMs + ms + jumpMs,
});

describe('how long a program has been loaded', () => {
  it('is counted by the boot clock within a boot, wherever the wall clock goes', () => {
    fc.assert(
      fc.property(fc.nat(1e9), fc.integer({ min: -1e12, max: 1e12 }), (ms, jumpMs) => {
        assert.equal(usedMs(beginLifetime(START), after(ms, jumpMs)), ms);
      }),
    );
  });

  it('is counted by the wall clock across boots, and never goes back', () => {
    const lifetime = noted(beginLifetime(START), after(10_000));
    const boot = (wallMs: number): Moment => ({ bootId: 'b', bootMs: 5, wallMs });
    assert.equal(usedMs(lifetime, boot(START.wallMs + 70_000)), 70_000);
    assert.equal(usedMs(lifetime, boot(0)), 10_000, 'a clock that lost its battery takes nothing away');
  });

  it('is the same however often it is noted', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1e6), { maxLength: 20 }), (steps) => {
        let lifetime = beginLifetime(START);
        let passed = 0;
        for (const step of steps) {
          passed += step;
          lifetime = noted(lifetime, after(passed));
        }
        assert.equal(usedMs(lifetime, after(passed)), passed);
      }),
    );
  });

  it('counts from a wall clock that was put right, once it was noted', () => {
    const wrong = beginLifetime({ ...START, wallMs: 0 });
    const right = noted(wrong, after(1_000));
    assert.equal(usedMs(right, { bootId: 'b', bootMs: 1, wallMs: START.wallMs + 31_000 }), 31_000);
  });

  it('leaves nothing once it is used up, and all of it for ever at 0', () => {
    const lifetime = beginLifetime(START);
    assert.equal(leftMs(lifetime, 10_000, after(9_999)), 1);
    assert.equal(leftMs(lifetime, 10_000, after(20_000)), 0);
    assert.equal(leftMs(lifetime, 0, after(1e15)), Number.POSITIVE_INFINITY);
  });
});
