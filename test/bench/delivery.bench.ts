// Ten thousand seeded simulations of agents and a controller under kills, loss of power, partitions, reordering, and torn, full
// and failing disks (test/simulation): how many commands were lost, done twice, or told other than they happened.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { RangeOutcome, SeedRange } from '../simulation/simulation-worker.ts';
import type { Bench } from './bench.ts';

const WORKER = join(import.meta.dirname, '../simulation/simulation-worker.ts');
/** Failures that are shown whole. */
const SHOWN = 3;

async function outcomeOf(child: ChildProcess, range: SeedRange): Promise<RangeOutcome> {
  child.send(range);
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the process with seeds ${range.first} to ${range.last} ended with ${code}`);
  });
  ended.catch(() => undefined);
  const [outcome] = (await Promise.race([once(child, 'message'), ended])) as [RangeOutcome];
  return outcome;
}

/** The bench. */
export const bench: Bench = {
  name: 'delivery',
  description: 'seeded simulations of kill, partition, torn write and reorder',
  missing: () => undefined,
  run: async ({ quick, say }) => {
    const count = quick ? 100 : 10_000;
    const processes = Math.min(availableParallelism(), 8);
    const each = Math.ceil(count / processes);
    const ranges = Array.from({ length: processes }, (_, index) => {
      return { first: index * each + 1, last: Math.min(count, (index + 1) * each) };
    });
    const children = ranges.map(() => fork(WORKER));
    try {
      const outcomes = await Promise.all(ranges.map((range, index) => outcomeOf(children[index]!, range)));
      const failures = outcomes.flatMap((outcome) => outcome.failures);
      for (const failure of failures.slice(0, SHOWN)) say(failure);
      const sum = (key: keyof RangeOutcome['tally']) => outcomes.reduce((total, { tally }) => total + tally[key], 0);
      const goal = { kind: 'at most', value: 0 } as const;
      return [
        { metric: `of ${count} runs, with a command lost or done twice`, unit: 'runs', ours: failures.length, goal },
        { metric: 'commands', unit: '', ours: sum('orders') },
        { metric: 'of them, ended as indeterminate', unit: '', ours: sum('indeterminate') },
        { metric: 'kills of an agent', unit: '', ours: sum('agentKills') },
        { metric: 'losses of power', unit: '', ours: sum('powerLosses') },
        { metric: 'kills of the controller', unit: '', ours: sum('controllerKills') },
        { metric: 'resets and partitions', unit: '', ours: sum('cuts') + sum('partitions') },
        { metric: 'full, failing and slow disks', unit: '', ours: sum('diskFaults') },
      ];
    } finally {
      for (const child of children) child.kill('SIGKILL');
    }
  },
};
