// Finds the test files and decides which may run beside others: a file that reaches a container engine or network namespaces
// works the machine hard and changes its interfaces, so only one such file runs at a time. A browser drops its connections
// whenever an interface comes or goes.
import { existsSync } from 'node:fs';
import { glob, readFile } from 'node:fs/promises';
import { posix, relative, resolve, sep } from 'node:path';
import { readModule } from '../../deploy/verify/modules.ts';

/** Modules that make every test file that reaches them a heavy one. */
const HEAVY_FIXTURES = /(^|\/)test\/fixtures\/(browser|engines|fleet|netns|stack)\.ts$/;

/** A test file, relative to the root with forward slashes. */
export interface TestFile {
  readonly path: string;
  readonly heavy: boolean;
}

/** All `*.test.ts` files under the given files and folders, in order. Throws if one doesn't exist. */
export async function findTestFiles(root: string, places: readonly string[]): Promise<readonly TestFile[]> {
  const found = new Set<string>();
  for (const place of places) {
    const path = relative(root, resolve(root, place)).split(sep).join('/');
    if (!existsSync(resolve(root, path))) throw new Error(`there is no ${place} to test`);
    if (path.endsWith('.test.ts')) found.add(path);
    else
      for await (const file of glob(`${path || '.'}/**/*.test.ts`, { cwd: root })) found.add(file.split(sep).join('/'));
  }
  const paths = [...found].filter((path) => !path.includes('node_modules/')).sort();
  return await Promise.all(paths.map(async (path) => ({ path, heavy: await reachesHeavy(root, path, new Set()) })));
}

async function reachesHeavy(root: string, path: string, seen: Set<string>): Promise<boolean> {
  if (seen.has(path)) return false;
  seen.add(path);
  if (HEAVY_FIXTURES.test(path)) return true;
  const text = await readFile(resolve(root, path), 'utf8').catch(() => undefined);
  if (text === undefined) return false;
  let module: ReturnType<typeof readModule>;
  try {
    module = readModule(path, text);
  } catch {
    return false; // It fails when it is run, with a better message than any here.
  }
  for (const { specifier, typeOnly } of module.references) {
    if (typeOnly || specifier === undefined || !specifier.startsWith('.')) continue;
    const target = posix.join(posix.dirname(path), specifier);
    if (!target.startsWith('src/') && (await reachesHeavy(root, target, seen))) return true;
  }
  return false;
}

/** Hands out files to workers: heavy ones first, never two heavy ones at a time. */
export class Schedule {
  readonly #light: TestFile[];
  readonly #heavy: TestFile[];
  #heavyRuns = false;

  constructor(files: readonly TestFile[]) {
    this.#light = files.filter((file) => !file.heavy);
    this.#heavy = files.filter((file) => file.heavy);
  }

  /** The next file to run; undefined if this worker has nothing left to do. Call `done` after each. */
  take(): TestFile | undefined {
    if (!this.#heavyRuns && this.#heavy.length > 0) {
      this.#heavyRuns = true;
      return this.#heavy.shift();
    }
    return this.#light.shift();
  }

  done(file: TestFile): void {
    if (file.heavy) this.#heavyRuns = false;
  }
}
