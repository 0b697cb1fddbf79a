// Enforces the import table, the absence of cycles, and that every import can be judged at all: it resolves, it isn't
// computed, its package is declared. Fails if it sees no modules, so that a broken parser can't pass for a clean tree.
import { existsSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join, posix } from 'node:path';
import { findCycles } from './cycles.ts';
import { isOwnTypeScript, listFiles, readText } from './files.ts';
import { isOutsideWorld, judgeEdge, layerOf, startsProcess } from './layers.ts';
import { type ModuleFacts, type ModuleReference, readModule } from './modules.ts';
import { findingsResult, type Step } from './step.ts';

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/** What an inspection of a tree found. */
export interface ImportReport {
  readonly moduleCount: number;
  readonly edgeCount: number;
  readonly findings: readonly string[];
}

type Target =
  | { readonly kind: 'own'; readonly path: string }
  | { readonly kind: 'package'; readonly name: string }
  | { readonly kind: 'builtin' };

function resolve(from: string, specifier: string): Target {
  if (specifier.startsWith('#gen/')) return { kind: 'own', path: `gen/${specifier.slice('#gen/'.length)}` };
  if (specifier.startsWith('.')) return { kind: 'own', path: posix.join(posix.dirname(from), specifier) };
  if (isBuiltin(specifier)) return { kind: 'builtin' };
  const [first, second] = specifier.split('/');
  return { kind: 'package', name: first!.startsWith('@') ? `${first}/${second}` : first! };
}

class Inspection {
  readonly findings: string[] = [];
  readonly graph = new Map<string, Set<string>>();
  edgeCount = 0;
  readonly #root: string;
  readonly #manifest: Manifest;
  readonly #starters = new Map<'agent' | 'controller' | 'network', Set<string>>();

  constructor(root: string, manifest: Manifest) {
    this.#root = root;
    this.#manifest = manifest;
  }

  add(module: ModuleFacts): void {
    this.graph.set(module.path, new Set());
    if (layerOf(module.path) === undefined) this.#report(module.path, 1, 'lies in no layer of the import table');
    for (const reference of module.references) this.#judge(module.path, reference);
  }

  finish(): void {
    for (const [what, files] of this.#starters) {
      if (files.size < 2) continue;
      this.findings.push(
        `${what} is imported from ${[...files].sort().join(' and ')}; only the file that starts it may`,
      );
    }
    for (const cycle of findCycles(this.graph)) this.findings.push(`import cycle: ${cycle.join(' ↔ ')}`);
  }

  #report(path: string, line: number, message: string): void {
    this.findings.push(`${path}:${line}: ${message}`);
  }

  #judge(from: string, reference: ModuleReference): void {
    const { specifier, line, typeOnly } = reference;
    this.edgeCount += 1;
    if (specifier === undefined) {
      if (from.startsWith('src/')) this.#report(from, line, "computed import: what it loads can't be checked");
      return;
    }
    const target = resolve(from, specifier);
    if (target.kind === 'own') this.#judgeOwn(from, target.path, specifier, line, typeOnly);
    else if (target.kind === 'package') this.#judgePackage(from, target.name, line, typeOnly);
    else if (layerOf(from)?.name === 'core' && isOutsideWorld(specifier)) {
      this.#report(from, line, `core is pure and may not use ${specifier}`);
    }
  }

  #judgeOwn(from: string, to: string, specifier: string, line: number, typeOnly: boolean): void {
    if (!existsSync(join(this.#root, to))) this.#report(from, line, `${specifier} doesn't resolve: there is no ${to}`);
    if (to.startsWith('gen/') && !specifier.startsWith('#gen/')) {
      this.#report(from, line, `import generated code as #gen/…, not as ${specifier}`);
    }
    this.graph.get(from)?.add(to);
    const problem = judgeEdge({ from, to, typeOnly });
    if (problem !== undefined) this.#report(from, line, `${specifier}: ${problem}`);
    const started = startsProcess({ from, to, typeOnly });
    if (started === undefined) return;
    const files = this.#starters.get(started) ?? new Set();
    this.#starters.set(started, files.add(from));
  }

  #judgePackage(from: string, name: string, line: number, typeOnly: boolean): void {
    const { dependencies = {}, devDependencies = {} } = this.#manifest;
    if (name in dependencies) return;
    const typesName = `@types/${name.replace(/^@/, '').replace('/', '__')}`;
    if (typeOnly && (name in devDependencies || typesName in devDependencies)) return;
    if (!from.startsWith('src/') && name in devDependencies) return;
    const where = name in devDependencies ? 'is only in devDependencies of' : "isn't in";
    this.#report(from, line, `package ${name} ${where} package.json`);
  }
}

/** Judges every import of the given modules. Paths are relative to `root`. */
export function inspectImports(root: string, paths: readonly string[]): ImportReport {
  const inspection = new Inspection(root, JSON.parse(readText(root, 'package.json')) as Manifest);
  let moduleCount = 0;
  for (const path of paths) {
    try {
      inspection.add(readModule(path, readText(root, path)));
      moduleCount += 1;
    } catch (error) {
      inspection.findings.push((error as Error).message);
    }
  }
  inspection.finish();
  if (!paths.some((path) => path.startsWith('src/'))) inspection.findings.push('no module under src was seen');
  return { moduleCount, edgeCount: inspection.edgeCount, findings: inspection.findings };
}

/** `npm run verify -- imports`. */
export const importsStep: Step = {
  name: 'imports',
  purpose: 'who may import whom, no cycles, every package declared',
  run: async (root) => {
    const report = inspectImports(root, (await listFiles(root)).filter(isOwnTypeScript));
    return findingsResult(report.findings, `${report.moduleCount} modules, ${report.edgeCount} imports`);
  },
};
