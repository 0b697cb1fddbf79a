import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFlowing, noteFlow } from '../../src/core/collection-pace.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('output counts as flowing from some megabytes on, and not any more when it stops', async () => {
  noteFlow(1000);
  assert.equal(isFlowing(), false, 'a line now and then changes nothing');
  noteFlow(4 * 1024 * 1024);
  assert.equal(isFlowing(), true);
  const endsAt = performance.now() + 60_000;
  // The timer that looks doesn't keep the process alive.
  const alive = setInterval(() => undefined, 100);
  while (isFlowing() && performance.now() < endsAt) await turn();
  clearInterval(alive);
  assert.equal(isFlowing(), false);
});
