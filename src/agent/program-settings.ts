// The programs part of the agent's settings. What resolves to the capability's ProgramsConfig has the capability's own defaults. The
// AGENT_ variables are those of another agent of this kind, with the same meanings; where that one asks services of this host that
// nobody named (a registry, NATS, Vault), ours asks nobody.
import { DEFAULT_PROGRAMS_CONFIG } from '../capabilities/programs/config.ts';
import { setting } from '../core/config/setting.ts';
import * as type from '../core/config/value-type.ts';
import { KEYS, keySettings, natsSettings, registrySettings, vaultSettings } from './program-service-settings.ts';

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;
const MANY = Number.MAX_SAFE_INTEGER;
const PROGRAMS = 'Programs';
const ROLLBACK = 'Rollback of programs';
const REGISTRY = 'Registry of programs';
const base = DEFAULT_PROGRAMS_CONFIG;

const thresholds = {
  maxErrors: setting(type.int({ min: 0, max: MANY }), {
    key: 'programs.rollback_max_errors',
    group: ROLLBACK,
    envAliases: ['AGENT_ROLLBACK_MAX_ERRORS'],
    default: base.thresholds.maxErrors,
    description: 'Errors of a program between two checks, past which it is rolled back. 0: never, here and below.',
  }),
  maxViolations: setting(type.int({ min: 0, max: MANY }), {
    key: 'programs.rollback_max_violations',
    group: ROLLBACK,
    envAliases: ['AGENT_ROLLBACK_MAX_VIOLATIONS'],
    default: base.thresholds.maxViolations,
    description: 'Violations between two checks.',
  }),
  maxCpuPercent: setting(type.float({ min: 0, max: 1_000_000 }), {
    key: 'programs.rollback_max_cpu_percent',
    group: ROLLBACK,
    envAliases: ['AGENT_ROLLBACK_MAX_CPU_PERCENT'],
    default: base.thresholds.maxCpuPercent,
    description: 'Processor time in percent of one core.',
  }),
  maxLatencyMs: setting(type.float({ min: 0, max: 1_000_000_000 }), {
    key: 'programs.rollback_max_latency_ms',
    group: ROLLBACK,
    envAliases: ['AGENT_ROLLBACK_MAX_LATENCY_MS'],
    default: base.thresholds.maxLatencyMs,
    description: 'Mean run time of one call in milliseconds.',
  }),
  maxMemoryKb: setting(type.int({ min: 0, max: MANY }), {
    key: 'programs.rollback_max_memory_kb',
    group: ROLLBACK,
    envAliases: ['AGENT_ROLLBACK_MAX_MEMORY_KB'],
    default: base.thresholds.maxMemoryKb,
    description: 'Memory of functions and maps in KiB.',
  }),
  minRuns: setting(type.int({ min: 0, max: MANY }), {
    key: 'programs.rollback_min_runs',
    group: ROLLBACK,
    default: base.thresholds.minRuns,
    description: 'Calls between two checks below which processor time and run time are not judged.',
  }),
} as const;

/** What resolves to the capability's ProgramsConfig. */
const limits = {
  maxPrograms: setting(type.int({ min: 1, max: 1000 }), {
    key: 'programs.max_programs',
    group: PROGRAMS,
    envAliases: ['AGENT_MAX_PROGRAMS'],
    default: base.maxPrograms,
    description: 'Programs that may be loaded at once.',
  }),
  whenFull: setting(type.oneOf(['refuse', 'replace_oldest']), {
    key: 'programs.when_full',
    group: PROGRAMS,
    default: base.whenFull,
    description: 'What becomes of one more: it is refused, or takes the place of the one that was loaded first.',
  }),
  defaultTtlMs: setting(type.duration({ min: 0, max: 3650 * DAY }), {
    key: 'programs.default_ttl',
    group: PROGRAMS,
    envAliases: ['AGENT_DEFAULT_TTL_SEC'],
    default: base.defaultTtlMs,
    description: "How long a program stays loaded that doesn't say; 0 for ever.",
  }),
  atShutdown: setting(type.oneOf(['keep', 'unload']), {
    key: 'programs.at_shutdown',
    group: PROGRAMS,
    default: base.atShutdown,
    description: 'What becomes of programs when the agent is told to stop. After a crash they are always kept.',
  }),
  allowUnsigned: setting(type.bool(), {
    key: 'programs.allow_unsigned',
    group: KEYS,
    default: base.allowUnsigned,
    description:
      'Load artifacts that nobody signed. One with signatures of which none is good is refused all the same.',
  }),
  thresholds,
  rollBackOnVerifierFailure: setting(type.bool(), {
    key: 'programs.rollback_verifier_failure',
    group: ROLLBACK,
    envAliases: ['AGENT_ROLLBACK_VERIFIER_FAILURE'],
    default: base.rollBackOnVerifierFailure,
    description: 'A next revision that the verifier refuses counts as rolled back, and is not tried again.',
  }),
  checkIntervalMs: setting(type.duration({ min: SECOND, max: HOUR }), {
    key: 'programs.rollback_check_interval',
    group: ROLLBACK,
    envAliases: ['AGENT_ROLLBACK_CHECK_INTERVAL_SEC'],
    default: base.checkIntervalMs,
    description: 'Time between two checks of what programs do, which is also how often their figures are told.',
  }),
  rollbackDelayMs: setting(type.duration({ min: 0, max: HOUR }), {
    key: 'programs.rollback_delay',
    group: ROLLBACK,
    envAliases: ['AGENT_ROLLBACK_DELAY_SEC'],
    default: base.rollbackDelayMs,
    description: 'Time between a check that finds too much and the rollback, unless all is well by then.',
  }),
  probationMs: setting(type.duration({ min: 0, max: DAY }), {
    key: 'programs.probation',
    group: ROLLBACK,
    default: base.probationMs,
    description: 'How long a new revision is watched before it counts as good.',
  }),
  pollIntervalMs: setting(type.duration({ min: SECOND, max: DAY }), {
    key: 'programs.poll_interval',
    group: REGISTRY,
    envAliases: ['AGENT_POLL_INTERVAL_SEC'],
    default: base.pollIntervalMs,
    description: 'Time between two polls of the registry.',
  }),
  eventsPerSecond: setting(type.int({ min: 0, max: 100_000 }), {
    key: 'programs.events_per_second',
    group: PROGRAMS,
    default: base.eventsPerSecond,
    description: 'Events of programs that are told in a second, all programs together; the rest is counted.',
  }),
} as const;

/** Settings of programs. */
export const programSettings = {
  limits,
  cacheDir: setting(type.path(), {
    key: 'programs.cache_dir',
    group: PROGRAMS,
    envAliases: ['AGENT_CACHE_DIR'],
    example: '"/var/cache/longline"',
    defaultText: 'artifacts in the data folder',
    description: 'Folder that artifacts are kept in. Nobody else may write to it.',
  }),
  bpfFs: setting(type.path(), {
    key: 'programs.bpf_fs',
    group: PROGRAMS,
    default: '/sys/fs/bpf',
    description:
      'Where the BPF file system is, which keeps programs loaded while no agent runs. Mounted there if it is not; an agent in a container needs that of the host.',
  }),
  registry: registrySettings,
  keys: keySettings,
  vault: vaultSettings,
  nats: natsSettings,
} as const;
