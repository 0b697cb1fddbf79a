// The sessions part of the agent's settings. It resolves to what the sessions capability takes as its SessionsConfig; the
// defaults are the capability's own. Flags and variables of the first rows are those that people know from other agents.
import { DEFAULT_SESSIONS_CONFIG } from '../capabilities/sessions/config.ts';
import { isSubnetPool } from '../capabilities/sessions/subnet-pool.ts';
import { formatByteSize, parseByteSize } from '../core/byte-size.ts';
import { setting } from '../core/config/setting.ts';
import * as type from '../core/config/value-type.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const TIB = 1024 ** 4;
const SECOND = 1000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;
const SESSIONS = 'Sessions';
const IMAGES = 'Images';
const base = DEFAULT_SESSIONS_CONFIG;

/** A size; a bare number is read as GiB, as agents of this kind have always taken it. */
const memory = type.scalar<number>({
  name: 'size',
  placeholder: 'SIZE',
  allowed: '64MiB to 16TiB, like "128GiB"; a bare number is GiB',
  text: (text) => {
    const bytes = /^\d+(\.\d+)?$/.test(text.trim()) ? Number(text) * GIB : (parseByteSize(text) ?? Number.NaN);
    return bytes >= 64 * MIB && bytes <= 16 * TIB ? bytes : undefined;
  },
  toml: (value) => {
    const bytes = typeof value === 'number' ? value * GIB : Number.NaN;
    return bytes >= 64 * MIB && bytes <= 16 * TIB ? bytes : undefined;
  },
  // Never a bare number: that would be read as GiB.
  write: (bytes) =>
    JSON.stringify(parseByteSize(formatByteSize(bytes)) === bytes ? formatByteSize(bytes) : `${bytes}B`),
});

const subnet = type.scalar<string>({
  name: 'network',
  placeholder: 'CIDR',
  allowed: 'an IPv4 network of at least 16 addresses, like "10.213.0.0/16"',
  text: (text) => (isSubnetPool(text) ? text : undefined),
  write: (text) => JSON.stringify(text),
});

const limits = {
  maxCpus: setting(type.float({ min: 0.01, max: 100_000 }), {
    key: 'max_cpu',
    group: SESSIONS,
    envAliases: ['MAX_CPU'],
    default: base.limits.maxCpus,
    description: 'Processor cores that all sessions together may reserve.',
  }),
  maxMemoryBytes: setting(memory, {
    key: 'max_memory',
    group: SESSIONS,
    envAliases: ['MAX_MEMORY'],
    default: base.limits.maxMemoryBytes,
    description: 'Memory that all sessions together may reserve.',
  }),
  maxSessions: setting(type.int({ min: 0, max: 100_000 }), {
    key: 'max_sessions',
    group: SESSIONS,
    envAliases: ['MAX_SESSIONS'],
    default: base.limits.maxSessions,
    description: 'Sessions that may hold a place at once; those that sleep by stop or checkpoint hold none.',
  }),
} as const;

const defaults = {
  cpus: setting(type.float({ min: 0.01, max: 1024 }), {
    key: 'sessions.default_cpus',
    group: SESSIONS,
    default: base.defaults.cpus,
    description: 'Cores of a session that does not say otherwise.',
  }),
  memoryBytes: setting(type.bytes({ min: 8 * MIB, max: 16 * TIB }), {
    key: 'sessions.default_memory',
    group: SESSIONS,
    default: base.defaults.memoryBytes,
    description: 'Memory of a session that does not say otherwise, swap included.',
  }),
  pids: setting(type.int({ min: 1, max: 4_194_304 }), {
    key: 'sessions.default_pids',
    group: SESSIONS,
    default: base.defaults.pids,
    description: 'Processes and threads of a session that does not say otherwise.',
  }),
  shmBytes: setting(type.bytes({ min: 4096, max: TIB }), {
    key: 'sessions.default_shm',
    group: SESSIONS,
    default: base.defaults.shmBytes,
    description: 'Size of /dev/shm of a session that does not say otherwise.',
  }),
} as const;

const pull = {
  attempts: setting(type.int({ min: 1, max: 100 }), {
    key: 'sessions.pull_attempts',
    group: IMAGES,
    default: base.pull.attempts,
    description: 'Tries to fetch an image while the registry fails in a way that may pass.',
  }),
  backoffBaseMs: setting(type.duration({ min: 10, max: HOUR }), {
    key: 'sessions.pull_backoff',
    group: IMAGES,
    default: base.pull.backoffBaseMs,
    description: 'Longest wait before the second try; doubles from try to try.',
  }),
  backoffCapMs: setting(type.duration({ min: 10, max: HOUR }), {
    key: 'sessions.pull_backoff_cap',
    group: IMAGES,
    default: base.pull.backoffCapMs,
    description: 'Longest wait between two tries.',
  }),
  timeoutMs: setting(type.duration({ min: 10 * SECOND, max: DAY }), {
    key: 'sessions.pull_timeout',
    group: IMAGES,
    default: base.pull.timeoutMs,
    description: 'Longest time to fetch an image, all tries together.',
  }),
} as const;

const images = {
  enabled: setting(type.bool(), {
    key: 'sessions.image_gc',
    group: IMAGES,
    default: base.images.enabled,
    description: 'Remove images that this agent fetched and nobody uses, when the disk fills up.',
  }),
  highPercent: setting(type.float({ min: 1, max: 100 }), {
    key: 'sessions.image_gc_high',
    group: IMAGES,
    default: base.images.highPercent,
    description: "Use of the engine's disk in percent from which on images are removed.",
  }),
  lowPercent: setting(type.float({ min: 0, max: 100 }), {
    key: 'sessions.image_gc_low',
    group: IMAGES,
    default: base.images.lowPercent,
    description: 'Use of the disk in percent down to which they are, the one used longest ago first.',
  }),
  minAgeMs: setting(type.duration({ min: 0, max: 365 * DAY }), {
    key: 'sessions.image_gc_min_age',
    group: IMAGES,
    default: base.images.minAgeMs,
    description: 'An image is kept at least this long after its last use.',
  }),
} as const;

/** Settings of sessions. */
export const sessionSettings = {
  limits,
  defaults,
  networkName: setting(
    type.string({ pattern: /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, allowed: 'a network name', placeholder: 'NAME' }),
    {
      // Its flag and variable are what people know; the table [network] of the file is that of WireGuard.
      key: 'sessions.network',
      flag: '--network',
      env: 'LONGLINE_NETWORK',
      group: SESSIONS,
      envAliases: ['NETWORK_NAME'],
      default: base.networkName,
      description: 'Engine network of sessions that ask for the shared one; made if it is missing.',
    },
  ),
  subnetPool: setting(subnet, {
    key: 'sessions.subnet_pool',
    group: SESSIONS,
    default: base.subnetPool,
    description: 'Addresses that networks of sessions are cut from, 16 for each.',
  }),
  volumeDriver: setting(type.string({ placeholder: 'DRIVER' }), {
    key: 'volume_driver',
    group: SESSIONS,
    envAliases: ['VOLUME_DRIVER'],
    default: base.volumeDriver,
    description: 'Engine driver of volumes that name none.',
  }),
  runtime: setting(type.string({ pattern: /^[A-Za-z0-9._-]{0,64}$/, allowed: 'a runtime name', placeholder: 'NAME' }), {
    key: 'sessions.runtime',
    group: SESSIONS,
    default: base.runtime,
    description: "OCI runtime of sessions that name none. Empty: the engine's own.",
  }),
  sampleEveryMs: setting(type.duration({ min: SECOND, max: HOUR }), {
    key: 'sessions.sample_interval',
    group: SESSIONS,
    default: base.sampleEveryMs,
    description: 'How often the resources of running sessions are measured.',
  }),
  keepLogBytes: setting(type.bytes({ min: MIB, max: TIB }), {
    key: 'sessions.engine_log',
    group: SESSIONS,
    default: base.keepLogBytes,
    description: 'Output of a container that the engine keeps for recovery after a crash of the agent.',
  }),
  pull,
  images,
} as const;
