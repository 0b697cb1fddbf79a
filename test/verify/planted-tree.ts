// A small repository in a temp folder: clean as made, to plant violations in.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const CLEAN: Readonly<Record<string, string>> = {
  'package.json':
    '{"dependencies":{"pino":"1.0.0"},"devDependencies":{"fast-check":"1.0.0","@types/tar-stream":"1.0.0"}}',
  'gen/longline/v1/job_pb.js': 'export const job = 1;\n',
  'gen/longline/v1/session_pb.js': 'export const session = 1;\n',
  'gen/longline/link/v1/link_pb.js': 'export const link = 1;\n',
  'src/core/clock.ts': "import { setTimeout } from 'node:timers/promises';\nexport type Clock = typeof setTimeout;\n",
  'src/core/ids.ts': "import type { Clock } from './clock.ts';\nexport const id = (clock: Clock) => clock;\n",
  'src/telemetry/logger.ts':
    "import { pino } from 'pino';\nexport * from '../core/ids.ts';\nexport const log = pino;\n",
  'src/platform/docker/engine.ts':
    "import type { Engine } from '../../capabilities/jobs/ports.ts';\nexport type E = Engine;\n",
  'src/platform/process/child.ts': 'export const child = 1;\n',
  'src/platform/process/immediate-end.ts': 'export const end = 1;\n',
  'src/platform/sqlite/store.ts': "export { id } from '../../core/ids.ts';\n",
  'src/capabilities/jobs/ports.ts': 'export interface Engine { readonly name: string }\nexport const limit = 1;\n',
  'src/capabilities/jobs/wire.ts': "export { job } from '#gen/longline/v1/job_pb.js';\n",
  'src/capabilities/jobs/plan.ts':
    "import { id } from '../../core/ids.ts';\nexport { job } from './wire.ts';\nexport { id };\n",
  'src/capabilities/sessions/plan.ts': 'export const plan = 1;\n',
  'src/link/connection.ts':
    "import { link } from '#gen/longline/link/v1/link_pb.js';\nexport { log } from '../telemetry/logger.ts';\nexport { link };\n",
  'src/controller/controller.ts': "export { link } from '#gen/longline/link/v1/link_pb.js';\n",
  'src/agent/agent.ts':
    "import '../link/connection.ts';\nimport '../platform/docker/engine.ts';\nexport { job } from '../capabilities/jobs/plan.ts';\n",
  'src/agent/policy/check.ts': 'export const check = 1;\n',
  'src/console/page.ts': "export { job } from '#gen/longline/v1/job_pb.js';\n",
  'src/cli/start.ts':
    "export const start = () => import('../agent/agent.ts');\nexport const serve = () => import('../controller/controller.ts');\n",
  'src/cli/offline.ts':
    "import '../agent/policy/check.ts';\nimport '../platform/sqlite/store.ts';\nimport '../platform/process/immediate-end.ts';\nexport { job } from '#gen/longline/v1/job_pb.js';\n",
  'test/a.test.ts': "import 'fast-check';\nimport '../src/agent/agent.ts';\n",
  'deploy/tool.ts': "import '../src/core/ids.ts';\nimport '../test/a.test.ts';\n",
};

/** A repository that is removed when disposed. */
export interface PlantedTree extends AsyncDisposable {
  readonly root: string;
  /** Paths of its TypeScript, in order. */
  readonly modules: readonly string[];
}

/** Writes the clean tree with `extra` files over it. */
export async function plantTree(extra: Readonly<Record<string, string>> = {}): Promise<PlantedTree> {
  const root = await mkdtemp(join(tmpdir(), 'longline-planted-'));
  const files = { ...CLEAN, ...extra };
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  const modules = Object.keys(files)
    .filter((path) => path.endsWith('.ts'))
    .sort();
  return { root, modules, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) };
}
