// Every setting of the agent, in one table. Parsed once by whoever starts the agent; nothing else reads the
// environment. What a job may do on this host is not here but in the policy file; this table holds sizes, places and
// defaults, and two plain lists (allowed images and controllers) that hold even without a policy file.
import { hostname } from 'node:os';
import { type ConfigConflict, defineConfig, type Resolved, secret, setting } from '../core/config/setting.ts';
import * as type from '../core/config/value-type.ts';
import { AGENT_ID } from '../core/ids.ts';
import { haConflicts, haSettings } from './ha-settings.ts';
import { httpSettings } from './http-settings.ts';
import { jobSettings } from './job-settings.ts';
import { networkSettings } from './network-settings.ts';
import { programConflicts } from './program-service-settings.ts';
import { programSettings } from './program-settings.ts';
import { sessionSettings } from './session-settings.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const TIB = 1024 ** 4;
const SECOND = 1000;
const MINUTE = 60 * SECOND;

const LINK = 'Link to the controller';
const HOST = 'This host';
const FILES = 'Files';
const SPOOL = 'Output and journal';
const LOG = 'Diagnostics';

const link = {
  controllerUrl: setting(type.url(['https', 'http'], { wss: 'https', ws: 'http' }), {
    key: 'controller',
    example: '"https://longline.example.net:7443"',
    group: LINK,
    envAliases: ['CONTROL_PLANE_URL'],
    description: 'Controller to dial. http:// is taken with an API key only, behind a proxy that ends TLS.',
  }),
  token: secret({
    key: 'token',
    group: LINK,
    envAliases: ['REGISTRATION_TOKEN'],
    description: 'Registration token for the first start; not needed once the host is enrolled.',
  }),
  apiKey: secret({
    key: 'api_key',
    group: LINK,
    envAliases: ['API_KEY'],
    pattern: /^[0-9a-f]{64}$/,
    allowed: '64 hex digits in lower case',
    description: 'API key to use instead of a client certificate.',
  }),
  caFile: setting(type.path(), {
    key: 'ca_file',
    example: '"/etc/ssl/certs/private-ca.pem"',
    group: LINK,
    description: 'PEM file of the CAs to trust with an API key; without it those of the system.',
  }),
  reconnectCapMs: setting(type.duration({ min: SECOND, max: 10 * MINUTE }), {
    key: 'reconnect_cap',
    group: LINK,
    default: 30 * SECOND,
    description: 'Longest wait between two tries to connect.',
  }),
  heartbeatIntervalMs: setting(type.duration({ min: SECOND, max: 5 * MINUTE }), {
    key: 'heartbeat_interval',
    group: LINK,
    envAliases: ['HEALTH_CHECK_INTERVAL'],
    default: 30 * SECOND,
    description: 'Longest time between two heartbeats. The controller names its own; the shorter one counts.',
  }),
  allowedControllers: setting(type.list(type.string({ placeholder: 'ID' })), {
    key: 'allowed_controllers',
    live: true,
    flag: '--allowed-controller',
    group: LINK,
    default: [],
    description:
      'Ids of the controllers in whose name commands are taken; empty for all that a trusted key speaks for.',
  }),
  enrollmentTrust: setting(type.bool(), {
    key: 'enrollment_trust',
    group: LINK,
    default: true,
    description: "Trust the controller's signing keys that come with the enrolment. Off: only the trust file counts.",
  }),
  clockSkewMs: setting(type.duration({ min: 0, max: 10 * MINUTE }), {
    key: 'clock_skew',
    group: LINK,
    default: 60 * SECOND,
    description: 'How far the clocks of signer and host may be apart.',
  }),
} as const;

const host = {
  agentId: setting(type.string({ pattern: AGENT_ID, allowed: '1 to 128 of A-Z a-z 0-9 . _ -', placeholder: 'ID' }), {
    key: 'agent_id',
    group: HOST,
    envAliases: ['AGENT_ID', 'AGENT_HOST_ID'],
    default:
      hostname()
        .replaceAll(/[^A-Za-z0-9._-]/g, '-')
        .slice(0, 128) || 'agent',
    defaultText: 'host name',
    description: 'Name of this agent in the fleet.',
  }),
  platform: setting(type.string({ placeholder: 'OS/ARCH' }), {
    key: 'platform',
    example: '"linux/amd64"',
    group: HOST,
    envAliases: ['PLATFORM'],
    description: 'Platform to announce instead of the one found, "linux/amd64".',
  }),
  region: setting(type.string({ pattern: /^.*$/s, allowed: 'any text', placeholder: 'REGION' }), {
    key: 'region',
    group: HOST,
    envAliases: ['REGION'],
    default: '',
    description: 'Deployment region to announce.',
  }),
  labels: setting(type.map(/^[A-Za-z0-9._/-]{1,63}=.{0,255}$/s, 'KEY=VALUE; keys of 1 to 63 of A-Z a-z 0-9 . _ / -'), {
    key: 'labels',
    flag: '--label',
    group: HOST,
    default: {},
    description: 'Labels of this agent; those set through the API win.',
  }),
  dockerHost: setting(type.url(['unix', 'tcp', 'http', 'https']), {
    key: 'docker_host',
    group: HOST,
    envAliases: ['DOCKER_HOST'],
    default: 'unix:///var/run/docker.sock',
    description: 'Docker or Podman API to use.',
  }),
} as const;

const files = {
  dataDir: setting(type.path(), {
    key: 'data_dir',
    group: FILES,
    default: '/var/lib/longline',
    description: 'Folder of identity, journal, spool and audit log; private to the agent.',
  }),
  policyFile: setting(type.path(), {
    key: 'policy_file',
    example: '"/etc/longline/policy.toml"',
    flag: '--policy',
    group: FILES,
    description: 'Policy: what jobs may do on this host. Without it the strict built-in one.',
  }),
  trustFile: setting(type.path(), {
    key: 'trust_file',
    example: '"/etc/longline/trust.toml"',
    flag: '--trust',
    group: FILES,
    description: 'Trust: which keys may sign what. Default: trust.toml in the data folder, if it is there.',
  }),
  localSocket: setting(type.path(), {
    key: 'local_socket',
    example: '"/run/longline/agent.sock"',
    group: FILES,
    defaultText: 'agent.sock in the data folder',
    description: 'Unix socket of the local API (status, explain, reload).',
  }),
} as const;

const stopping = {
  shutdownLimitMs: setting(type.duration({ min: SECOND, max: 10 * MINUTE }), {
    key: 'shutdown.limit',
    group: LOG,
    default: 20 * SECOND,
    description: 'How long an orderly end may take; after that the process is killed.',
  }),
} as const;

const spool = {
  maxBytes: setting(type.bytes({ min: MIB, max: 16 * TIB }), {
    key: 'spool.max_bytes',
    group: SPOOL,
    default: 2 * GIB,
    description: 'Disk for output that the controller does not have yet; past it the oldest is dropped and declared.',
  }),
  segmentBytes: setting(type.bytes({ min: 64 * 1024, max: GIB }), {
    key: 'spool.segment',
    group: SPOOL,
    default: 8 * MIB,
    description: 'Size of one file of the spool.',
  }),
  minFreeBytes: setting(type.bytes({ min: 0, max: TIB }), {
    key: 'spool.min_free',
    group: SPOOL,
    default: 256 * MIB,
    description: 'Free disk below which no new jobs are taken.',
  }),
} as const;

const log = {
  level: setting(type.oneOf(['debug', 'info', 'warn', 'error']), {
    key: 'log_level',
    live: true,
    group: LOG,
    envAliases: ['AGENT_LOG_LEVEL'],
    default: 'info',
    description: 'Least severe lines that are logged, as JSON on standard error.',
  }),
  parts: setting(
    type.map(/^[a-z][a-z ]{0,40}=(debug|info|warn|error)$/, 'PART=LEVEL; levels debug, info, warn, error'),
    {
      key: 'log_parts',
      live: true,
      flag: '--log-part',
      group: LOG,
      default: {},
      example: '{ link = "debug" }',
      description: 'Levels of parts, by what is in the field "part", or else "capability", of their lines.',
    },
  ),
} as const;

const health = {
  linkAwayMs: setting(type.duration({ min: SECOND, max: 24 * 60 * MINUTE }), {
    key: 'health.link_away',
    group: LOG,
    default: 5 * MINUTE,
    description: 'How long the agent may be without its link before health says so.',
  }),
} as const;

const audit = {
  checkpointIntervalMs: setting(type.duration({ min: SECOND, max: 24 * 60 * MINUTE }), {
    key: 'audit.checkpoint_interval',
    group: FILES,
    default: 10 * SECOND,
    description: 'How often a new head of the audit log is signed and sent; what is younger could be cut off unseen.',
  }),
} as const;

/** The agent's settings. */
export const agentConfig = defineConfig(
  'agent',
  {
    ...link,
    ...host,
    ...files,
    ...stopping,
    http: httpSettings,
    ha: haSettings,
    jobs: jobSettings,
    sessions: sessionSettings,
    network: networkSettings,
    programs: programSettings,
    spool,
    audit,
    log,
    health,
  },
  conflicts,
);

/** The agent's settings, resolved and frozen. */
export type AgentConfig = Resolved<typeof agentConfig.table>;

type Values = Resolved<
  typeof link &
    typeof host &
    typeof files & {
      jobs: typeof jobSettings;
      sessions: typeof sessionSettings;
      programs: typeof programSettings;
      ha: typeof haSettings;
      spool: typeof spool;
    }
>;

function conflicts(config: Values): ConfigConflict[] {
  const { jobs: job } = config;
  const found: ConfigConflict[] = [];
  const atMost = (key: string, value: number, limitKey: string, limit: number): void => {
    if (value > limit) found.push({ key, description: `${value} is more than ${limitKey}, which is ${limit}` });
  };
  atMost('jobs.default_cpus', job.defaults.cpus, 'jobs.max_cpus', job.limits.cpus);
  atMost('jobs.default_memory', job.defaults.memoryBytes, 'jobs.max_memory in bytes', job.limits.memoryBytes);
  atMost('jobs.default_pids', job.defaults.pids, 'jobs.max_pids', job.limits.pids);
  atMost('jobs.default_tmp', job.defaults.tmpBytes, 'jobs.max_tmp in bytes', job.limits.tmpBytes);
  atMost('jobs.default_timeout', job.defaults.timeoutMs, 'jobs.max_timeout in ms', job.limits.timeoutMs);
  atMost('jobs.default_stop_grace', job.defaults.stopGraceMs, 'jobs.max_stop_grace in ms', job.limits.stopGraceMs);
  atMost('jobs.default_output', job.defaults.outputBytes, 'jobs.max_output in bytes', job.limits.outputBytes);
  const { sessions } = config;
  atMost('sessions.image_gc_low', sessions.images.lowPercent, 'sessions.image_gc_high', sessions.images.highPercent);
  atMost('spool.segment', config.spool.segmentBytes, 'spool.max_bytes', config.spool.maxBytes);
  if (config.controllerUrl?.startsWith('http:') && config.apiKey === undefined) {
    found.push({
      key: 'controller',
      description: `${config.controllerUrl} is not encrypted; use https://, or an API key`,
    });
  }
  if (config.controllerUrl !== undefined && !/^https?:\/\/[^/?#@]+$/.test(config.controllerUrl)) {
    const description = 'has more than host and port; it must look like https://HOST:PORT';
    found.push({ key: 'controller', description });
  }
  return [
    ...found,
    ...haConflicts(config.ha, config.agentId),
    ...programConflicts(config.programs, config.controllerUrl),
  ];
}
