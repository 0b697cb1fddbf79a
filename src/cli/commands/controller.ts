// `longline controller`: the one place of the command line that knows the controller.
import { once } from 'node:events';
import type { Command } from 'commander';
import type { ControllerOptions } from '../../controller/config.ts';
import { defineConfig, type Resolved, setting } from '../../core/config/setting.ts';
import * as type from '../../core/config/value-type.ts';
import { addConfigOptions } from '../config-options.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, toJson } from '../io.ts';
import { ShutdownLimit } from '../shutdown-limit.ts';

const SECOND = 1000;
const DAY = 86_400 * SECOND;
/** To close stores and files once all are drained. */
const CLOSING_MS = 20 * SECOND;
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
      group: KEEP,
      default: 30 * DAY,
      description: 'Ended jobs and their results, from their submission.',
    }),
    sessionsMs: setting(type.duration({ min: 60 * SECOND, max: 3650 * DAY }), {
      key: 'keep.sessions',
      group: KEEP,
      default: 30 * DAY,
      description: 'Ended sessions, from their last change.',
    }),
    logsMs: setting(type.duration({ min: 60 * SECOND, max: 3650 * DAY }), {
      key: 'keep.logs',
      group: KEEP,
      default: 14 * DAY,
      description: 'Output, from its last write; it goes with its job at the latest.',
    }),
    checkpointsMs: setting(type.duration({ min: 60 * SECOND, max: 3650 * DAY }), {
      key: 'keep.checkpoints',
      group: KEEP,
      default: 365 * DAY,
      description: "Signed heads of agents' audit logs; the newest of each log stays.",
    }),
    events: setting(type.int({ min: 1, max: 100_000 }), {
      key: 'keep.events',
      group: KEEP,
      default: 1000,
      description: 'Events of each agent.',
    }),
    maxJobs: setting(type.int({ min: 100, max: 100_000_000 }), {
      key: 'keep.max_jobs',
      group: KEEP,
      default: 1_000_000,
      description: 'Jobs in all; beyond that the oldest ended ones go.',
    }),
    maxLogBytes: setting(type.bytes({ min: 1024 ** 2, max: 1024 ** 5 }), {
      key: 'keep.max_log_size',
      group: KEEP,
      default: 64 * 1024 ** 3,
      description: 'Output of everything; beyond that goes what was written longest ago.',
    }),
  },
  allowedOrigins: setting(type.list(type.string({ placeholder: 'ORIGIN' })), {
    key: 'allowed_origins',
    group: ADDRESS,
    default: [],
    example: '["https://desks.example.net"]',
    description: "Origins of pages beside the controller's own that may open WebSockets to sessions.",
  }),
  logLevel: setting(type.oneOf(['debug', 'info', 'warn', 'error']), {
    key: 'log_level',
    group: LOG,
    default: 'info',
    description: 'Least severe lines that are logged, as JSON on standard error.',
  }),
});

const EXAMPLES = `
Examples:
  longline controller --data-dir ./controller --listen 127.0.0.1:0
  export LONGLINE_CONTEXT=./controller/context.json; longline token create

When it serves it prints one line on standard output: {"ready":true,"url":URL,"context":PATH}. Operators point
LONGLINE_CONTEXT or --context at that path. SIGTERM and Ctrl-C drain it; a second one ends it at once.`;

/** Adds `controller`. */
export function registerControllerCommands(program: Command, io: CliIo): void {
  const controller = program
    .command('controller')
    .description('Run a controller. The first start makes its CA, certificates and an admin context file.')
    .addHelpText('after', EXAMPLES);
  const options = addConfigOptions(controller, controllerConfig, io);
  controller.action(async () => {
    const read = async () => optionsOf((await options.load()).config);
    await serve(io, await read(), read);
  });
}

function optionsOf(config: Resolved<typeof controllerConfig.table>): ControllerOptions {
  const { advertise, metricsListen, plaintextListen, ...rest } = config;
  return {
    ...rest,
    ...(advertise === undefined ? {} : { advertise }),
    ...(plaintextListen === undefined ? {} : { plaintextListen }),
    ...(metricsListen === undefined ? {} : { metricsListen }),
  };
}

async function serve(io: CliIo, options: ControllerOptions, read: () => Promise<ControllerOptions>): Promise<void> {
  using interrupt = new InterruptGuard();
  const limitMs = (options.drainWindowMs ?? 0) + CLOSING_MS;
  using _ = new ShutdownLimit(interrupt.signal, limitMs, 'drain_window');
  const { runController } = await import('../../controller/controller.ts');
  await using controller = await runController(options, {}, io.env);
  const onHangup = () => void controller.reload(read);
  process.on('SIGHUP', onHangup);
  await io.stdout.line(toJson({ ready: true, url: controller.url, context: controller.contextPath }));
  if (!interrupt.signal.aborted) await once(interrupt.signal, 'abort');
  process.off('SIGHUP', onHangup);
}
