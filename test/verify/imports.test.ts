import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { findCycles } from '../../deploy/verify/cycles.ts';
import { inspectImports } from '../../deploy/verify/imports.ts';
import { readModule } from '../../deploy/verify/modules.ts';
import { plantTree } from './planted-tree.ts';

/** File that gets a line added, the line, and what the finding says. */
type Violation = readonly [path: string, line: string, finding: RegExp];

const VIOLATIONS: readonly Violation[] = [
  ['src/core/ids.ts', "import '../telemetry/logger.ts';", /core may import nothing of ours; not telemetry/],
  ['src/core/ids.ts', "import '#gen/longline/v1/job_pb.js';", /core may import nothing of ours; not gen/],
  ['src/core/ids.ts', "import { readFile } from 'node:fs/promises';", /core is pure and may not use node:fs\/promises/],
  ['src/telemetry/logger.ts', "import '../link/connection.ts';", /telemetry may import core; not link/],
  ['src/platform/docker/engine.ts', "import '../process/child.ts';", /may import only core and the ports\.ts/],
  ['src/platform/docker/engine.ts', "import '../../telemetry/logger.ts';", /may import only core and the ports\.ts/],
  ['src/platform/docker/engine.ts', "import '#gen/longline/v1/job_pb.js';", /may import only core and the ports\.ts/],
  ['src/platform/docker/engine.ts', "import '../../capabilities/jobs/plan.ts';", /may import only core and the ports/],
  [
    'src/platform/docker/engine.ts',
    "import { limit } from '../../capabilities/jobs/ports.ts';",
    /only types from ports/,
  ],
  [
    'src/platform/process/child.ts',
    "import type { Engine } from '../../capabilities/jobs/ports.ts';",
    /doesn't serve jobs/,
  ],
  ['src/capabilities/jobs/plan.ts', "import '../sessions/plan.ts';", /never imports another capability/],
  ['src/capabilities/jobs/plan.ts', "import '../../link/connection.ts';", /a capability may not import link/],
  [
    'src/capabilities/jobs/plan.ts',
    "import '../../platform/docker/engine.ts';",
    /a capability may not import platform/,
  ],
  ['src/capabilities/jobs/plan.ts', "import '../../telemetry/logger.ts';", /a capability may not import telemetry/],
  [
    'src/capabilities/jobs/plan.ts',
    "import type { job } from '#gen/longline/v1/job_pb.js';",
    /gen only in its wire\.ts/,
  ],
  ['src/capabilities/jobs/wire.ts', "import '#gen/longline/v1/session_pb.js';", /slice of gen that jobs may see/],
  ['src/capabilities/jobs/wire.ts', "import '#gen/longline/link/v1/link_pb.js';", /slice of gen that jobs may see/],
  [
    'src/link/connection.ts',
    "import '../capabilities/jobs/ports.ts';",
    /link may import core, gen, telemetry; not cap/,
  ],
  ['src/link/connection.ts', "import '../platform/sqlite/store.ts';", /link may import core, gen, telemetry; not plat/],
  [
    'src/controller/controller.ts',
    "import '../link/connection.ts';",
    /controller may import core, gen, telemetry; not l/,
  ],
  ['src/controller/controller.ts', "import '../platform/sqlite/store.ts';", /controller may import .*; not platform/],
  ['src/agent/agent.ts', "import '../controller/controller.ts';", /agent may import .*; not controller/],
  ['src/agent/agent.ts', "import '../console/page.ts';", /agent may import .*; not console/],
  ['src/agent/agent.ts', "import '../cli/offline.ts';", /agent may import .*; not cli/],
  ['src/console/page.ts', "import '../core/ids.ts';", /console may import gen; not core/],
  ['src/cli/offline.ts', "import '../link/connection.ts';", /cli may import .*; not src\/link/],
  ['src/cli/offline.ts', "import '../platform/docker/engine.ts';", /cli may import .*; not src\/platform\/docker/],
  ['src/cli/offline.ts', "import '../platform/process/child.ts';", /cli may import .*; not src\/platform\/process/],
  ['src/cli/offline.ts', "import '../agent/agent.ts';", /agent is imported from .*offline\.ts and .*start\.ts/],
  ['src/cli/offline.ts', "type C = import('../controller/controller.ts').C;", /controller is imported from/],
  ['src/core/ids.ts', "import '../../test/a.test.ts';", /core may import nothing of ours; not test/],
  ['deploy/tool.ts', "import '../src/agent/agent.ts';", /deploy may import core, gen, test; not agent/],
  ['src/link/connection.ts', "export { link as l } from '../../gen/longline/link/v1/link_pb.js';", /import .* as #gen/],
  ['src/link/connection.ts', "import './absent.ts';", /absent\.ts doesn't resolve/],
  ['src/link/connection.ts', 'export const load = (name: string) => import(name);', /computed import/],
  [
    'src/link/connection.ts',
    "new Worker(new URL('../agent/agent.ts', import.meta.url));",
    /link may import .*; not agent/,
  ],
  ['src/link/connection.ts', "import 'left-pad';", /package left-pad isn't in package\.json/],
  ['src/link/connection.ts', "import 'fast-check';", /fast-check is only in devDependencies/],
  ['src/stray.ts', 'export {};', /lies in no layer/],
  ['src/agent/agent.ts', 'import {', /agent\.ts:\d+: doesn't parse/],
];

describe('import rules', () => {
  test('a clean tree passes, and all of it was seen', async () => {
    await using tree = await plantTree();
    const report = inspectImports(tree.root, tree.modules);
    assert.deepEqual(report.findings, []);
    assert.equal(report.moduleCount, tree.modules.length);
    assert.ok(report.edgeCount >= 25, `${report.edgeCount} imports`);
  });

  for (const [path, line, finding] of VIOLATIONS) {
    test(`${path} with ${line}`, async () => {
      await using clean = await plantTree();
      const before = await readFile(join(clean.root, path), 'utf8').catch(() => '');
      await using tree = await plantTree({ [path]: `${before}${line}\n` });
      const report = inspectImports(tree.root, tree.modules);
      const findings = report.findings.filter((text) => !text.startsWith('import cycle: '));
      assert.equal(findings.length, 1, report.findings.join('\n'));
      assert.match(findings[0]!, finding);
      assert.ok(findings[0]!.includes(path));
    });
  }

  test('types-only packages may be declared by their @types', async () => {
    await using tree = await plantTree({
      'src/link/tar.ts': "import type { Pack } from 'tar-stream';\nexport type P = Pack;\n",
    });
    assert.deepEqual(inspectImports(tree.root, tree.modules).findings, []);
  });

  test('a cycle is found, also one of types', async () => {
    await using tree = await plantTree({
      'src/link/a.ts': "import type { B } from './b.ts';\nexport type A = B;\n",
      'src/link/b.ts': "export * from './c.ts';\nexport type B = 1;\n",
      'src/link/c.ts': "export { type A } from './a.ts';\n",
    });
    const { findings } = inspectImports(tree.root, tree.modules);
    assert.deepEqual(findings, ['import cycle: src/link/a.ts ↔ src/link/b.ts ↔ src/link/c.ts']);
  });

  test('seeing no module is a failure', async () => {
    await using tree = await plantTree();
    assert.deepEqual(inspectImports(tree.root, []).findings, ['no module under src was seen']);
  });
});

describe('readModule', () => {
  test('sees every way of importing, and which are gone at run time', () => {
    const text = [
      "import type { A } from './a.ts';",
      "import { type B } from './b.ts';",
      "import c, { type C } from './c.ts';",
      "export * from './d.ts';",
      "export type { E } from './e.ts';",
      "type F = import('./f.ts').F;",
      "await import('./g.ts');",
      "import './h.ts';",
    ];
    const { references } = readModule('x.ts', text.join('\n'));
    const seen = references.map(({ specifier, line, typeOnly }) => `${line} ${specifier}${typeOnly ? ' type' : ''}`);
    assert.deepEqual(seen.sort(), [
      '1 ./a.ts type',
      '2 ./b.ts type',
      '3 ./c.ts',
      '4 ./d.ts',
      '5 ./e.ts type',
      '6 ./f.ts type',
      '7 ./g.ts',
      '8 ./h.ts',
    ]);
  });
});

describe('findCycles', () => {
  test('separate cycles are separate, and a chain is none', () => {
    const graph = new Map(
      Object.entries({ a: ['b'], b: ['a', 'c'], c: ['d'], d: [], e: ['e'], f: ['g'], g: ['h'], h: ['f'] }).map(
        ([node, next]) => [node, new Set(next)] as const,
      ),
    );
    assert.deepEqual(findCycles(graph), [['a', 'b'], ['e'], ['f', 'g', 'h']]);
  });
});
