// Tells whether node_modules holds what package-lock.json asks for: exit code 0, or 1 with the reason in one line.
// Plain JavaScript for Node.js 20, because it runs before ours is there. Compares npm's own record of what it installed
// with the lock file, so that an unchanged tree costs no `npm ci`, whoever installed it.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** @param {string} root */
function problem(root) {
  const record = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) return 'none are there';
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(record, 'utf8')).packages;
  for (const [path, { version, optional, devOptional }] of Object.entries(wanted)) {
    if (path === '') continue;
    const found = installed[path];
    if (found === undefined && (optional || devOptional)) continue;
    if (found?.version !== version) return `${path.replace('node_modules/', '')} should be ${version}`;
  }
  for (const path of Object.keys(installed)) {
    if (wanted[path] === undefined) return `${path.replace('node_modules/', '')} isn't in package-lock.json`;
  }
  if (!existsSync(join(root, 'node_modules', '.bin', 'node'))) return 'Node.js of our own is missing';
  return undefined;
}

const found = problem(process.argv[2]);
if (found !== undefined) {
  process.stdout.write(`${found}\n`);
  process.exitCode = 1;
}
