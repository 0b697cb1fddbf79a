// The jobs part of the agent's settings. It resolves to what the jobs capability takes as its JobsSettings; ranges here
// are those that make sense anywhere, and the defaults are the capability's own.
import { DEFAULT_JOBS_SETTINGS, MIN_MEMORY_BYTES, MIN_TMP_BYTES, type WarmImage } from '../capabilities/jobs/config.ts';
import { setting } from '../core/config/setting.ts';
import * as type from '../core/config/value-type.ts';

const TIB = 1024 ** 4;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;
const JOBS = 'Jobs';
const WARM = 'Warm pool';
const DEFAULTS = 'Defaults of a job that does not say otherwise';
const LIMITS = 'Most that a job may ask for';
const base = DEFAULT_JOBS_SETTINGS;

const warmImage = type.scalar<WarmImage>({
  name: 'pool',
  placeholder: 'IMAGE=SIZE',
  allowed: 'IMAGE=SIZE with a size of 1 to 64, like "alpine:3.20=2"',
  text: (text) => {
    const match = /^([^=\s]+)=(\d{1,2})$/.exec(text);
    const size = Number(match?.[2]);
    return match !== null && size >= 1 && size <= 64 ? Object.freeze({ reference: match[1]!, size }) : undefined;
  },
  write: ({ reference, size }) => JSON.stringify(`${reference}=${size}`),
});

const image = type.string({
  pattern: /^[A-Za-z0-9*][A-Za-z0-9._:/@*-]{0,511}$/,
  allowed: 'an image reference or pattern, like "alpine:3.20" or "registry.example.net/*:*"',
  placeholder: 'IMAGE',
});
const cpus = type.float({ min: 0.01, max: 1024 });
const memory = type.bytes({ min: MIN_MEMORY_BYTES, max: 16 * TIB });
const pids = type.int({ min: 1, max: 4_194_304 });
const tmp = type.bytes({ min: MIN_TMP_BYTES, max: TIB });
const runTime = type.duration({ min: SECOND, max: 24 * DAY });
const grace = type.duration({ min: 0, max: 60 * MINUTE });
const output = type.bytes({ min: 0, max: TIB });

const defaults = {
  image: setting(image, {
    key: 'jobs.default_image',
    live: true,
    group: DEFAULTS,
    default: base.defaults.image,
    description: 'Image.',
  }),
  cpus: setting(cpus, {
    key: 'jobs.default_cpus',
    live: true,
    group: DEFAULTS,
    default: base.defaults.cpus,
    description: 'Processor time in cores.',
  }),
  memoryBytes: setting(memory, {
    key: 'jobs.default_memory',
    live: true,
    group: DEFAULTS,
    default: base.defaults.memoryBytes,
    description: 'Memory, swap included.',
  }),
  pids: setting(pids, {
    key: 'jobs.default_pids',
    live: true,
    group: DEFAULTS,
    default: base.defaults.pids,
    description: 'Processes and threads.',
  }),
  tmpBytes: setting(tmp, {
    key: 'jobs.default_tmp',
    live: true,
    group: DEFAULTS,
    default: base.defaults.tmpBytes,
    description: 'Size of /tmp.',
  }),
  timeoutMs: setting(runTime, {
    key: 'jobs.default_timeout',
    live: true,
    group: DEFAULTS,
    default: base.defaults.timeoutMs,
    description: 'Longest run time.',
  }),
  stopGraceMs: setting(grace, {
    key: 'jobs.default_stop_grace',
    live: true,
    group: DEFAULTS,
    default: base.defaults.stopGraceMs,
    description: 'Time between TERM and KILL.',
  }),
  outputBytes: setting(output, {
    key: 'jobs.default_output',
    live: true,
    group: DEFAULTS,
    default: base.defaults.outputBytes,
    description: 'Output kept of each stream; what is past it is dropped and declared.',
  }),
  user: setting(type.string({ pattern: /^[A-Za-z0-9_-]+(:[A-Za-z0-9_-]+)?$/, allowed: 'USER or USER:GROUP' }), {
    key: 'jobs.default_user',
    live: true,
    group: DEFAULTS,
    default: base.defaults.user,
    description: 'User and group in the container, names or numbers.',
  }),
  runtime: setting(type.string({ pattern: /^[A-Za-z0-9._-]*$/, allowed: 'a name the engine knows' }), {
    key: 'jobs.default_runtime',
    live: true,
    group: DEFAULTS,
    default: base.defaults.runtime,
    defaultText: "the engine's",
    description: 'Engine runtime, such as runsc.',
  }),
} as const;

const limits = {
  cpus: setting(cpus, {
    key: 'jobs.max_cpus',
    live: true,
    group: LIMITS,
    default: base.limits.cpus,
    description: 'Processor time in cores.',
  }),
  memoryBytes: setting(memory, {
    key: 'jobs.max_memory',
    live: true,
    group: LIMITS,
    default: base.limits.memoryBytes,
    description: 'Memory, swap included.',
  }),
  pids: setting(pids, {
    key: 'jobs.max_pids',
    live: true,
    group: LIMITS,
    default: base.limits.pids,
    description: 'Processes and threads.',
  }),
  tmpBytes: setting(tmp, {
    key: 'jobs.max_tmp',
    live: true,
    group: LIMITS,
    default: base.limits.tmpBytes,
    description: 'Size of /tmp.',
  }),
  timeoutMs: setting(runTime, {
    key: 'jobs.max_timeout',
    live: true,
    group: LIMITS,
    default: base.limits.timeoutMs,
    description: 'Run time.',
  }),
  stopGraceMs: setting(grace, {
    key: 'jobs.max_stop_grace',
    live: true,
    group: LIMITS,
    default: base.limits.stopGraceMs,
    description: 'Time between TERM and KILL.',
  }),
  outputBytes: setting(output, {
    key: 'jobs.max_output',
    live: true,
    group: LIMITS,
    default: base.limits.outputBytes,
    description: 'Output kept of each stream.',
  }),
} as const;

const pull = {
  attempts: setting(type.int({ min: 1, max: 100 }), {
    key: 'jobs.pull_attempts',
    group: JOBS,
    default: base.pull.attempts,
    description: 'Tries to fetch an image, for faults that may pass.',
  }),
  backoffBaseMs: setting(type.duration({ min: 1, max: MINUTE }), {
    key: 'jobs.pull_backoff',
    group: JOBS,
    default: base.pull.backoffBaseMs,
    description: 'Wait before the second try; doubles from there.',
  }),
  backoffCapMs: setting(type.duration({ min: 1, max: 60 * MINUTE }), {
    key: 'jobs.pull_backoff_cap',
    group: JOBS,
    default: base.pull.backoffCapMs,
    description: 'Longest wait between two tries.',
  }),
  timeoutMs: setting(type.duration({ min: 10 * SECOND, max: DAY }), {
    key: 'jobs.pull_timeout',
    group: JOBS,
    default: base.pull.timeoutMs,
    description: 'Longest time to fetch an image, all tries together.',
  }),
} as const;

const warm = {
  images: setting(type.list(warmImage), {
    key: 'jobs.warm_pool',
    flag: '--warm-pool',
    group: WARM,
    default: base.warm.images,
    description: 'Images for which single-use containers are started ahead, and how many. Empty: off.',
  }),
  initPath: setting(type.path(), {
    key: 'jobs.warm_init',
    group: WARM,
    default: base.warm.initPath,
    description: 'Static busybox that waits in a warm container for its command.',
  }),
  maxContainers: setting(type.int({ min: 1, max: 10_000 }), {
    key: 'jobs.warm_max',
    group: WARM,
    default: base.warm.maxContainers,
    description: 'Most waiting containers over all images.',
  }),
  idleTtlMs: setting(type.duration({ min: SECOND, max: 24 * DAY }), {
    key: 'jobs.warm_idle',
    group: WARM,
    default: base.warm.idleTtlMs,
    description: 'A container that waited this long is removed.',
  }),
} as const;

/** Settings under `jobs.`. */
export const jobSettings = {
  maxConcurrent: setting(type.int({ min: 1, max: 10_000 }), {
    key: 'jobs.max_concurrent',
    group: JOBS,
    default: base.maxConcurrent,
    description: 'Jobs that run at once; the rest wait.',
  }),
  maxQueued: setting(type.int({ min: 0, max: 100_000 }), {
    key: 'jobs.max_queued',
    group: JOBS,
    default: base.maxQueued,
    description: 'Jobs that may wait; more are refused.',
  }),
  allowedImages: setting(type.list(image), {
    key: 'jobs.allowed_images',
    live: true,
    flag: '--allowed-image',
    group: JOBS,
    default: base.allowedImages,
    description: 'Images that may run at all; the policy can only narrow this.',
  }),
  credentialsFile: setting(type.path(), {
    key: 'jobs.credentials_file',
    group: JOBS,
    example: '"/etc/longline/registry.json"',
    description: "Registry credentials in the form of Docker's config.json, readable by its owner only.",
  }),
  engineLossLimitMs: setting(type.duration({ min: SECOND, max: DAY }), {
    key: 'jobs.engine_loss_limit',
    group: JOBS,
    default: base.engineLossLimitMs,
    description: 'How long a lost engine is waited for before the outcome of its jobs is given up as unknown.',
  }),
  defaults,
  limits,
  pull,
  warm,
} as const;
