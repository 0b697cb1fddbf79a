// Every package that npm installs must carry a licence that lets us ship under Apache-2.0. Reads the lock file, which
// lists also the packages of other platforms, so that the answer is the same everywhere.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type LockFile, missingEntries } from '../dev/lock.ts';
import { readText } from './files.ts';
import { findingsResult, type Step } from './step.ts';

const ALLOWED = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'CC0-1.0',
  'ISC',
  'MIT',
  'MIT-0',
  // Copyleft by file: good for a package that is used from node_modules as it came, as noVNC is.
  'MPL-2.0',
  'Python-2.0',
  'Unlicense',
  'Zlib',
]);

interface LockedPackage {
  readonly version?: string;
  readonly license?: string;
  readonly hasInstallScript?: boolean;
  readonly link?: boolean;
}

/** True if an SPDX expression can be met with allowed licences only. Knows AND, OR and parentheses around the whole. */
export function isAllowedLicence(expression: string): boolean {
  const plain = expression.replace(/^\((.*)\)$/, '$1').trim();
  if (plain.includes('(')) return false;
  return plain.split(/\s+OR\s+/).some((choice) => choice.split(/\s+AND\s+/).every((name) => ALLOWED.has(name.trim())));
}

function licenceOf(root: string, path: string, locked: LockedPackage): string {
  if (locked.license !== undefined) return locked.license;
  const manifest = join(path, 'package.json');
  if (!existsSync(join(root, manifest))) return '';
  const { license, licenses } = JSON.parse(readText(root, manifest)) as { license?: unknown; licenses?: unknown };
  if (typeof license === 'string') return license;
  // How packages said it before SPDX expressions: a list of choices.
  return Array.isArray(licenses) ? licenses.map((choice: { type?: string }) => choice.type ?? '').join(' OR ') : '';
}

/** Findings for all packages of a lock file, and how many there are. */
export function inspectLicences(root: string): { readonly findings: readonly string[]; readonly count: number } {
  const lock = JSON.parse(readText(root, 'package-lock.json')) as { packages: Record<string, LockedPackage> };
  const manifest = JSON.parse(readText(root, 'package.json')) as { allowScripts?: Record<string, boolean> };
  const entries = Object.entries(lock.packages).filter(([path]) => path !== '');
  const findings: string[] = [];
  for (const [path, locked] of entries) {
    const name = path.replace(/^.*node_modules\//, '');
    const licence = licenceOf(root, path, locked);
    if (licence === '') findings.push(`${name}: no licence given`);
    else if (!isAllowedLicence(licence)) findings.push(`${name}: licence ${licence} isn't on the list`);
    if (locked.hasInstallScript && manifest.allowScripts?.[name] === undefined) {
      findings.push(`${name}: runs a script when installed; decide under allowScripts in package.json`);
    }
  }
  if (entries.length === 0) findings.push('package-lock.json lists no packages');
  return { findings, count: entries.length };
}

/** `npm run verify -- licences`. */
export const licencesStep: Step = {
  name: 'licences',
  purpose: 'every npm package may be used, and runs no unknown script when installed',
  run: async (root) => {
    const { findings, count } = inspectLicences(root);
    return findingsResult(findings, `${count} packages`);
  },
};

/** `npm run verify -- lock`. */
export const lockStep: Step = {
  name: 'lock',
  purpose: 'npm ci takes package-lock.json on every platform',
  run: async (root) => {
    const { entries, unknown } = missingEntries(JSON.parse(readText(root, 'package-lock.json')) as LockFile);
    const absent = Object.keys(entries).map((path) => `${path} has no entry; run \`npm run lock\``);
    return findingsResult([...absent, ...unknown.map((name) => `${name} has no entry`)], '');
  },
};
