// The table "who may import whom", as code. Each module belongs to one layer; each layer has one rule that judges an
// import by where it goes. Adding a platform or capability needs no change here, unless a platform serves a new noun.

/** Where a module belongs. `part` is the X of platform/X and capabilities/X, else empty. */
export interface Layer {
  readonly name: string;
  readonly part: string;
}

/** An import inside the repository, as the table sees it. */
export interface LayerEdge {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

/** Nouns whose ports a platform may serve. A platform that isn't listed serves none. */
const SERVED_NOUNS: Readonly<Record<string, readonly string[]>> = {
  caddy: ['workloads'],
  dns: ['network'],
  docker: ['jobs', 'sessions', 'workloads'],
  ebpf: ['programs'],
  flock: [],
  kubernetes: [],
  nats: ['programs'],
  process: [],
  redis: [],
  registry: ['programs'],
  routes: ['network'],
  sqlite: [],
  vault: ['programs'],
  wireguard: ['network'],
};

/** Parts of the agent that offline commands of the command line read and write files with. */
const OFFLINE_AGENT_PARTS = /^src\/agent\/(policy|audit|trust)(\/|[-.\w]*\.ts$)/;

/** What concerns a process as a whole, whoever starts it: how it ends, and whom it tells of itself. */
const OF_ANY_PROCESS = /^src\/platform\/process\/(immediate-end|service-manager)\.ts$/;

/** Layer of a repository path; undefined for what belongs to none. */
export function layerOf(path: string): Layer | undefined {
  const parted = /^src\/(platform|capabilities)\/([^/]+)\//.exec(path);
  if (parted !== null) return { name: parted[1]!, part: parted[2]! };
  const plain = /^src\/(core|telemetry|link|controller|agent|console|cli)\//.exec(path);
  if (plain !== null) return { name: plain[1]!, part: '' };
  const outside = /^(gen|test|deploy)\//.exec(path);
  return outside === null ? undefined : { name: outside[1]!, part: '' };
}

/** True if a generated file is part of what a capability may see: its own noun, errors, and the signed action. */
function isOwnSlice(noun: string, to: string): boolean {
  const singular = noun.replace(/s$/, '');
  return ['error', 'signature', 'log', singular].some((slice) => to.startsWith(`gen/longline/v1/${slice}_pb.`));
}

function judgePlatform(from: Layer, to: Layer, edge: LayerEdge): string | undefined {
  if (to.name === 'core' || (to.name === 'platform' && to.part === from.part)) return undefined;
  const isPort = to.name === 'capabilities' && edge.to === `src/capabilities/${to.part}/ports.ts`;
  if (!isPort) return 'platform/X may import only core and the ports.ts of the capability it serves';
  if (!(SERVED_NOUNS[from.part] ?? []).includes(to.part)) return `platform/${from.part} doesn't serve ${to.part}`;
  return edge.typeOnly ? undefined : 'platform/X may import only types from ports.ts (use `import type`)';
}

function judgeCapability(from: Layer, to: Layer, edge: LayerEdge): string | undefined {
  if (to.name === 'core' || (to.name === 'capabilities' && to.part === from.part)) return undefined;
  if (to.name === 'capabilities') return 'a capability never imports another capability';
  if (to.name !== 'gen') return `a capability may not import ${to.name}: the agent hands adapters in through ports.ts`;
  if (edge.from !== `src/capabilities/${from.part}/wire.ts`) return 'a capability imports gen only in its wire.ts';
  return isOwnSlice(from.part, edge.to) ? undefined : `${edge.to} isn't in the slice of gen that ${from.part} may see`;
}

function judgeCli(to: Layer, edge: LayerEdge): string | undefined {
  if (['core', 'gen', 'cli', 'agent', 'controller'].includes(to.name)) return undefined;
  if (to.name === 'platform' && to.part === 'sqlite') return undefined;
  if (OF_ANY_PROCESS.test(edge.to)) return undefined;
  if (edge.to.startsWith('src/telemetry/tracing/')) return undefined;
  return `cli may import gen, core, platform/sqlite, the end of a process and its service manager, telemetry/tracing and, where it starts them, agent and controller; not ${edge.to}`;
}

const PLAIN_LAYERS: Readonly<Record<string, readonly string[]>> = {
  core: [],
  telemetry: ['core'],
  link: ['core', 'gen', 'telemetry'],
  controller: ['core', 'gen', 'telemetry'],
  agent: ['core', 'gen', 'telemetry', 'link', 'platform', 'capabilities'],
  console: ['gen'],
  gen: [],
  deploy: ['core', 'gen', 'test'],
  test: [
    'core',
    'gen',
    'telemetry',
    'link',
    'platform',
    'capabilities',
    'agent',
    'controller',
    'console',
    'cli',
    'deploy',
  ],
};

/** Why an import is not allowed; undefined if it is. */
export function judgeEdge(edge: LayerEdge): string | undefined {
  const from = layerOf(edge.from);
  // The manifest is data, of which anybody may want the version.
  if (edge.to === 'package.json') return undefined;
  const to = layerOf(edge.to);
  if (from === undefined) return 'the importing file lies in no layer of the table';
  if (to === undefined) return `${edge.to} lies in no layer of the table`;
  if (from.name === 'platform') return judgePlatform(from, to, edge);
  if (from.name === 'capabilities') return judgeCapability(from, to, edge);
  if (from.name === 'cli') return judgeCli(to, edge);
  const allowed = PLAIN_LAYERS[from.name]!;
  if (from.name === to.name || allowed.includes(to.name)) return undefined;
  return `${from.name} may import ${allowed.length === 0 ? 'nothing of ours' : allowed.join(', ')}; not ${to.name}`;
}

/** The process that an import makes its file start: agent, controller, or networks without an agent. */
export function startsProcess(edge: LayerEdge): 'agent' | 'controller' | 'network' | undefined {
  const to = layerOf(edge.to)?.name;
  if (layerOf(edge.from)?.name !== 'cli' || (to !== 'agent' && to !== 'controller')) return undefined;
  if (edge.to.startsWith('src/agent/network/')) return 'network';
  return OFFLINE_AGENT_PARTS.test(edge.to) ? undefined : to;
}

/** Node modules that core, being pure, may not use. */
export function isOutsideWorld(specifier: string): boolean {
  return /^node:(child_process|cluster|dgram|dns|fs|http|http2|https|net|os|readline|repl|sqlite|tls|worker_threads)(\/|$)/.test(
    specifier,
  );
}
