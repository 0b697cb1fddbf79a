// What to do for a job, from what is wanted and what is observed. Pure: nothing here touches an engine.
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { canonicalJson } from '../../core/canonical-json.ts';
import { keepLogBytes } from './config.ts';
import type { ContainerFacts, ContainerMount, ContainerSpec, ImageFacts } from './ports.ts';
import type { RunRecord } from './run-record.ts';
import type { JobSpec } from './spec.ts';
import { RESERVED_TARGET } from './spec-fields.ts';

/** Labels on every container of ours. Nothing without our instance id under `instance` is ever touched. */
export const LABEL = {
  instance: 'longline',
  execution: 'longline.job',
  role: 'longline.role',
  spec: 'longline.spec',
  image: 'longline.image',
} as const;

/** Where the waiting init of a warm container is mounted. */
export const WARM_INIT_TARGET = `${RESERVED_TARGET}/busybox`;

/** Name of the container of an execution: the same at every try, so that a second create is refused by the engine. */
export function containerName(executionId: string): string {
  return `longline-job-${executionId}`;
}

/** The container for a job. It names the image by id, so that what was resolved is what runs. */
export function containerSpec(
  job: JobSpec,
  ids: { readonly executionId: string; readonly instanceId: string; readonly image: ImageFacts },
): ContainerSpec {
  const bare: ContainerSpec = {
    name: containerName(ids.executionId),
    image: ids.image.id,
    argv: job.argv,
    env: job.env,
    workingDir: job.workingDir,
    user: job.user,
    labels: {},
    openStdin: job.input.kind !== 'none',
    cpus: job.cpus,
    memoryBytes: job.memoryBytes,
    pids: job.pids,
    tmpBytes: job.tmpBytes,
    ...tmpFolders(job, ids.image),
    network: job.network,
    mounts: job.mounts,
    addCapabilities: job.addCapabilities,
    readOnlyRoot: !job.writableRoot,
    noNewPrivileges: !job.allowNewPrivileges,
    runtime: job.runtime,
    keepLogBytes: keepLogBytes(job.outputBytes),
  };
  return {
    ...bare,
    labels: {
      [LABEL.instance]: ids.instanceId,
      [LABEL.execution]: ids.executionId,
      [LABEL.role]: 'job',
      [LABEL.spec]: specHash(bare),
      [LABEL.image]: ids.image.pinned,
    },
  };
}

/**
 * Volumes that an image declares are folders on the host's disk, writable without bound whatever the root is. Unless the
 * job may write anyway, each that nothing else is mounted at becomes a tmpfs.
 */
function tmpFolders(job: JobSpec, { volumes = [] }: ImageFacts): Pick<ContainerSpec, 'tmpFolders'> {
  if (job.writableRoot) return {};
  const taken = new Set(['/', '/tmp', ...job.mounts.map(({ target }) => target)]);
  const folders = volumes
    .filter((path) => path.startsWith('/'))
    .map((path) => posix.resolve(path))
    .filter((path) => !taken.has(path));
  return folders.length === 0 ? {} : { tmpFolders: [...new Set(folders)].sort() };
}

/** What a container is, without who it is: everything but the name and labels. */
export function specHash(spec: ContainerSpec): string {
  const { name: _name, labels: _labels, ...rest } = spec;
  return createHash('sha256').update(canonicalJson(rest)).digest('hex').slice(0, 32);
}

/** The shape that a warm container shares with the jobs it can run: all but program, environment, place and stdin. */
export function warmShape(spec: ContainerSpec): string {
  return specHash({ ...spec, argv: [], env: {}, workingDir: '', openStdin: true });
}

/** A container of this shape that waits for its command. */
export function warmContainerSpec(
  spec: ContainerSpec,
  ids: {
    readonly warmId: string;
    readonly instanceId: string;
    readonly initPath: string;
    readonly script: string;
    /** Becomes the shell's $0. */
    readonly token: string;
  },
): ContainerSpec {
  const init: ContainerMount = { source: ids.initPath, target: WARM_INIT_TARGET, writable: false };
  return {
    ...spec,
    name: `longline-warm-${ids.warmId}`,
    argv: [WARM_INIT_TARGET, 'sh', '-c', ids.script, ids.token],
    env: {},
    workingDir: '',
    openStdin: true,
    mounts: [...spec.mounts, init],
    labels: { [LABEL.instance]: ids.instanceId, [LABEL.role]: 'warm', [LABEL.spec]: warmShape(spec) },
  };
}

/** A step towards a running container. */
export type LaunchStep =
  /** Make the container; refused by the engine if its name is taken. */
  | 'create'
  /** Make the intent to start durable: from here on a missing container means that it may have run. */
  | 'record'
  /** Connect to its streams: before start, or output is lost. */
  | 'attach'
  /** Arm the wait for its end: before start, or a quick end is missed. */
  | 'arm'
  /** Start it. */
  | 'start';

/** How a step is undone, in reverse order, when a later one fails or the job is cancelled before start. */
export const UNDO: Readonly<Record<LaunchStep, 'remove' | 'forget' | 'detach' | 'nothing'>> = {
  create: 'remove',
  record: 'forget',
  attach: 'detach',
  arm: 'nothing',
  start: 'nothing',
};

/** Steps of a launch; those of one group go side by side. */
export const LAUNCH: readonly (readonly LaunchStep[])[] = [['create'], ['record', 'attach', 'arm'], ['start']];

/** What to do about an execution, given what is left of it. */
export type Course =
  /** It never ran: launch it. */
  | { readonly kind: 'launch' }
  /** Its container was made but never started, perhaps under other settings: remove that, then launch. */
  | { readonly kind: 'replace' }
  /** It runs: connect again where the output that is safe ends. */
  | { readonly kind: 'follow' }
  /** It ended: fetch the rest of its output and its exit code. */
  | { readonly kind: 'collect' }
  /** It may have run, and nothing is left to tell: its outcome is unknown for good. */
  | { readonly kind: 'lost' };

/**
 * Decides the course. The record is written after create and before start, so: no record means never started; a
 * record without a container means that there was one, which may have run.
 */
export function chooseCourse(observed: ContainerFacts | undefined, record: RunRecord | undefined): Course {
  if (observed === undefined) return { kind: record === undefined ? 'launch' : 'lost' };
  switch (observed.state) {
    case 'created':
      return { kind: observed.startedAtMs === undefined ? 'replace' : 'collect' };
    case 'running':
    case 'paused':
    case 'restarting':
      return { kind: 'follow' };
    case 'removing':
    case 'exited':
    case 'dead':
      return { kind: 'collect' };
  }
}

/** Which containers of ours belong to no unfinished command and are to be removed. */
export function strays(
  containers: readonly ContainerFacts[],
  unfinished: ReadonlySet<string>,
  records: ReadonlyMap<string, RunRecord>,
): readonly ContainerFacts[] {
  const kept = new Set<string>();
  for (const [executionId, record] of records) if (unfinished.has(executionId)) kept.add(record.containerId);
  return containers.filter((container) => {
    if (kept.has(container.id)) return false;
    const executionId = container.labels[LABEL.execution];
    return container.labels[LABEL.role] === 'warm' || executionId === undefined || !unfinished.has(executionId);
  });
}
