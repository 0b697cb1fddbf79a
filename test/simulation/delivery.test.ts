import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { faultSeeds } from '../fixtures/seeded-random.ts';
import { SimulationFolder } from './simulation-folder.ts';

/** LONGLINE_FAULT_SEEDS="7" repeats one run, and prints what happened in it if it fails; `npm run bench -- delivery` does many. */
const SEEDS = faultSeeds(120);

describe('delivery of commands under faults', () => {
  let folder: SimulationFolder;

  before(async () => {
    folder = await SimulationFolder.make();
  });

  after(() => folder[Symbol.dispose]());

  it(`loses nothing and does nothing twice in ${SEEDS.length} seeded runs`, async () => {
    const failures: string[] = [];
    for (const seed of SEEDS) {
      const failure = await folder.failureOf(seed);
      if (failure !== undefined) failures.push(failure);
    }
    assert.deepEqual(failures, []);
    const { tally } = folder;
    for (const [fault, count] of Object.entries(tally)) {
      if (SEEDS.length > 100) assert.ok(count > 0, `no run had any ${fault}`);
    }
  });

  it('gives the same run for the same seed', async () => {
    const first = await folder.traceOf(5);
    const second = await folder.traceOf(5);
    assert.ok(first.length > 50);
    const differs = first.findIndex((line, index) => line !== second[index]);
    assert.equal(differs, -1, `${first[differs]}\n${second[differs]}`);
    assert.equal(first.length, second.length);
  });
});
