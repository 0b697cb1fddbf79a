import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, it } from 'node:test';
import { drained } from '../../../src/controller/front/drained.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';

const is = (reason: string) => (error: unknown) => error instanceof LonglineError && error.reason === reason;

describe('waiting for a reader', () => {
  it('ends with whatever comes first, and leaves no listener', async () => {
    for (const event of ['drain', 'close', 'cancelled', 'error']) {
      const stream = new EventEmitter();
      const waiting = drained(stream, systemClock);
      stream.emit(event);
      await waiting;
      assert.deepEqual(stream.eventNames(), [], event);
    }
    const leaving = new AbortController();
    const waiting = drained(new EventEmitter(), systemClock, leaving.signal);
    leaving.abort();
    await waiting;
    await drained(new EventEmitter(), systemClock, leaving.signal);
  });

  it('gives up one that reads nothing for a minute', async () => {
    const stream = new EventEmitter();
    await assert.rejects(drained(stream, fastClock(10_000)), is('late'));
    assert.deepEqual(stream.eventNames(), []);
  });
});
