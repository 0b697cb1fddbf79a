// The shape of a session: what no agent could bring about, whatever its policy. All mistakes are told at once, by path.
// Limits of a host and what it allows are the agent's to judge. Pure.
import { durationMs } from '@bufbuild/protobuf/wkt';
import { PullPolicy } from '#gen/longline/v1/job_pb.js';
import {
  type SessionHealthCheck,
  SessionNetworkMode,
  SessionPortProtocol,
  SessionRestartMode,
  type SessionSpec,
  SessionVolumeScope,
} from '#gen/longline/v1/session_pb.js';
import type { FieldViolation } from '../../core/errors.ts';
import { labelViolations } from './selector.ts';
import { bytesOf, checkEnv, IMAGE, Shape, shown } from './shape.ts';

const MAX_COMMAND_BYTES = 128 * 1024;
const MAX_VOLUMES = 16;
const MAX_PORTS = 32;
const MAX_CAPABILITIES = 64;
const HOUR_MS = 3_600_000;
const VOLUME_NAME = /^[a-z0-9][a-z0-9_-]{0,31}$/;
const PORT_NAME = /^[a-z][a-z0-9-]{0,31}$/;
const OWNER = /^[A-Za-z0-9._-]{1,64}$/;
const ENGINE_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;
const HOSTNAME = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const SIGNAL = /^SIG[A-Z0-9+-]{2,10}$/;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const CAPABILITY = /^(?!CAP_)[A-Z][A-Z0-9_]{0,63}$/;

const isPath = (path: string): boolean => path.startsWith('/') && !path.includes('\0');
const isPort = (port: number): boolean => port >= 1 && port <= 65_535;

function checkProgram(shape: Shape, spec: SessionSpec): void {
  shape.require(IMAGE.test(spec.image), 'image', `${shown(spec.image)} is no image reference`);
  shape.require(spec.pullPolicy in PullPolicy, 'pull_policy', `${spec.pullPolicy} is unknown`);
  const argv = [...spec.entrypoint, ...spec.command];
  const bytes = bytesOf(argv);
  shape.require(bytes <= MAX_COMMAND_BYTES, 'command', `has ${bytes} bytes; at most ${MAX_COMMAND_BYTES} are allowed`);
  shape.require(!argv.some((part) => part.includes('\0')), 'command', 'has a NUL character');
  const dir = spec.workingDir;
  shape.require(dir === '' || isPath(dir), 'working_dir', `${shown(dir)} must be an absolute path`);
  const signal = spec.stopSignal;
  shape.require(
    signal === '' || SIGNAL.test(signal),
    'stop_signal',
    `${shown(signal)} must be a name such as "SIGINT"`,
  );
  const owner = spec.owner;
  shape.require(owner === '' || OWNER.test(owner), 'owner', `${shown(owner)} must be 1 to 64 of [A-Za-z0-9._-]`);
  shape.duration(spec.maxLifetime, 'max_lifetime', 1000, 366 * 24 * HOUR_MS);
  shape.duration(spec.stopGrace, 'stop_grace', 0, 600_000);
  shape.duration(spec.startTimeout, 'start_timeout', 1000, HOUR_MS);
}

function checkResources(shape: Shape, { resources }: SessionSpec): void {
  shape.positive(resources?.cpus, 'resources.cpus');
  shape.positive(resources?.memoryBytes, 'resources.memory_bytes');
  shape.positive(resources?.pids, 'resources.pids');
  shape.positive(resources?.shmBytes, 'resources.shm_bytes');
}

function checkStorage(shape: Shape, spec: SessionSpec): void {
  const targets = new Set<string>();
  const target = (path: string, field: string): void => {
    shape.require(isPath(path) && path !== '/', field, `${shown(path)} must be an absolute path below /`);
    shape.require(!targets.has(path), field, `${shown(path)} is mounted twice`);
    targets.add(path);
  };
  const names = new Set<string>();
  shape.atMost(spec.volumes.length, MAX_VOLUMES, 'volumes');
  for (const [index, volume] of spec.volumes.slice(0, MAX_VOLUMES).entries()) {
    const field = `volumes[${index}]`;
    const key = `${volume.scope} ${volume.name}`;
    shape.require(
      VOLUME_NAME.test(volume.name),
      `${field}.name`,
      `${shown(volume.name)} must be 1 to 32 of [a-z0-9_-], the first a letter or digit`,
    );
    shape.require(!names.has(key), `${field}.name`, `${shown(volume.name)} is given twice`);
    names.add(key);
    shape.require(volume.scope in SessionVolumeScope, `${field}.scope`, `${volume.scope} is unknown`);
    const ownerless = volume.scope === SessionVolumeScope.OWNER && spec.owner === '';
    shape.require(!ownerless, `${field}.scope`, 'is OWNER, but the session has no owner; set owner');
    target(volume.target, `${field}.target`);
    const { driver } = volume;
    shape.require(driver === '' || ENGINE_NAME.test(driver), `${field}.driver`, `${shown(driver)} is no driver name`);
    shape.atMost(Object.keys(volume.driverOptions).length, MAX_CAPABILITIES, `${field}.driver_options`);
  }
  shape.atMost(spec.mounts.length, MAX_VOLUMES, 'mounts');
  for (const [index, mount] of spec.mounts.slice(0, MAX_VOLUMES).entries()) {
    const field = `mounts[${index}]`;
    shape.require(isPath(mount.source), `${field}.source`, `${shown(mount.source)} must be an absolute path`);
    target(mount.target, `${field}.target`);
  }
}

function checkNetwork(shape: Shape, spec: SessionSpec): void {
  const { mode, name, internal, hostname } = spec.network ?? { mode: 0, name: '', internal: false, hostname: '' };
  shape.require(mode in SessionNetworkMode, 'network.mode', `${mode} is unknown`);
  const named = mode === SessionNetworkMode.NAMED;
  shape.require(named || name === '', 'network.name', 'is given without MODE_NAMED');
  shape.require(!named || ENGINE_NAME.test(name), 'network.name', `${shown(name)} must name an engine network`);
  const isolated = mode === SessionNetworkMode.UNSPECIFIED || mode === SessionNetworkMode.ISOLATED;
  shape.require(isolated || !internal, 'network.internal', 'is only for MODE_ISOLATED');
  shape.require(hostname === '' || HOSTNAME.test(hostname), 'network.hostname', `${shown(hostname)} is no host name`);
}

function checkPorts(shape: Shape, spec: SessionSpec): void {
  const names = new Map<string, number>();
  const numbers = new Set<number>();
  shape.atMost(spec.ports.length, MAX_PORTS, 'ports');
  for (const [index, port] of spec.ports.slice(0, MAX_PORTS).entries()) {
    const field = `ports[${index}]`;
    shape.require(
      PORT_NAME.test(port.name),
      `${field}.name`,
      `${shown(port.name)} must be 1 to 32 of [a-z0-9-], the first a letter`,
    );
    shape.require(!names.has(port.name), `${field}.name`, `${shown(port.name)} is given twice`);
    shape.require(isPort(port.number), `${field}.number`, `is ${port.number}; must be 1 to 65535`);
    shape.require(!numbers.has(port.number), `${field}.number`, `${port.number} is given twice`);
    shape.require(port.protocol in SessionPortProtocol, `${field}.protocol`, `${port.protocol} is unknown`);
    names.set(port.name, port.number);
    numbers.add(port.number);
  }
  checkVnc(shape, spec, names, numbers);
}

function checkVnc(shape: Shape, { vnc }: SessionSpec, names: Map<string, number>, numbers: Set<number>): void {
  if (vnc === undefined) return;
  const port = vnc.port || 5900;
  shape.require(vnc.port === 0 || isPort(vnc.port), 'vnc.port', `is ${vnc.port}; must be 1 to 65535, or 0 for 5900`);
  const taken = names.has('vnc') && !numbers.has(port);
  shape.require(!taken, 'vnc.port', `${port} is not declared, and the name "vnc" is that of port ${names.get('vnc')}`);
  shape.require(vnc.password.length <= 256, 'vnc.password', 'is longer than 256 characters');
  shape.require(!vnc.password.includes('\0'), 'vnc.password', 'has a NUL character');
  const { passwordEnv } = vnc;
  shape.require(
    passwordEnv === '' || ENV_NAME.test(passwordEnv),
    'vnc.password_env',
    `${shown(passwordEnv)} is no name`,
  );
  for (const [field, size] of [
    ['vnc.width', vnc.width],
    ['vnc.height', vnc.height],
  ] as const) {
    shape.require(size === 0 || (size >= 16 && size <= 16_384), field, `is ${size}; must be 16 to 16384 pixels, or 0`);
  }
}

function checkHealth(shape: Shape, check: SessionHealthCheck): void {
  const { probe } = check;
  shape.require(probe.case !== undefined, 'health_check', 'has no probe; give command, tcp or http');
  if (probe.case === 'command') {
    shape.require((probe.value.argv[0] ?? '') !== '', 'health_check.command.argv', 'is empty; must name a program');
  } else if (probe.case !== undefined) {
    const field = `health_check.${probe.case}.port`;
    shape.require(isPort(probe.value.port), field, `is ${probe.value.port}; must be 1 to 65535`);
  }
  const path = probe.case === 'http' ? probe.value.path : '';
  shape.require(path === '' || /^\/[\x21-\x7e]*$/.test(path), 'health_check.http.path', `${shown(path)} is no path`);
  shape.duration(check.interval, 'health_check.interval', 1000, HOUR_MS);
  shape.duration(check.timeout, 'health_check.timeout', 100, 600_000);
  shape.duration(check.startPeriod, 'health_check.start_period', 0, HOUR_MS);
  const retries = check.retries || 3;
  shape.require(
    check.restartAfter === 0 || check.restartAfter >= retries,
    'health_check.restart_after',
    `is ${check.restartAfter}; must be 0 or at least retries, which are ${retries}`,
  );
}

function checkPolicies(shape: Shape, { idle, restart, sandbox }: SessionSpec): void {
  if (idle !== undefined) {
    shape.duration(idle.pauseAfter, 'idle.pause_after', 10_000);
    shape.duration(idle.stopAfter, 'idle.stop_after', 10_000);
    const { pauseAfter, stopAfter } = idle;
    const ordered =
      pauseAfter === undefined || stopAfter === undefined || durationMs(stopAfter) > durationMs(pauseAfter);
    shape.require(ordered, 'idle.stop_after', 'must be longer than pause_after');
    const none = pauseAfter === undefined && stopAfter === undefined;
    shape.require(!none, 'idle', 'has neither pause_after nor stop_after; leave it out to stay awake');
    const cpus = idle.maxCpus ?? 0;
    shape.require(cpus >= 0 && Number.isFinite(cpus), 'idle.max_cpus', `is ${cpus}; must be 0 or more`);
  }
  if (restart !== undefined) {
    shape.require(restart.mode in SessionRestartMode, 'restart.mode', `${restart.mode} is unknown`);
    shape.duration(restart.backoff, 'restart.backoff', 100, HOUR_MS);
    shape.duration(restart.maxBackoff, 'restart.max_backoff', 100, 24 * HOUR_MS);
    shape.duration(restart.resetAfter, 'restart.reset_after', 1000, 24 * HOUR_MS);
  }
  const added = sandbox?.addCapabilities ?? [];
  shape.atMost(added.length, MAX_CAPABILITIES, 'sandbox.add_capabilities');
  for (const [index, name] of added.slice(0, MAX_CAPABILITIES).entries()) {
    const field = `sandbox.add_capabilities[${index}]`;
    shape.require(CAPABILITY.test(name), field, `${shown(name)} must be a capability name without CAP_`);
  }
  const runtime = sandbox?.runtime ?? '';
  shape.require(runtime === '' || ENGINE_NAME.test(runtime), 'sandbox.runtime', `${shown(runtime)} is no runtime name`);
}

/** Everything wrong with a spec; `path` is where it lies in the request. */
export function sessionSpecViolations(spec: SessionSpec, path: string): readonly FieldViolation[] {
  const shape = new Shape(path);
  checkProgram(shape, spec);
  checkEnv(shape, spec.env);
  checkResources(shape, spec);
  checkStorage(shape, spec);
  checkNetwork(shape, spec);
  checkPorts(shape, spec);
  if (spec.healthCheck !== undefined) checkHealth(shape, spec.healthCheck);
  checkPolicies(shape, spec);
  return [...shape.found, ...labelViolations(spec.labels, `${path}.labels`)];
}
