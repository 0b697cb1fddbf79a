// What `longline controller` can be set to: one table for file, environment, flags, help and reference. Relations between settings are
// checked in config.ts.
import { defineConfig, setting } from '../core/config/setting.ts';
import * as type from '../core/config/value-type.ts';

const SECOND = 1000;
const DAY = 86_400 * SECOND;
const ADDRESS = 'Addresses';
const STATE = 'State';
const AGENTS = 'Agents';
const KEEP = 'How long things are kept';
const LOG = 'Diagnostics';

const hostPort = type.string({
  pattern: /^(\[[0-9A-Fa-f:.]+\]|[^:[\]\s]*):\d{1,5}$/,
  allowed: 'HOST:PORT, like "0.0.0.0:7443", "[::1]:7443" or ":7443"',
  placeholder: 'HOST:PORT',
});

/** The controller's settings. */
export const controllerConfig = defineConfig('controller', {
  dataDir: setting(type.path(), {
    key: 'data_dir',
    env: 'LONGLINE_CONTROLLER_DATA_DIR',
    group: STATE,
    default: '/var/lib/longline-controller',
    description: 'Directory of all state: CA, tokens, jobs, logs; private to the controller.',
  }),
  listen: setting(hostPort, {
    key: 'listen',
    group: ADDRESS,
    default: '127.0.0.1:7443',
    description: 'Address for agents, operators and the console; port 0 picks a free one.',
  }),
  advertise: setting(type.string({ placeholder: 'HOST[:PORT]' }), {
    key: 'advertise',
    group: ADDRESS,
    example: '"longline.example.net:7443"',
    description: 'Name under which others reach it, if that is not the address it listens on.',
  }),
  plaintextListen: setting(hostPort, {
    key: 'plaintext_listen',
    group: ADDRESS,
    example: '"127.0.0.1:7080"',
    description: 'Second address without TLS, for agents with API keys behind a proxy that ends TLS.',
  }),
  plaintextTrusted: setting(type.bool(), {
    key: 'plaintext_trusted',
    group: ADDRESS,
    default: false,
    description: 'The network of the plaintext address is trusted; needed unless that is loopback.',
  }),
  metricsListen: setting(hostPort, {
    key: 'metrics_listen',
    group: ADDRESS,
    example: '"127.0.0.1:9464"',
    description: 'Address of this host for scrapers of /metrics, without TLS and token.',
  }),
  agentCertificateLifetimeMs: setting(type.duration({ min: 10 * SECOND, max: 90 * DAY }), {
    key: 'agent_certificate_lifetime',
    group: AGENTS,
    default: DAY,
    description: "Life of agents' certificates; they renew at two thirds of it.",
  }),
  drainWindowMs: setting(type.duration({ min: 0, max: 600 * SECOND }), {
    key: 'drain_window',
    live: true,
    group: AGENTS,
    default: 10 * SECOND,
    description: 'How long agents and calls have to end at shutdown.',
  }),
  heartbeatMs: setting(type.duration({ min: SECOND, max: 300 * SECOND }), {
    key: 'heartbeat',
    group: AGENTS,
    default: 15 * SECOND,
    description: 'Period of heartbeats each way; a side that hears nothing for three ends the connection.',
  }),
  keep: {
    jobsMs: setting(type.duration({ min: 60 * SECOND, max: 3650 * DAY }), {
      key: 'keep.jobs',
      live: true,
      group: KEEP,
      default: 30 * DAY,
      description: 'Ended jobs and their results, from their submission.',
    }),
    sessionsMs: setting(type.duration({ min: 60 * SECOND, max: 3650 * DAY }), {
      key: 'keep.sessions',
      live: true,
      group: KEEP,
      default: 30 * DAY,
      description: 'Ended sessions, from their last change.',
    }),
    logsMs: setting(type.duration({ min: 60 * SECOND, max: 3650 * DAY }), {
      key: 'keep.logs',
      live: true,
      group: KEEP,
      default: 14 * DAY,
      description: 'Output, from its last write; it goes with its job at the latest.',
    }),
    checkpointsMs: setting(type.duration({ min: 60 * SECOND, max: 3650 * DAY }), {
      key: 'keep.checkpoints',
      live: true,
      group: KEEP,
      default: 365 * DAY,
      description: "Signed heads of agents' audit logs; the newest of each log stays.",
    }),
    events: setting(type.int({ min: 1, max: 100_000 }), {
      key: 'keep.events',
      live: true,
      group: KEEP,
      default: 1000,
      description: 'Events of each agent.',
    }),
    maxJobs: setting(type.int({ min: 100, max: 100_000_000 }), {
      key: 'keep.max_jobs',
      live: true,
      group: KEEP,
      default: 1_000_000,
      description: 'Jobs in all; beyond that the oldest ended ones go.',
    }),
    maxLogBytes: setting(type.bytes({ min: 1024 ** 2, max: 1024 ** 5 }), {
      key: 'keep.max_log_size',
      live: true,
      group: KEEP,
      default: 64 * 1024 ** 3,
      description: 'Output of everything; beyond that goes what was written longest ago.',
    }),
  },
  allowedOrigins: setting(type.list(type.string({ placeholder: 'ORIGIN' })), {
    key: 'allowed_origins',
    live: true,
    group: ADDRESS,
    default: [],
    example: '["https://desks.example.net"]',
    description: "Origins of pages beside the controller's own that may open WebSockets to sessions.",
  }),
  logLevel: setting(type.oneOf(['debug', 'info', 'warn', 'error']), {
    key: 'log_level',
    live: true,
    group: LOG,
    default: 'info',
    description: 'Least severe lines that are logged, as JSON on standard error.',
  }),
});
