// `npm run bench`: runs all benches, or those named; `-- --list` names them, `-- --quick` only sees that they work. Prints a
// table each, and writes it with the machine's facts as JSON and SVG below results/, which is not committed. Falling short of
// a goal is shown, and is no failure unless `--strict` is given; a bench that breaks is.
import { glob, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect, parseArgs } from 'node:util';
import { type Bench, isMet, ratioOf } from './bench.ts';
import { machineFacts } from './machine.ts';
import { benchPlot, benchTable } from './presentation.ts';

const RESULTS = join(dirname(dirname(import.meta.dirname)), 'results');

async function loadBenches(): Promise<readonly Bench[]> {
  const benches: Bench[] = [];
  for await (const file of glob('*.bench.ts', { cwd: import.meta.dirname })) {
    const module = (await import(pathToFileURL(join(import.meta.dirname, file)).href)) as { bench: Bench };
    benches.push(module.bench);
  }
  return benches.sort((a, b) => a.name.localeCompare(b.name));
}

const print = (text: string): void => void process.stdout.write(`${text}\n`);

type Verdict = 'met' | 'short' | 'skipped' | 'broken';

async function runBench(bench: Bench, quick: boolean, machine: Readonly<Record<string, string>>): Promise<Verdict> {
  print(`\n## ${bench.name}: ${bench.description}\n`);
  const missing = bench.missing();
  if (missing !== undefined) {
    print(`skipped: ${missing}`);
    return 'skipped';
  }
  try {
    const rows = await bench.run({ quick, say: (text) => print(`… ${text}`) });
    print(benchTable(rows));
    const judged = rows.map((row) => ({ ...row, ratio: ratioOf(row) ?? null, met: isMet(row) ?? null }));
    const { name, description } = bench;
    await mkdir(RESULTS, { recursive: true });
    const json = JSON.stringify({ name, description, quick, machine, rows: judged }, null, 2);
    await writeFile(join(RESULTS, `${name}.json`), `${json}\n`);
    await writeFile(join(RESULTS, `${name}.svg`), benchPlot(`${name}: ${description}`, rows));
    return judged.some((row) => row.met === false) ? 'short' : 'met';
  } catch (error) {
    print(`broken: ${inspect(error)}`);
    return 'broken';
  }
}

async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      list: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      strict: { type: 'boolean', default: false },
    },
  });
  const benches = await loadBenches();
  if (values.list) {
    for (const bench of benches) print(`${bench.name.padEnd(16)} ${bench.description}`);
    return 0;
  }
  const unknown = positionals.filter((name) => !benches.some((bench) => bench.name === name));
  if (unknown.length > 0) {
    process.stderr.write(
      `bench: none is called ${unknown.join(', ')}; there are ${benches.map((b) => b.name).join(', ')}\n`,
    );
    return 2;
  }
  const machine = await machineFacts();
  for (const [name, fact] of Object.entries(machine)) print(`${name.padEnd(13)} ${fact}`);
  const verdicts: [string, Verdict][] = [];
  for (const bench of benches) {
    if (positionals.length > 0 && !positionals.includes(bench.name)) continue;
    verdicts.push([bench.name, await runBench(bench, values.quick, machine)]);
  }
  print('');
  for (const [name, verdict] of verdicts)
    print(`${name.padEnd(16)} ${verdict === 'short' ? 'FALLS SHORT of a goal' : verdict}`);
  if (verdicts.some(([, verdict]) => verdict === 'broken')) return 1;
  return values.strict && verdicts.some(([, verdict]) => verdict === 'short') ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
