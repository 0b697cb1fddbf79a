import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { ContainerExit, ContainerFacts } from '../../../src/capabilities/jobs/ports.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { ExitWatch, type ExitWatchOptions } from '../../../src/platform/docker/exit-watch.ts';

const LOST = new Promise<never>(() => undefined);

/** An engine of which only the ends are known. */
class Ends {
  readonly exited = new Map<string, number>();
  listings = 0;
  inspections = 0;
  fail: Error | undefined;

  watch(options: ExitWatchOptions = { everyMs: 20, afterOutputMs: 5 }): ExitWatch {
    return new ExitWatch(
      {
        exited: async () => {
          this.listings += 1;
          if (this.fail !== undefined) throw this.fail;
          return new Set(this.exited.keys());
        },
        inspect: async (id) => {
          this.inspections += 1;
          return { id, state: 'exited', exitCode: this.exited.get(id) } as ContainerFacts;
        },
      },
      options,
    );
  }

  async nextListing(): Promise<void> {
    const before = this.listings;
    while (this.listings === before) await delay(2);
  }
}

function started(watch: ExitWatch, id: string, answer: Promise<ContainerExit> = LOST): Promise<ContainerExit> {
  const exit = watch.watch(id, answer, () => undefined);
  watch.running(id);
  return exit;
}

suite('exit watch', () => {
  test('the answer of the engine is the end, and nothing is listed after it', async () => {
    const ends = new Ends();
    using watch = ends.watch();
    let givenUp = 0;
    const exit = watch.watch('a', Promise.resolve({ exitCode: 3 }), () => {
      givenUp += 1;
    });
    assert.deepEqual(await exit, { exitCode: 3 });
    assert.equal(givenUp, 1);
    await delay(60);
    assert.equal(ends.listings, 0);
    const refused = new LonglineError('unavailable', 'gone');
    await assert.rejects(
      watch.watch('b', Promise.reject(refused), () => undefined),
      refused,
    );
  });

  test('one listing backs up all waits, and only those that ended are inspected', async () => {
    const ends = new Ends();
    using watch = ends.watch();
    const exits = Array.from({ length: 300 }, (_, index) => started(watch, `c${index}`));
    await ends.nextListing();
    assert.equal(ends.inspections, 0);
    for (const id of ['c7', 'c299']) ends.exited.set(id, id.length);
    assert.deepEqual(await Promise.all([exits[7], exits[299]]), [{ exitCode: 2 }, { exitCode: 4 }]);
    assert.equal(ends.inspections, 2);
    for (let index = 0; index < 300; index++) ends.exited.set(`c${index}`, 0);
    await Promise.all(exits);
  });

  test('a container that ended before is not taken for one that ends', async () => {
    const ends = new Ends();
    using watch = ends.watch();
    ends.exited.set('old', 1);
    ends.exited.set('other', 0);
    const old = watch.watch('old', LOST, () => undefined);
    let over = false;
    void old.then(() => {
      over = true;
    });
    await started(watch, 'other');
    assert.equal(over, false);
    watch.running('old');
    assert.deepEqual(await old, { exitCode: 1 });
  });

  test('the end of the output asks at once', async () => {
    const ends = new Ends();
    using watch = ends.watch({ everyMs: 3_600_000, afterOutputMs: 5 });
    const exit = started(watch, 'a');
    ends.exited.set('a', 9);
    watch.outputEnded('a');
    watch.outputEnded('unknown');
    assert.deepEqual(await exit, { exitCode: 9 });
    assert.equal(ends.listings, 1);
  });

  test('a listing that fails is made again', async () => {
    const ends = new Ends();
    using watch = ends.watch();
    const exit = started(watch, 'a');
    ends.fail = new LonglineError('unavailable', 'no answer');
    await ends.nextListing();
    await ends.nextListing();
    ends.fail = undefined;
    ends.exited.set('a', 0);
    assert.deepEqual(await exit, { exitCode: 0 });
  });
});
