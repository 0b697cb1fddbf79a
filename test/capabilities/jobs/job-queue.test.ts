import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { JobQueue, type Place } from '../../../src/capabilities/jobs/job-queue.ts';
import { LonglineError } from '../../../src/core/errors.ts';

const forever = new AbortController().signal;

suite('the queue', () => {
  test('admits in order, tells positions as they change, and refuses when it is full', async () => {
    const queue = new JobQueue(1, 2);
    const first = await queue.take(() => assert.fail('it should not wait'), forever);
    const heard: string[] = [];
    const leaving = new AbortController();
    const second = queue.take((position) => heard.push(`second ${position}`), leaving.signal);
    const third = queue.take((position) => heard.push(`third ${position}`), forever);
    await assert.rejects(
      queue.take(() => assert.fail('it should not wait'), forever),
      { reason: 'limit' },
    );
    leaving.abort(new LonglineError('cancelled', 'left'));
    await assert.rejects(second, { reason: 'cancelled' });
    first.release();
    first.release();
    const place = await third;
    assert.deepEqual(heard, ['second 1', 'third 2', 'third 1']);
    assert.deepEqual([queue.running, queue.waiting], [1, 0]);
    place.release();
    assert.equal(queue.running, 0);
  });

  test('takes known jobs beyond its bound and running ones beyond its limit', async () => {
    const queue = new JobQueue(1, 0);
    const adopted = [queue.takeAnyway(), queue.takeAnyway()];
    const known = queue.take(() => undefined, forever, true);
    assert.deepEqual([queue.running, queue.waiting], [2, 1]);
    adopted[0]!.release();
    assert.equal(queue.waiting, 1);
    adopted[1]!.release();
    (await known).release();
    assert.deepEqual([queue.running, queue.waiting], [0, 0]);
  });

  test('never runs more than its limit, never leaves a place free while somebody waits, and loses nobody', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.constantFrom('come', 'end', 'leave'), { maxLength: 40 }),
        async (limit, acts) => {
          const queue = new JobQueue(limit, 1000);
          const running: Place[] = [];
          const waiting: { leave: AbortController; left: boolean }[] = [];
          let came = 0;
          let over = 0;
          for (const act of acts) {
            if (act === 'come') {
              came += 1;
              const entry = { leave: new AbortController(), left: false };
              waiting.push(entry);
              queue
                .take(() => undefined, entry.leave.signal)
                .then(
                  (place) => {
                    waiting.splice(waiting.indexOf(entry), 1);
                    running.push(place);
                  },
                  () => {
                    waiting.splice(waiting.indexOf(entry), 1);
                    over += 1;
                  },
                );
            } else if (act === 'end' && running.length > 0) {
              running.shift()!.release();
              over += 1;
            } else if (act === 'leave') waiting.at(-1)?.leave.abort();
            for (let turn = 0; turn < 5; turn++) await Promise.resolve();
            assert.ok(queue.running <= limit);
            assert.ok(queue.waiting === 0 || queue.running === limit);
            assert.equal(running.length + waiting.length + over, came);
            assert.equal(queue.running, running.length);
          }
        },
      ),
    );
  });
});
