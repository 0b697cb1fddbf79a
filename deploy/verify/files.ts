// Which files the checks look at: what git tracks or would track, so that ignored and generated leftovers don't count.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../dev/command.ts';

/** Repository-relative paths of all tracked files and of untracked ones that aren't ignored, in order. */
export async function listFiles(root: string): Promise<readonly string[]> {
  const listed = await runCommand(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
  });
  if (listed.code !== 0) throw new Error(`git ls-files failed in ${root}: ${listed.stderr.trim()}`);
  const paths = listed.stdout.split('\0').filter((path) => path !== '' && existsSync(join(root, path)));
  return [...new Set(paths)].sort();
}

/** Our own TypeScript: everything under src, test and deploy. */
export function isOwnTypeScript(path: string): boolean {
  return /^(src|test|deploy)\/.*\.ts$/.test(path);
}

/** Text of a file as UTF-8. */
export function readText(root: string, path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

/** Lines of a text; a newline at the end begins no further line. */
export function countLines(text: string): number {
  if (text === '') return 0;
  return text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
}
