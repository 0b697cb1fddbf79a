// Runs a range of seeds in a process of its own, told and telling over IPC.
import { SimulationFolder } from './simulation-folder.ts';

/** Seeds to run. */
export interface SeedRange {
  readonly first: number;
  readonly last: number;
}

/** How they went. */
export interface RangeOutcome {
  readonly failures: readonly string[];
  readonly tally: SimulationFolder['tally'];
}

process.once('message', async ({ first, last }: SeedRange) => {
  using folder = await SimulationFolder.make();
  const failures: string[] = [];
  for (let seed = first; seed <= last; seed++) {
    const failure = await folder.failureOf(seed);
    if (failure !== undefined) failures.push(failure);
  }
  const outcome: RangeOutcome = { failures, tally: folder.tally };
  process.send!(outcome, undefined, undefined, () => process.disconnect!());
});
