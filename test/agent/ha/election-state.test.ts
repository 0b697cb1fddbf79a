// The pure machine, under whatever order of events a network and a stopped process can make.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ElectionEvent, type ElectionState, firstState, nextState } from '../../../src/agent/ha/election-state.ts';

const PERIOD_MS = 1000;

/** Events at times that never go back; answers may be as old as they like. */
const steps = fc.array(
  fc.record({
    afterMs: fc.integer({ min: 0, max: 700 }),
    ageMs: fc.integer({ min: 0, max: 2500 }),
    epoch: fc.bigInt({ min: 0n, max: 30n }),
    kind: fc.constantFrom('acquired', 'taken', 'renewed', 'lost', 'time'),
  }),
  { maxLength: 60 },
);

function eventOf(step: { ageMs: number; epoch: bigint; kind: string }, nowMs: number): ElectionEvent {
  const askedAtMs = Math.max(0, nowMs - step.ageMs);
  switch (step.kind) {
    case 'acquired':
      return { kind: 'acquired', epoch: step.epoch, askedAtMs, nowMs };
    case 'renewed':
      return { kind: 'renewed', epoch: step.epoch, askedAtMs, nowMs };
    case 'taken':
      return { kind: 'taken', holder: 'another', epoch: step.epoch };
    case 'lost':
      return { kind: 'lost' };
    default:
      return { kind: 'time', nowMs };
  }
}

test('whatever comes: no term outlives what was asked for it, epochs of terms only grow, and what is over stays over', () => {
  fc.assert(
    fc.property(steps, (script) => {
      let state: ElectionState = firstState(3n);
      let nowMs = 0;
      let lastTerm = 3n;
      let latestAsk = 0;
      for (const step of script) {
        nowMs += step.afterMs;
        const event = eventOf(step, nowMs);
        const before: ElectionState = state;
        state = nextState(before, event, PERIOD_MS);
        assert.ok(state.highest >= before.highest, 'the highest epoch never goes back');
        if (state.kind !== 'leading') continue;
        const began = before.kind !== 'leading' || before.epoch !== state.epoch;
        if (began) {
          assert.equal(event.kind, 'acquired', 'only a lock that was had begins a term');
          assert.ok(state.epoch > lastTerm, 'with a higher epoch than any before');
          lastTerm = state.epoch;
          latestAsk = 0;
        }
        if ('askedAtMs' in event && (event.kind === 'acquired' || event.epoch === state.epoch)) {
          latestAsk = Math.max(latestAsk, event.askedAtMs);
        }
        assert.equal(state.untilMs, latestAsk + PERIOD_MS, 'believed for one period from when it was asked for');
        if ('nowMs' in event) assert.ok(event.nowMs < state.untilMs, 'nobody leads past its time');
      }
    }),
    { numRuns: 2000 },
  );
});

test('a lock that does not lapse is believed in until it is lost', () => {
  const led = nextState(
    firstState(0n),
    { kind: 'acquired', epoch: 1n, askedAtMs: 0, nowMs: 5 },
    Number.POSITIVE_INFINITY,
  );
  assert.equal(led.kind, 'leading');
  const later = nextState(led, { kind: 'time', nowMs: Number.MAX_SAFE_INTEGER }, Number.POSITIVE_INFINITY);
  assert.equal(later.kind, 'leading');
  assert.equal(nextState(later, { kind: 'lost' }, Number.POSITIVE_INFINITY).kind, 'standby');
});

test('an epoch that others have had, or an answer that comes when its time is over, begins no term', () => {
  const heard = nextState(firstState(0n), { kind: 'taken', holder: 'b', epoch: 7n }, PERIOD_MS);
  assert.deepEqual(heard, { kind: 'standby', leader: 'b', highest: 7n });
  assert.equal(nextState(heard, { kind: 'acquired', epoch: 7n, askedAtMs: 0, nowMs: 1 }, PERIOD_MS).kind, 'standby');
  const late = nextState(heard, { kind: 'acquired', epoch: 8n, askedAtMs: 0, nowMs: PERIOD_MS }, PERIOD_MS);
  assert.deepEqual(late, { kind: 'standby', leader: undefined, highest: 8n });
  const next = nextState(late, { kind: 'acquired', epoch: 8n, askedAtMs: PERIOD_MS, nowMs: PERIOD_MS + 1 }, PERIOD_MS);
  assert.equal(next.kind, 'standby', 'the epoch that came too late is used up');
});
