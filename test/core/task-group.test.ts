import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { TaskGroup } from '../../src/core/task-group.ts';

const untilAborted = async (signal: AbortSignal): Promise<void> => {
  if (!signal.aborted) await once(signal, 'abort');
  throw signal.reason;
};

test('the first failure aborts the siblings and is what wait throws', async () => {
  await using group = new TaskGroup();
  let stopped = 0;
  group.spawn((signal) => untilAborted(signal).finally(() => stopped++));
  group.spawn(async () => {
    throw new Error('first');
  });
  await assert.rejects(group.wait(), /first/);
  assert.equal(stopped, 1);
});

test('wait also waits for tasks spawned by tasks', async () => {
  await using group = new TaskGroup();
  const done: string[] = [];
  group.spawn(async () => {
    await new Promise(setImmediate);
    group.spawn(async () => {
      await new Promise(setImmediate);
      done.push('inner');
    });
    done.push('outer');
  });
  await group.wait();
  assert.deepEqual(done, ['outer', 'inner']);
});

test('the parent aborts the group with its reason, also if it had aborted before', async () => {
  const parent = new AbortController();
  await using early = new TaskGroup(parent.signal);
  early.spawn(untilAborted);
  parent.abort(new Error('stop'));
  await using late = new TaskGroup(parent.signal);
  assert.match(String(early.signal.reason), /stop/);
  assert.match(String(late.signal.reason), /stop/);
  await early.wait();
});

test('dispose ends all tasks, swallows what stopping throws, and may be called twice', async () => {
  const group = new TaskGroup();
  let ended = false;
  group.spawn((signal) =>
    untilAborted(signal).finally(() => {
      ended = true;
    }),
  );
  await group[Symbol.asyncDispose]();
  await group[Symbol.asyncDispose]();
  assert.equal(ended, true);
});
