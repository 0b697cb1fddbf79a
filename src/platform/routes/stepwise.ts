// Systems whose tools take one change each: a process for each step, in order, and what it says if it fails.
import type { LinkRefusal, LinkStep } from '../../capabilities/network/ports.ts';
import type { RunCommand } from '../../core/command.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';

/** A program and its arguments. */
export type Argv = readonly [string, ...string[]];

/** Takes steps one by one. `commandsOf` gives what has to be run for one; it throws if the system knows no such thing. */
export async function takeSteps(
  run: RunCommand,
  steps: readonly LinkStep[],
  commandsOf: (step: LinkStep) => readonly Argv[],
  signal: AbortSignal | undefined,
): Promise<readonly LinkRefusal[]> {
  const refusals: LinkRefusal[] = [];
  for (const step of steps) {
    try {
      for (const argv of commandsOf(step)) await succeed(run, argv, signal);
    } catch (thrown) {
      const error = toLonglineError(thrown);
      if (error.reason === 'cancelled') throw error;
      refusals.push({ step, error });
    }
  }
  return refusals;
}

async function succeed(run: RunCommand, argv: Argv, signal: AbortSignal | undefined): Promise<void> {
  const { code, stderr, stdout } = await run({ argv }, signal);
  // `route` of macOS ends with 0 whatever the kernel says.
  const said = `${stderr} ${stdout}`.trim();
  const failed = code !== 0 || /: (File exists|not in table|Operation not permitted)/.test(said);
  if (failed) throw new LonglineError('invalid', `${argv[0]} says "${said.slice(0, 300)}"`);
}

/** For systems with one routing table and no rules. */
export function noRules(step: LinkStep): never {
  throw new LonglineError('unsupported', `${step.kind}: this system has one routing table, and no rules`);
}
