// One check of `npm run verify`: what a check is, and the shape most of them have (run a tool, pass if it exits with 0).
import { delimiter, dirname, join } from 'node:path';
import { type CommandOptions, runCommand } from '../dev/command.ts';

/** What came out of a check. */
export interface StepResult {
  readonly ok: boolean;
  /** One line on what was looked at, "212 files". */
  readonly summary: string;
  /** What is wrong, or worth knowing though nothing is wrong. */
  readonly output: string;
}

/** A check that can be run alone by its name. */
export interface Step {
  readonly name: string;
  readonly purpose: string;
  /** @param root absolute path of the repository. */
  run(root: string): Promise<StepResult>;
}

/** Runs a tool, ours from node_modules first; fails if it doesn't exit with 0. `summarise` picks the line to show from its output. */
export async function toolResult(
  argv: readonly [string, ...string[]],
  options: CommandOptions,
  summarise: (output: string) => string = () => '',
): Promise<StepResult> {
  const tools = join(dirname(dirname(import.meta.dirname)), 'node_modules', '.bin');
  const env = { PATH: `${tools}${delimiter}${process.env['PATH']}` };
  const result = await runCommand(argv, { timeoutMs: 300_000, env, ...options });
  const output = `${result.stdout}${result.stderr}`.trim();
  if (result.code === 0) return { ok: true, summary: summarise(output), output: '' };
  return { ok: false, summary: `${argv[0]} exited with ${result.code}`, output };
}

/** Result of a check that lists findings: any finding is a failure. */
export function findingsResult(
  findings: readonly string[],
  summary: string,
  warnings: readonly string[] = [],
): StepResult {
  return {
    ok: findings.length === 0,
    summary,
    output: [...findings, ...warnings.map((w) => `warning: ${w}`)].join('\n'),
  };
}
