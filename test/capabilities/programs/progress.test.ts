import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import { ProgramsWorld, spec, untilLife } from './programs-fixture.ts';

const MINUTE_MS = 60_000;

describe('passes over a program', () => {
  it('get on while it runs; a kernel that never answers is stuck, a fetch that takes its time is not', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const late = () => capability.progress.flatMap((one) => one.overdue()?.what ?? []);
    await capability.applyLocal(spec('good', await world.artifact()));
    await untilLife(capability, 'good', 'probation', 'active');
    await world.pass(3 * MINUTE_MS, 36);
    assert.deepEqual(late(), []);

    const slow = await world.artifact({ version: '2.0.0' });
    const fetched = Promise.withResolvers<Uint8Array>();
    const { artifacts } = world;
    const isHeld = (digest: string) => digest === slow;
    const get = artifacts.get.bind(artifacts);
    artifacts.get = (digest) => (isHeld(digest) ? (fetched.promise as unknown as Uint8Array) : get(digest));
    const applied = capability.applyLocal(spec('slow', slow));
    await world.settle();
    await world.pass(50 * MINUTE_MS, 300);
    assert.deepEqual(late(), [], 'what comes slowly comes');
    await world.pass(11 * MINUTE_MS, 66);
    assert.deepEqual(late(), ['program slow: the fetch of an artifact']);
    fetched.reject(new LonglineError('unavailable', 'the source is gone'));
    await applied;
    await world.settle();
    assert.deepEqual(late(), []);

    const { kernel } = world;
    const list = kernel.list.bind(kernel);
    const answered = Promise.withResolvers<void>();
    kernel.list = async () => {
      await answered.promise;
      return await list();
    };
    await world.pass(MINUTE_MS, 12);
    await world.pass(6 * MINUTE_MS, 72);
    assert.ok(late().includes('program good: a pass'), late().join());
    answered.resolve();
    await world.settle();
    await world.pass(MINUTE_MS, 12);
    assert.deepEqual(late(), []);
  });
});
