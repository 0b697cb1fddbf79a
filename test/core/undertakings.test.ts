import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Undertakings } from '../../src/core/undertakings.ts';
import { ManualClock } from '../fixtures/manual-clock.ts';

it('of things side by side each has its time, and none is waited for once it is over', async () => {
  const clock = new ManualClock();
  const turns = new Undertakings('meshes', clock);
  const ends = new Map<string, () => void>();
  const run = (what: string, ms: number) =>
    turns.run(what, ms, () => new Promise<string>((resolve) => ends.set(what, () => resolve(what))));
  const [slow, quick] = [run('mesh slow', 60_000), run('mesh quick', 1_000)];
  const late = () => turns.progress.flatMap((one) => one.overdue()?.what ?? []);
  assert.deepEqual(late(), []);
  clock.advance(2_000);
  assert.deepEqual(late(), ['meshes: mesh quick']);
  ends.get('mesh quick')!();
  assert.equal(await quick, 'mesh quick');
  assert.deepEqual(late(), []);
  clock.advance(60_000);
  assert.deepEqual(late(), ['meshes: mesh slow']);
  ends.get('mesh slow')!();
  await slow;
  await assert.rejects(
    turns.run('mesh bad', 1_000, async () => {
      throw new Error('no');
    }),
    /no/,
  );
  clock.advance(60_000);
  assert.deepEqual([...turns.progress], [], 'nor one that failed');
});
