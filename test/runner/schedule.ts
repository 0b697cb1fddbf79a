// Finds the test files and decides which may run beside others. Of files that work on the host itself one of a kind runs at a
// time: one with a container engine, which makes bridges and control groups, and one with network namespaces, in which programs
// are put into the kernel too. The two kinds don't meet. A browser meets both: it drops its connections whenever an interface
// comes or goes.
import { existsSync } from 'node:fs';
import { glob, readFile } from 'node:fs/promises';
import { posix, relative, resolve, sep } from 'node:path';
import { readModule } from '../../deploy/verify/modules.ts';

/** What only one test file may have at a time. */
export type Resource = 'engine' | 'lab';

/** What a test file takes by reaching a fixture. */
const TAKEN_BY: ReadonlyMap<string, readonly Resource[]> = new Map([
  ['test/fixtures/engines.ts', ['engine']],
  ['test/fixtures/netns.ts', ['lab']],
  ['test/fixtures/browser.ts', ['engine', 'lab']],
]);

/** A test file, relative to the root with forward slashes. */
export interface TestFile {
  readonly path: string;
  /** Sorted; empty if any other file may run beside it. */
  readonly takes: readonly Resource[];
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
  return await Promise.all(paths.map(async (path) => ({ path, takes: await takenBy(root, path) })));
}

async function takenBy(root: string, path: string): Promise<readonly Resource[]> {
  const reached = new Set<string>();
  await reach(root, path, reached);
  const taken = [...TAKEN_BY].flatMap(([fixture, resources]) =>
    [...reached].some((module) => module === fixture || module.endsWith(`/${fixture}`)) ? resources : [],
  );
  return [...new Set(taken)].sort();
}

/** Adds all modules that a test file reaches, itself included, but those of src. */
async function reach(root: string, path: string, reached: Set<string>): Promise<void> {
  if (reached.has(path)) return;
  reached.add(path);
  const text = await readFile(resolve(root, path), 'utf8').catch(() => undefined);
  if (text === undefined) return;
  let module: ReturnType<typeof readModule>;
  try {
    module = readModule(path, text);
  } catch {
    return; // It fails when it is run, with a better message than any here.
  }
  for (const { specifier, typeOnly } of module.references) {
    if (typeOnly || specifier === undefined || !specifier.startsWith('.')) continue;
    const target = posix.join(posix.dirname(path), specifier);
    if (!target.startsWith('src/')) await reach(root, target, reached);
  }
}

/** Hands out files to workers, never two at a time that take the same. First those that fit beside the fewest others. */
export class Schedule {
  readonly #waiting: TestFile[];
  readonly #taken = new Set<Resource>();
  /** Resolves when something taken is given back. */
  #given = Promise.withResolvers<void>();

  constructor(files: readonly TestFile[]) {
    this.#waiting = files.toSorted((one, other) => rank(one) - rank(other));
  }

  /** The next file to run, once there is one that may; undefined if none waits any more. Call `done` after each. */
  async take(): Promise<TestFile | undefined> {
    while (this.#waiting.length > 0) {
      const at = this.#waiting.findIndex(({ takes }) => !takes.some((resource) => this.#taken.has(resource)));
      if (at < 0) {
        await this.#given.promise;
        continue;
      }
      const [file] = this.#waiting.splice(at, 1);
      for (const resource of file!.takes) this.#taken.add(resource);
      return file;
    }
    return undefined;
  }

  done(file: TestFile): void {
    for (const resource of file.takes) this.#taken.delete(resource);
    this.#given.resolve();
    this.#given = Promise.withResolvers();
  }
}

/** Files with an engine are the longest of those that take one thing. */
function rank({ takes }: TestFile): number {
  return -2 * takes.length - (takes.includes('engine') ? 1 : 0);
}
