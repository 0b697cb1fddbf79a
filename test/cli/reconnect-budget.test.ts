import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import { ReconnectBudget } from '../../src/cli/job/reconnect-budget.ts';
import type { Clock } from '../../src/core/clock.ts';
import { LonglineError } from '../../src/core/errors.ts';

const LIMITS = { giveUpMs: 10_000, baseMs: 100, capMs: 1000 };
const broken = new ConnectError('broken', Code.Unavailable);
const same = (thrown: unknown) => thrown;

function handClock() {
  let nowMs = 0;
  const waits: number[] = [];
  const clock: Clock = {
    now: () => nowMs,
    monotonic: () => nowMs,
    sleep: async (ms, signal) => {
      signal?.throwIfAborted();
      waits.push(ms);
      nowMs += ms;
    },
  };
  return {
    clock,
    waits,
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

test('without any answer yet the first failure is final', async () => {
  const { clock, waits } = handClock();
  await assert.rejects(new ReconnectBudget(LIMITS, clock).wait(broken, same), broken);
  assert.equal(waits.length, 0);
});

test('after progress it waits within the bounds, and gives up once there was none for the limit', async () => {
  const { clock, waits, pass } = handClock();
  const budget = new ReconnectBudget(LIMITS, clock);
  budget.progress();
  for (let count = 0; count < 8; count++) await budget.wait(broken, same);
  assert.ok(waits.every((ms) => ms >= 0 && ms <= LIMITS.capMs));
  budget.progress();
  // A job that was silent for long is no outage: the limit counts from the first failure.
  pass(LIMITS.giveUpMs * 10);
  await budget.wait(broken, same);
  pass(LIMITS.giveUpMs + 1);
  await assert.rejects(budget.wait(broken, same), (error: unknown) => {
    assert.ok(error instanceof LonglineError && error.reason === 'unavailable');
    return /gave up: .*broken/.test(error.message);
  });
});

test('what the controller refused is never tried again', async () => {
  for (const code of [Code.NotFound, Code.PermissionDenied, Code.InvalidArgument, Code.Unauthenticated]) {
    const { clock } = handClock();
    const budget = new ReconnectBudget(LIMITS, clock);
    budget.progress();
    const refused = new ConnectError('no', code);
    await assert.rejects(budget.wait(refused, same), refused);
  }
});

test('a fault that may be of the server’s own ends after a few tries', async () => {
  const { clock } = handClock();
  const budget = new ReconnectBudget(LIMITS, clock);
  budget.progress();
  const fault = new ConnectError('bug', Code.Internal);
  for (let count = 0; count < 5; count++) await budget.wait(fault, same);
  await assert.rejects(budget.wait(fault, same), fault);
});

test('an aborted wait ends with the signal’s reason', async () => {
  const { clock } = handClock();
  const budget = new ReconnectBudget(LIMITS, clock);
  budget.progress();
  const reason = new LonglineError('cancelled', 'interrupted');
  await assert.rejects(budget.wait(broken, same, AbortSignal.abort(reason)), reason);
});
