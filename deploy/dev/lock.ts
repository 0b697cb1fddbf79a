// Completes package-lock.json. npm leaves an optional package out of the lock when the registry it was made with doesn't
// carry it, and then `npm ci` refuses the lock everywhere. Such packages are prebuilt parts for other platforms, pinned
// exactly by the package that wants them, so their entries can be written from that. `npm run lock` after `npm install`.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** An entry of `packages` in a lock file, as far as it matters here. */
export interface LockEntry {
  readonly version?: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly [key: string]: unknown;
}

/** A lock file of version 3. */
export interface LockFile {
  readonly packages: Readonly<Record<string, LockEntry>>;
  readonly [key: string]: unknown;
}

const SYSTEMS = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'netbsd', 'openbsd', 'openharmony', 'sunos', 'win32'];
const PROCESSORS: Readonly<Record<string, string>> = {
  arm: 'arm',
  armv6: 'arm',
  armv7: 'arm',
  arm64: 'arm64',
  ia32: 'ia32',
  loong64: 'loong64',
  mips64el: 'mips64el',
  ppc64: 'ppc64',
  riscv64: 'riscv64',
  s390x: 's390x',
  x64: 'x64',
};

/** Platform that a prebuilt package is for, read off its name ("…-linux-arm64-musl"); undefined if it names none. */
export function platformOf(
  name: string,
): { readonly os: string; readonly cpu: string; readonly libc: string | undefined } | undefined {
  const words = name.split(/[/-]/);
  const os = words.find((word) => SYSTEMS.includes(word));
  const cpu = words.map((word) => PROCESSORS[word]).find((word) => word !== undefined);
  if (os === undefined || cpu === undefined) return undefined;
  if (os !== 'linux') return { os, cpu, libc: undefined };
  const libc = words.some((word) => word.startsWith('musl'))
    ? 'musl'
    : words.some((word) => word.startsWith('gnu'))
      ? 'glibc'
      : undefined;
  return { os, cpu, libc };
}

function isLocked(packages: LockFile['packages'], from: string, name: string): boolean {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    if (packages[`${folder === '' ? '' : `${folder}/`}node_modules/${name}`] !== undefined) return true;
    if (!folder.includes('/node_modules/')) break;
  }
  return packages[`node_modules/${name}`] !== undefined;
}

/** Entries that a lock lacks, by path, and what can't be written because its platform or exact version isn't known. */
export function missingEntries(lock: LockFile): {
  readonly entries: Readonly<Record<string, LockEntry>>;
  readonly unknown: readonly string[];
} {
  const entries: Record<string, LockEntry> = {};
  const unknown: string[] = [];
  for (const [path, entry] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      if (isLocked(lock.packages, path, name)) continue;
      const platform = platformOf(name);
      if (platform === undefined || !/^\d+\.\d+\.\d+/.test(version)) {
        unknown.push(`${name}@${version}, wanted by ${path}`);
        continue;
      }
      entries[`node_modules/${name}`] = {
        version,
        cpu: [platform.cpu],
        ...(entry.dev ? { dev: true } : {}),
        ...(platform.libc === undefined ? {} : { libc: [platform.libc] }),
        ...(entry.license === undefined ? {} : { license: entry.license }),
        optional: true,
        os: [platform.os],
      };
    }
  }
  return { entries, unknown };
}

function main(root: string): number {
  const path = join(root, 'package-lock.json');
  const lock = JSON.parse(readFileSync(path, 'utf8')) as LockFile;
  const { entries, unknown } = missingEntries(lock);
  const packages = Object.entries({ ...lock.packages, ...entries }).sort(([a], [b]) => a.localeCompare(b, 'en'));
  if (Object.keys(entries).length > 0) {
    writeFileSync(path, `${JSON.stringify({ ...lock, packages: Object.fromEntries(packages) }, null, 2)}\n`);
  }
  process.stdout.write(`lock: ${Object.keys(entries).length} entries added\n`);
  for (const name of unknown) process.stderr.write(`lock: can't write an entry for ${name}\n`);
  return unknown.length === 0 ? 0 : 1;
}

if (import.meta.main) process.exitCode = main(dirname(dirname(import.meta.dirname)));
