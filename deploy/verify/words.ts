// Finds what must not be committed: unfinished work, silenced checks, tests that run alone or never, and paths of the
// machine it was written on. The patterns are written so that this file doesn't match itself.
import { homedir } from 'node:os';
import { dirname } from 'node:path';
import { listFiles, readText } from './files.ts';
import { findingsResult, type Step } from './step.ts';

interface Ban {
  readonly pattern: RegExp;
  readonly files: RegExp;
  readonly why: string;
}

const CODE = /\.(ts|js|sh|py|go|proto)$|^\.ci\/run$|^deploy\/dev\/[a-z-]+$/;
const TESTS = /^test\/.*\.ts$/;
const ANY = /./;
/** Published contracts of other projects, kept as they are. */
const FOREIGN = /^test\/fixtures\/otlp\/proto\//;

const BANS: readonly Ban[] = [
  { pattern: /\b(TO[D]O|FIX[M]E|XX[X])\b/, files: CODE, why: 'finish it or open an issue' },
  { pattern: /\bconsole[.](log|error|warn|info|debug)\(/, files: CODE, why: 'write through a logger or writer' },
  { pattern: /@ts-(ignor[e]|nochec[k]|expect-erro[r])/, files: CODE, why: 'mend the type instead' },
  { pattern: /biome-ignor[e](?! lint\/[\w/]+: \w)/, files: CODE, why: 'name the rule and say why' },
  { pattern: /\b(describe|suite|it|test)[.]only\(|\bonly[:] true/, files: TESTS, why: 'the rest would not run' },
  { pattern: /\b(describe|suite|it|test)[.](skip|todo)\(/, files: TESTS, why: 'skip at run time, with the reason' },
  { pattern: /^(<{7}|>{7}|={7})( |$)/m, files: ANY, why: 'unresolved merge' },
  { pattern: /-----BEGIN [A-Z ]*PRIVATE[ ]KEY-----\n[A-Za-z0-9+/=]{40}/, files: ANY, why: 'a private key' },
];

/** Patterns for paths that exist only on this machine: the checkout, its parent, the home folder. */
export function machinePathBans(root: string, home: string): readonly Ban[] {
  const tooCommon = new Set(['/', '/tmp', '/root', '/home', '/opt', '/srv', '/usr', '/var', '/builds', '/nonexistent']);
  const places = [...new Set([root, dirname(root), home])].filter((path) => !tooCommon.has(path) && path.length > 3);
  return places.map((path) => {
    const escaped = path.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    return { pattern: new RegExp(`(?<![\\w.])${escaped}(/|\\b)`), files: ANY, why: 'a path of this machine' };
  });
}

/** Findings in one file, one for each line that matches. */
export function inspectWords(path: string, text: string, extra: readonly Ban[] = []): readonly string[] {
  const findings: string[] = [];
  for (const ban of [...BANS, ...extra]) {
    if (!ban.files.test(path)) continue;
    for (const match of text.matchAll(new RegExp(ban.pattern, `${ban.pattern.flags.replace('g', '')}g`))) {
      const line = text.slice(0, match.index).split('\n').length;
      findings.push(`${path}:${line}: ${match[0].split('\n')[0]}: ${ban.why}`);
    }
  }
  return findings;
}

/** `npm run verify -- words`. */
export const wordsStep: Step = {
  name: 'words',
  purpose: 'no unfinished work, silenced checks, lone tests, machine paths or keys',
  run: async (root) => {
    const paths = (await listFiles(root)).filter(
      (path) => !/\.(png|svg|ico|gz|zst|bin)$/.test(path) && !FOREIGN.test(path),
    );
    const extra = machinePathBans(root, homedir());
    const findings = paths.flatMap((path) => inspectWords(path, readText(root, path), extra));
    return findingsResult(findings, `${paths.length} files`);
  },
};
