// Checks of proto/ and gen/: lint, format, no breaking change against what was there before, and that gen/ is exactly
// what buf generates. What to compare with depends on the clone; the step says which revision it took, or why none.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../dev/command.ts';
import { findingsResult, type Step, type StepResult, toolResult } from './step.ts';

/** The revision that the contract is compared with, or why there is none. */
export type ContractBase =
  | { readonly kind: 'revision'; readonly commit: string; readonly name: string }
  | { readonly kind: 'none'; readonly why: string };

async function git(root: string, ...args: string[]): Promise<string | undefined> {
  const result = await runCommand(['git', ...args], { cwd: root });
  return result.code === 0 ? result.stdout.trim() : undefined;
}

/**
 * LONGLINE_BREAKING_BASE if set; else main, as origin or this clone has it, if the contract differs from it; else, because then
 * this is main, the revision before the last change of proto/.
 */
export async function contractBase(
  root: string,
  wanted = process.env['LONGLINE_BREAKING_BASE'],
): Promise<ContractBase> {
  if (wanted !== undefined && wanted !== '') {
    const commit = await git(root, 'rev-parse', '--verify', '--quiet', `${wanted}^{commit}`);
    if (commit === undefined) throw new Error(`LONGLINE_BREAKING_BASE is ${wanted}, which git doesn't know`);
    return { kind: 'revision', commit, name: wanted };
  }
  for (const name of ['origin/main', 'main', 'HEAD']) {
    const commit = await git(root, 'rev-parse', '--verify', '--quiet', `${name}^{commit}`);
    if (commit === undefined || (await git(root, 'diff', '--quiet', commit, '--', 'proto')) !== undefined) continue;
    if (((await git(root, 'ls-tree', '--name-only', commit, 'proto')) ?? '') === '') continue;
    return { kind: 'revision', commit, name };
  }
  const before = await git(root, 'log', '--format=%H', '--skip=1', '-1', '--', 'proto');
  if (before)
    return { kind: 'revision', commit: before, name: `${before.slice(0, 10)}, before the last change of proto/` };
  const shallow = (await git(root, 'rev-parse', '--is-shallow-repository')) === 'true';
  const why = shallow ? 'the clone is shallow and holds no earlier contract' : 'there is no earlier contract in git';
  return { kind: 'none', why };
}

async function breaking(root: string): Promise<StepResult> {
  const base = await contractBase(root);
  if (base.kind === 'none') return { ok: true, summary: `nothing to compare with: ${base.why}`, output: '' };
  const folder = await mkdtemp(join(tmpdir(), 'longline-contract-'));
  try {
    const archive = join(folder, 'contract.tar');
    const packed = await runCommand(['git', 'archive', '-o', archive, base.commit, 'proto', 'buf.yaml'], { cwd: root });
    if (packed.code !== 0) return { ok: false, summary: `can't read ${base.name}`, output: packed.stderr };
    return await toolResult(['buf', 'breaking', '--against', archive], { cwd: root }, () => `against ${base.name}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function readTree(folder: string): Promise<ReadonlyMap<string, Buffer>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    await Promise.all(files.map(async (file) => [file.slice(folder.length + 1), await readFile(file)] as const)),
  );
}

/** Differences between two folders, one line each. */
export async function compareTrees(expected: string, actual: string): Promise<readonly string[]> {
  const [want, have] = await Promise.all([readTree(expected), readTree(actual)]);
  const findings: string[] = [];
  for (const [path, data] of want) {
    const found = have.get(path);
    if (found === undefined) findings.push(`gen/${path} is missing`);
    else if (!found.equals(data)) findings.push(`gen/${path} differs from what buf generates`);
  }
  for (const path of have.keys())
    if (!want.has(path)) findings.push(`gen/${path} isn't generated from proto/ any more`);
  return findings;
}

async function generated(root: string): Promise<StepResult> {
  const folder = await mkdtemp(join(tmpdir(), 'longline-gen-'));
  try {
    const made = await toolResult(['buf', 'generate', '-o', folder], { cwd: root });
    if (!made.ok) return made;
    const findings = await compareTrees(join(folder, 'gen'), join(root, 'gen'));
    const hint = findings.length === 0 ? [] : ['run `npm run gen` and commit the result'];
    return findingsResult([...findings, ...hint], `${(await readTree(join(folder, 'gen'))).size} files`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** `npm run verify -- buf-lint`, `buf-format`, `buf-breaking`, `gen`. */
export const contractSteps: readonly Step[] = [
  {
    name: 'buf-lint',
    purpose: 'proto/ follows the STANDARD and COMMENTS rules',
    run: (root) => toolResult(['buf', 'lint'], { cwd: root }),
  },
  {
    name: 'buf-format',
    purpose: 'proto/ is formatted',
    run: (root) => toolResult(['buf', 'format', '--diff', '--exit-code'], { cwd: root }),
  },
  { name: 'buf-breaking', purpose: 'no change of proto/ breaks who speaks it already', run: breaking },
  { name: 'gen', purpose: 'gen/ is exactly what buf generates from proto/', run: generated },
];
