// The options that describe a session, and the spec that they make on top of a file. No I/O beyond the files they name.
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import type { Command } from 'commander';
import { PullPolicy } from '#gen/longline/v1/job_pb.js';
import {
  SessionHealthCheckSchema,
  SessionIdlePolicySchema,
  SessionNetworkMode,
  SessionNetworkSchema,
  SessionResourcesSchema,
  SessionRestartMode,
  SessionRestartPolicySchema,
  SessionSandboxSchema,
  type SessionSpec,
  SessionSpecSchema,
  type SessionTarget,
  SessionTargetSchema,
  SessionVncSchema,
} from '#gen/longline/v1/session_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { readOptionFile } from '../job/spec-options.ts';
import {
  countValue,
  durationValue,
  type MountValue,
  mountValue,
  pairValue,
  parseEnvFile,
  positiveValue,
  repeated,
  type SelectorValue,
  selectorValue,
  sizeValue,
  wordValue,
} from '../option-values.ts';
import {
  type HttpProbeValue,
  httpProbeValue,
  type PortValue,
  portValue,
  type VolumeValue,
  volumeValue,
} from './option-values.ts';
import { readSpecFile } from './spec-file.ts';

/** What the options say. */
export interface SessionSpecOptions {
  readonly agent?: string;
  readonly any?: SelectorValue;
  readonly file?: string;
  readonly image?: string;
  readonly pull?: PullPolicy;
  readonly env?: Record<string, string>;
  readonly envFile?: readonly string[];
  readonly workdir?: string;
  readonly owner?: string;
  readonly label?: Record<string, string>;
  readonly cpus?: number;
  readonly memory?: number;
  readonly pids?: number;
  readonly shm?: number;
  readonly volume?: readonly VolumeValue[];
  readonly mount?: readonly MountValue[];
  readonly network?: string;
  readonly port?: readonly PortValue[];
  readonly vnc?: number | true;
  readonly vncPasswordFile?: string;
  readonly pauseAfter?: number;
  readonly stopAfter?: number;
  readonly healthCmd?: string;
  readonly healthTcp?: number;
  readonly healthHttp?: HttpProbeValue;
  readonly healthInterval?: number;
  readonly restart?: SessionRestartMode;
  readonly maxLifetime?: number;
  readonly stopGrace?: number;
  readonly startTimeout?: number;
  readonly user?: string;
  readonly capAdd?: readonly string[];
  readonly runtime?: string;
  readonly tty?: boolean;
}

const PULL = { missing: PullPolicy.IF_MISSING, always: PullPolicy.ALWAYS, never: PullPolicy.NEVER };
const RESTART = {
  never: SessionRestartMode.NEVER,
  'on-failure': SessionRestartMode.ON_FAILURE,
  always: SessionRestartMode.ALWAYS,
};
const NETWORKS: Readonly<Record<string, SessionNetworkMode>> = {
  isolated: SessionNetworkMode.ISOLATED,
  shared: SessionNetworkMode.SHARED,
  none: SessionNetworkMode.NONE,
};
const tcpPort = countValue(1, 65_535);

/** Adds the options that say where a session runs and what it is. */
export function addSessionSpecOptions(command: Command): Command {
  command
    .optionsGroup('Where it runs:')
    .option('--agent <id>', 'this agent')
    .option(
      '--any <selector>',
      'the agent with most room that matches, like "zone=eu,gpu"; "*" for every',
      selectorValue,
    )
    .optionsGroup('What it runs (options win over the file, both over the template):')
    .option('--file <path>', 'spec as TOML, or as JSON if it ends in .json')
    .option('--image <image>', 'image')
    .option('--pull <when>', 'fetch the image: missing (default), always, never', wordValue(PULL))
    .option('-e, --env <name=value>', 'environment variable; repeatable', pairValue)
    .option('--env-file <path>', 'file of NAME=VALUE lines; --env wins; repeatable', repeated)
    .option('-w, --workdir <path>', 'working folder in the container')
    .option('--owner <name>', 'whom it belongs to: names the volumes of owner/')
    .option('--label <key=value>', 'label; repeatable', pairValue)
    .option('--tty', 'give the main process a terminal, for `session attach`');
  command
    .optionsGroup('Limits:')
    .option('--cpus <n>', 'processor cores, like 0.5', positiveValue(1024))
    .option('--memory <size>', 'memory, swap included, like 2GiB', sizeValue)
    .option('--pids <n>', 'processes and threads', countValue(1, 4_194_304))
    .option('--shm <size>', 'size of /dev/shm', sizeValue)
    .option('--max-lifetime <duration>', 'stopped after this, hibernation included', durationValue)
    .option('--stop-grace <duration>', 'time between the stop signal and KILL', durationValue)
    .option('--start-timeout <duration>', 'must be up and healthy within this', durationValue);
  command
    .optionsGroup('Storage and network:')
    .option(
      '--volume <name:target[:ro]>',
      'volume, kept; owner/NAME or shared/NAME to share it; repeatable',
      volumeValue,
    )
    .option('--mount <source:target[:rw]>', 'mount a host folder, read-only unless :rw; repeatable', mountValue)
    .option('--network <mode>', 'isolated (default), shared, none or the name of an engine network')
    .option('--port <name:port[/protocol]>', 'port that tunnels may reach: raw, vnc, http, ssh; repeatable', portValue)
    .option('--vnc [port]', 'it has a screen on this port (5900 if left out)', tcpPort)
    .option('--vnc-password-file <path>', 'file with the password of the screen');
  return command
    .optionsGroup('Life:')
    .option('--pause-after <duration>', 'pause when idle for this long', durationValue)
    .option('--stop-after <duration>', 'hibernate by stopping when idle for this long', durationValue)
    .option('--restart <when>', 'restart the main process: never, on-failure (default), always', wordValue(RESTART))
    .option('--health-cmd <line>', "healthy if this line for the image's /bin/sh exits with 0")
    .option('--health-tcp <port>', 'healthy if this port accepts a connection', tcpPort)
    .option('--health-http <port/path>', 'healthy if this answers with 200 to 399', httpProbeValue)
    .option('--health-interval <duration>', 'between health checks', durationValue)
    .optionsGroup("Sandbox (the agent's policy must allow what loosens it):")
    .option('-u, --user <user>', 'user or uid:gid in the container')
    .option('--cap-add <name>', 'Linux capability without CAP_; repeatable', repeated)
    .option('--runtime <name>', 'engine runtime, such as runsc');
}

/** Where the session runs; exactly one of --agent and --any. */
export function sessionTargetOf({ agent, any }: SessionSpecOptions): SessionTarget {
  if ((agent === undefined) === (any === undefined)) {
    const what = agent === undefined ? 'none was given' : 'both were given';
    throw new LonglineError('invalid', `where should it run? Give one of --agent ID and --any SELECTOR; ${what}`);
  }
  return create(SessionTargetSchema, {
    target: agent === undefined ? { case: 'anyOf', value: any! } : { case: 'agentId', value: agent },
  });
}

/** The spec: the file's with the options laid over it. `command` is what stands after the options. */
export async function sessionSpecOf(options: SessionSpecOptions, command: readonly string[]): Promise<SessionSpec> {
  const spec = options.file === undefined ? create(SessionSpecSchema) : (await readSpecFile(options.file)).spec;
  if (options.image !== undefined) spec.image = options.image;
  if (options.pull !== undefined) spec.pullPolicy = options.pull;
  if (command.length > 0) spec.command = [...command];
  for (const path of options.envFile ?? []) {
    Object.assign(spec.env, parseEnvFile((await readOptionFile('--env-file', path)).toString('utf8'), path));
  }
  Object.assign(spec.env, options.env);
  Object.assign(spec.labels, options.label);
  if (options.workdir !== undefined) spec.workingDir = options.workdir;
  if (options.owner !== undefined) spec.owner = options.owner;
  if (options.tty) {
    spec.tty = true;
    spec.stdin = true;
  }
  applyLimits(spec, options);
  applyStorage(spec, options);
  await applyVnc(spec, options);
  applyLife(spec, options);
  applySandbox(spec, options);
  return spec;
}

function applyLimits(spec: SessionSpec, options: SessionSpecOptions): void {
  const { cpus, memory, pids, shm, maxLifetime, stopGrace, startTimeout } = options;
  if ([cpus, memory, pids, shm].some((value) => value !== undefined)) {
    spec.resources ??= create(SessionResourcesSchema);
    if (cpus !== undefined) spec.resources.cpus = cpus;
    if (memory !== undefined) spec.resources.memoryBytes = BigInt(memory);
    if (pids !== undefined) spec.resources.pids = pids;
    if (shm !== undefined) spec.resources.shmBytes = BigInt(shm);
  }
  if (maxLifetime !== undefined) spec.maxLifetime = durationFromMs(maxLifetime);
  if (stopGrace !== undefined) spec.stopGrace = durationFromMs(stopGrace);
  if (startTimeout !== undefined) spec.startTimeout = durationFromMs(startTimeout);
}

function applyStorage(spec: SessionSpec, options: SessionSpecOptions): void {
  const { volume, mount, network, port } = options;
  const lists = create(SessionSpecSchema, {
    volumes: (volume ?? []).map((one) => ({ ...one })),
    mounts: (mount ?? []).map((one) => ({ ...one })),
    ports: (port ?? []).map((one) => ({ ...one })),
  });
  if (volume !== undefined) spec.volumes = lists.volumes;
  if (mount !== undefined) spec.mounts = lists.mounts;
  if (port !== undefined) spec.ports = lists.ports;
  if (network === undefined) return;
  const mode = Object.hasOwn(NETWORKS, network) ? NETWORKS[network] : undefined;
  spec.network ??= create(SessionNetworkSchema);
  spec.network.mode = mode ?? SessionNetworkMode.NAMED;
  spec.network.name = mode === undefined ? network : '';
}

async function applyVnc(spec: SessionSpec, { vnc, vncPasswordFile }: SessionSpecOptions): Promise<void> {
  if (vnc === undefined && vncPasswordFile === undefined) return;
  spec.vnc ??= create(SessionVncSchema);
  if (typeof vnc === 'number') spec.vnc.port = vnc;
  if (vncPasswordFile === undefined) return;
  const text = (await readOptionFile('--vnc-password-file', vncPasswordFile)).toString('utf8').replace(/\r?\n$/, '');
  if (text === '') throw new LonglineError('invalid', `--vnc-password-file: ${vncPasswordFile} is empty`);
  spec.vnc.password = text;
}

function applyLife(spec: SessionSpec, options: SessionSpecOptions): void {
  const { pauseAfter, stopAfter, restart, healthCmd, healthTcp, healthHttp, healthInterval } = options;
  if (pauseAfter !== undefined || stopAfter !== undefined) {
    spec.idle ??= create(SessionIdlePolicySchema);
    if (pauseAfter !== undefined) spec.idle.pauseAfter = durationFromMs(pauseAfter);
    if (stopAfter !== undefined) spec.idle.stopAfter = durationFromMs(stopAfter);
  }
  if (restart !== undefined) {
    spec.restart ??= create(SessionRestartPolicySchema);
    spec.restart.mode = restart;
  }
  const probes = [healthCmd, healthTcp, healthHttp].filter((probe) => probe !== undefined).length;
  if (probes > 1) throw new LonglineError('invalid', 'give one of --health-cmd, --health-tcp and --health-http');
  if (probes + (healthInterval === undefined ? 0 : 1) === 0) return;
  spec.healthCheck ??= create(SessionHealthCheckSchema);
  if (healthCmd !== undefined) {
    const argv = ['/bin/sh', '-c', healthCmd];
    spec.healthCheck.probe = create(SessionHealthCheckSchema, { probe: { case: 'command', value: { argv } } }).probe;
  } else if (healthTcp !== undefined) {
    const value = { port: healthTcp };
    spec.healthCheck.probe = create(SessionHealthCheckSchema, { probe: { case: 'tcp', value } }).probe;
  } else if (healthHttp !== undefined) {
    spec.healthCheck.probe = create(SessionHealthCheckSchema, { probe: { case: 'http', value: healthHttp } }).probe;
  }
  if (healthInterval !== undefined) spec.healthCheck.interval = durationFromMs(healthInterval);
}

function applySandbox(spec: SessionSpec, { user, capAdd, runtime }: SessionSpecOptions): void {
  if (user === undefined && capAdd === undefined && runtime === undefined) return;
  spec.sandbox ??= create(SessionSandboxSchema);
  if (user !== undefined) spec.sandbox.user = user;
  if (capAdd !== undefined) {
    spec.sandbox.addCapabilities = capAdd.map((name) => name.toUpperCase().replace(/^CAP_/, ''));
  }
  if (runtime !== undefined) spec.sandbox.runtime = runtime;
}
