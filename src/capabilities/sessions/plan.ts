// What to do for a session, from what is wanted and what is observed. Pure: nothing here touches an engine. Every step says
// how it is undone; a step that fails undoes those before it, last first.
import { createHash } from 'node:crypto';
import { canonicalJson } from '../../core/canonical-json.ts';
import type { LonglineError } from '../../core/errors.ts';
import type { PullReport } from '../../core/images/image-puller.ts';
import type { SessionsConfig } from './config.ts';
import type { ContainerState, SessionContainerSpec } from './ports.ts';
import type { SessionSpec, VolumeSpec } from './session-spec.ts';
import type { Tier } from './state.ts';

/** Labels on everything of ours. Nothing without our instance id under `instance` is ever touched. */
export const LABEL = {
  instance: 'longline.sessions',
  session: 'longline.session',
  generation: 'longline.generation',
  spec: 'longline.spec',
  scope: 'longline.scope',
} as const;

/** A step of a session's way up or down. The names are those of longline.v1.SessionStep in lower case. */
export type StepKind =
  | 'admit'
  | 'network'
  | 'volume'
  | 'pull'
  | 'create'
  | 'start'
  | 'running'
  | 'healthy'
  | 'tunnel_ready'
  | 'pause'
  | 'checkpoint'
  | 'stop'
  | 'remove_container'
  | 'remove_network'
  | 'remove_volume';

/** How a step is undone when a later one fails: only what it made itself is taken away. */
export const UNDO: Readonly<Partial<Record<StepKind, StepKind>>> = {
  network: 'remove_network',
  volume: 'remove_volume',
  create: 'remove_container',
  start: 'stop',
};

/** How far a step is; becomes longline.v1.SessionProgress. */
export interface StepReport {
  readonly step: StepKind;
  readonly state: 'begun' | 'done' | 'found' | 'failed' | 'undone';
  readonly subject: string;
  readonly message?: string;
  readonly pull?: PullReport;
  readonly error?: LonglineError;
  readonly resumed?: boolean;
}

/** A step to take. */
export interface Step {
  readonly step: StepKind;
  /** What it is about: a network, volume, image, container or port. */
  readonly subject: string;
  /** Index into the spec's volumes. */
  readonly volume?: number;
}

/** Names of all that a session has on the engine: the same at every try, so that a second create is refused. */
export interface SessionNames {
  readonly container: string;
  /** Undefined for loopback only. */
  readonly network: string | undefined;
  /** The network is the session's own and goes with it. */
  readonly ownNetwork: boolean;
  /** In the order of the spec. */
  readonly volumes: readonly string[];
}

/** What the engine calls a session's things. */
export function namesOf(
  sessionId: string,
  spec: SessionSpec,
  config: Pick<SessionsConfig, 'networkName'>,
): SessionNames {
  const own = `longline-session-${sessionId}`;
  const { network } = spec;
  const networkName = { isolated: own, shared: config.networkName, named: '', none: undefined }[network.mode];
  return {
    container: own,
    network: network.mode === 'named' ? network.name : networkName,
    ownNetwork: network.mode === 'isolated',
    volumes: spec.volumes.map((volume) => volumeName(sessionId, spec.owner, volume)),
  };
}

/** Name of the log of a session's output in one of its lives. */
export function sessionLogId(sessionId: string, generation: number): string {
  return `${sessionId}.${generation}`;
}

/** Names of volumes have no dot of their own, so the last one ends what comes before. */
function volumeName(sessionId: string, owner: string, { scope, name }: VolumeSpec): string {
  switch (scope) {
    case 'session':
      return `longline-session-${sessionId}.${name}`;
    case 'owner':
      return `longline-owner-${owner}.${name}`;
    case 'shared':
      return `longline-shared.${name}`;
  }
}

/** Who a session's container is. */
export interface ContainerIdentity {
  readonly sessionId: string;
  readonly instanceId: string;
  readonly generation: number;
  /** Id of the image, so that what was resolved is what runs. */
  readonly imageId: string;
}

/** The container for a session. */
export function containerSpecOf(
  spec: SessionSpec,
  names: SessionNames,
  identity: ContainerIdentity,
  config: Pick<SessionsConfig, 'keepLogBytes'>,
): SessionContainerSpec {
  const volumes = spec.volumes.map(({ target, writable }, index) => {
    return { kind: 'volume' as const, source: names.volumes[index]!, target, writable };
  });
  const { entrypoint, command } = spec;
  return {
    name: names.container,
    image: identity.imageId,
    entrypoint: entrypoint.length > 0 ? entrypoint : undefined,
    command: command.length > 0 ? command : undefined,
    env: spec.env,
    workingDir: spec.workingDir,
    user: spec.user,
    hostname: spec.hostname === '' ? identity.sessionId : spec.hostname,
    labels: {
      ...spec.labels,
      [LABEL.instance]: identity.instanceId,
      [LABEL.session]: identity.sessionId,
      [LABEL.generation]: String(identity.generation),
      [LABEL.spec]: specDigest(spec),
    },
    cpus: spec.cpus,
    memoryBytes: spec.memoryBytes,
    pids: spec.pids,
    shmBytes: spec.shmBytes,
    network: names.network,
    mounts: [...volumes, ...spec.mounts.map((mount) => ({ kind: 'folder' as const, ...mount }))],
    addCapabilities: spec.addCapabilities,
    readOnlyRoot: spec.readOnlyRoot,
    noNewPrivileges: !spec.allowNewPrivileges,
    runtime: spec.runtime,
    terminal: spec.terminal,
    openStdin: spec.openStdin,
    stopSignal: spec.stopSignal,
    keepLogBytes: config.keepLogBytes,
  };
}

/** Stands for a spec: same spec, same digest. */
export function specDigest(spec: SessionSpec): string {
  return createHash('sha256').update(canonicalJson(spec)).digest('hex').slice(0, 32);
}

/** What stands under a session's name, as far as it matters. */
export type Standing =
  /** Nothing. */
  | { readonly kind: 'absent' }
  /** A container that isn't this agent's. */
  | { readonly kind: 'foreign' }
  /** Ours, of this spec and generation. */
  | { readonly kind: 'ours'; readonly containerId: string; readonly state: ContainerState }
  /** Ours, and of another spec or generation. */
  | { readonly kind: 'outdated'; readonly containerId: string };

/** Judges a container by its labels. */
export function standingOf(
  found:
    | { readonly id: string; readonly state: ContainerState; readonly labels: Readonly<Record<string, string>> }
    | undefined,
  wanted: Readonly<Record<string, string>>,
): Standing {
  if (found === undefined) return { kind: 'absent' };
  const { labels, id, state } = found;
  if (labels[LABEL.instance] !== wanted[LABEL.instance] || labels[LABEL.session] !== wanted[LABEL.session]) {
    return { kind: 'foreign' };
  }
  const same = [LABEL.generation, LABEL.spec].every((label) => labels[label] === wanted[label]);
  // An engine that is removing it will be done before another can be made.
  if (!same || state === 'removing' || state === 'dead') return { kind: 'outdated', containerId: id };
  return { kind: 'ours', containerId: id, state };
}

/** The steps to a running session. What is there already is adopted, what is outdated replaced. */
export function bringUpPlan(spec: SessionSpec, names: SessionNames, standing: Standing): readonly Step[] {
  // Without a network nothing outside can see whether a port is taken.
  const reachable = spec.network.mode === 'none' ? [] : spec.ports;
  const ready: Step[] = [
    { step: 'running', subject: names.container },
    ...(spec.health === null ? [] : [{ step: 'healthy' as const, subject: names.container }]),
    ...reachable.map(({ number }) => ({ step: 'tunnel_ready' as const, subject: String(number) })),
  ];
  const start: Step = { step: 'start', subject: names.container };
  if (standing.kind === 'ours' && standing.state !== 'created') {
    return standing.state === 'running' || standing.state === 'restarting' ? ready : [start, ...ready];
  }
  const places: Step[] = [
    ...(names.network === undefined ? [] : [{ step: 'network' as const, subject: names.network }]),
    ...names.volumes.map((subject, volume) => ({ step: 'volume' as const, subject, volume })),
  ];
  if (standing.kind === 'ours') return [...places, start, ...ready];
  return [
    ...(standing.kind === 'outdated' ? [{ step: 'remove_container' as const, subject: names.container }] : []),
    ...places,
    { step: 'pull', subject: spec.image },
    { step: 'create', subject: names.container },
    start,
    ...ready,
  ];
}

/** The steps to sleep of a tier, from the state that its container is in. */
export function sleepPlan(names: SessionNames, tier: Tier, state: ContainerState | undefined): readonly Step[] {
  const runs = state === 'running' || state === 'restarting';
  if (!runs && state !== 'paused') return [];
  if (tier === 'pause') return runs ? [{ step: 'pause', subject: names.container }] : [];
  return [{ step: tier, subject: names.container }];
}

/** The steps to nothing left but the volumes that are kept. */
export function removalPlan(
  spec: SessionSpec,
  names: SessionNames,
  state: ContainerState | undefined,
  removeVolumes: boolean,
): readonly Step[] {
  const runs = state === 'running' || state === 'paused' || state === 'restarting';
  const ofSession = names.volumes.filter((_, index) => spec.volumes[index]!.scope === 'session');
  return [
    ...(runs ? [{ step: 'stop' as const, subject: names.container }] : []),
    { step: 'remove_container', subject: names.container },
    ...(names.ownNetwork ? [{ step: 'remove_network' as const, subject: names.network! }] : []),
    ...(removeVolumes ? ofSession.map((subject) => ({ step: 'remove_volume' as const, subject })) : []),
  ];
}
