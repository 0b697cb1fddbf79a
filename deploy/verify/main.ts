// `npm run verify`: everything that CI checks except the tests. `npm run verify -- NAME…` runs only the named checks,
// `-- --list` names them. All checks run even if one fails; the exit code is 1 if any did. It changes no file.
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { stripVTControlCharacters, styleText } from 'node:util';
import { contractSteps } from './contract.ts';
import { documentsStep } from './documents.ts';
import { importsStep } from './imports.ts';
import { licencesStep, lockStep } from './licences.ts';
import { shellStep } from './shell.ts';
import { sizesStep } from './sizes.ts';
import { type Step, type StepResult, toolResult } from './step.ts';
import { wordsStep } from './words.ts';

const STEPS: readonly Step[] = [
  {
    name: 'biome',
    purpose: 'code is formatted and lint finds nothing',
    run: (root) =>
      toolResult(['biome', 'ci', '--error-on-warnings', '--colors=off', '.'], { cwd: root }, (output) => {
        return /Checked (\d+ files)/.exec(output)?.[1] ?? '';
      }),
  },
  { name: 'types', purpose: 'tsc finds nothing', run: (root) => toolResult(['tsc', '-p', '.'], { cwd: root }) },
  importsStep,
  ...contractSteps,
  sizesStep,
  wordsStep,
  licencesStep,
  lockStep,
  documentsStep,
  shellStep,
];

async function runStep(step: Step, root: string): Promise<{ readonly result: StepResult; readonly seconds: number }> {
  const started = performance.now();
  const result = await step.run(root).catch(
    (error: unknown): StepResult => ({
      ok: false,
      summary: 'broke',
      output: String((error as Error)?.stack ?? error),
    }),
  );
  return { result, seconds: (performance.now() - started) / 1000 };
}

function print(text: string): void {
  process.stdout.write(`${process.stdout.isTTY ? text : stripVTControlCharacters(text)}\n`);
}

async function verify(steps: readonly Step[], root: string): Promise<boolean> {
  const queue = [...steps];
  const failed: string[] = [];
  const worker = async () => {
    for (let step = queue.shift(); step !== undefined; step = queue.shift()) {
      const { result, seconds } = await runStep(step, root);
      const word = result.ok ? styleText('green', 'ok  ') : styleText('red', 'FAIL');
      print(`${word} ${step.name.padEnd(13)} ${seconds.toFixed(1).padStart(5)} s  ${result.summary}`);
      if (result.output !== '') print(result.output.replace(/^/gm, '     '));
      if (!result.ok) failed.push(step.name);
    }
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
  print(failed.length === 0 ? `verify: all ${steps.length} checks passed` : `verify: failed: ${failed.join(', ')}`);
  return failed.length === 0;
}

async function main(args: readonly string[]): Promise<number> {
  if (args.includes('--list') || args.includes('--help')) {
    for (const step of STEPS) print(`${step.name.padEnd(13)} ${step.purpose}`);
    return 0;
  }
  const unknown = args.filter((name) => !STEPS.some((step) => step.name === name));
  if (unknown.length > 0) {
    process.stderr.write(
      `verify: no check is called ${unknown.join(', ')}; there are ${STEPS.map((s) => s.name).join(', ')}\n`,
    );
    return 2;
  }
  const chosen = args.length === 0 ? STEPS : STEPS.filter((step) => args.includes(step.name));
  const root = dirname(dirname(import.meta.dirname));
  return (await verify(chosen, root)) ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
