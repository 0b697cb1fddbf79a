// A session as it will be run: parsed from the wire, complete and frozen, or refused with every wrong field. Pure. What a
// signer may ask for is policy's matter and decided elsewhere, on the value made here.
import { formatDuration } from '../../core/clock.ts';
import { capabilityNames, environment, type Refuse, userOf } from '../../core/container-fields.ts';
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { parseImageReference } from '../../core/images/image-reference.ts';
import type { SessionsConfig } from './config.ts';
import { FieldReader } from './field-reader.ts';
import { healthOf } from './health-fields.ts';
import type { IdlePolicy } from './idle.ts';
import type { RestartPolicy } from './restart-policy.ts';
import type { SessionSpec } from './session-spec.ts';
import { argumentsOf, labelsOf, mountsOf, networkOf, pathOf, portsOf, volumesOf } from './spec-fields.ts';
import { pullPolicyOf, restartModeOf, type SessionSpecMessage } from './wire.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const MIB = 1024 ** 2;
const MAX_VIOLATIONS = 50;

/** Parses a spec and fills in defaults. Throws `invalid` with every wrong field (at most 50), its value and what would be right. */
export function parseSessionSpec(message: SessionSpecMessage, config: SessionsConfig): SessionSpec {
  const violations: FieldViolation[] = [];
  const refuse: Refuse = (field, description) => {
    if (violations.length < MAX_VIOLATIONS) violations.push({ field: `spec.${field}`, description });
  };
  const read = new FieldReader(refuse);
  const { sandbox } = message;
  const spec: SessionSpec = {
    image: imageOf(message.image, refuse),
    pullPolicy: pullPolicyOf(message.pullPolicy) ?? unknown('pull_policy', message.pullPolicy, 'never', refuse),
    entrypoint: argumentsOf('entrypoint', message.entrypoint, refuse),
    command: argumentsOf('command', message.command, refuse),
    env: { ...environment(message.env, refuse), ...screenOf(message, refuse) },
    workingDir: message.workingDir === '' ? '' : pathOf('working_dir', message.workingDir, refuse),
    ...resourcesOf(message, config, read),
    volumes: volumesOf(message.volumes, message.owner, config.volumeDriver, refuse),
    mounts: mountsOf(
      message.mounts,
      message.volumes.map(({ target }) => target),
      refuse,
    ),
    network: networkOf(message.network, refuse),
    hostname: hostnameOf(message.network?.hostname ?? '', refuse),
    ports: portsOf(message.ports, message.vnc, refuse),
    labels: labelsOf(message.labels, refuse),
    idle: idleOf(message.idle, read, refuse),
    health: healthOf(message.healthCheck, read, refuse),
    restart: restartOf(message.restart, read, refuse),
    lifetimeMs: read.duration('max_lifetime', message.maxLifetime, 0, SECOND, 365 * DAY),
    stopGraceMs: read.duration('stop_grace', message.stopGrace, 10 * SECOND, 0, 10 * MINUTE),
    stopSignal: signalOf(message.stopSignal, refuse),
    startTimeoutMs: read.duration('start_timeout', message.startTimeout, 120 * SECOND, SECOND, HOUR),
    owner: ownerOf(message.owner, refuse),
    user: userOf(sandbox?.user ?? '', '', refuse),
    addCapabilities: capabilityNames(sandbox?.addCapabilities ?? [], refuse),
    readOnlyRoot: sandbox?.readOnlyRoot ?? false,
    runtime: runtimeOf(sandbox?.runtime ?? '', config.runtime, refuse),
    allowNewPrivileges: sandbox?.allowNewPrivileges ?? false,
    terminal: message.tty,
    openStdin: message.stdin,
  };
  if (violations.length > 0) throw invalid(violations);
  return Object.freeze(spec);
}

function imageOf(text: string, refuse: Refuse): string {
  const reference = parseImageReference(text);
  if (typeof reference !== 'string') return reference.text;
  refuse('image', text === '' ? 'is empty; it must name an image, like "desktop:1.4"' : reference);
  return 'invalid:latest';
}

function resourcesOf({ resources }: SessionSpecMessage, { defaults, limits }: SessionsConfig, read: FieldReader) {
  return {
    cpus: read.number('resources.cpus', resources?.cpus, Math.min(defaults.cpus, limits.maxCpus), 0.01, limits.maxCpus),
    memoryBytes: read.number(
      'resources.memory_bytes',
      resources?.memoryBytes,
      Math.min(defaults.memoryBytes, limits.maxMemoryBytes),
      8 * MIB,
      limits.maxMemoryBytes,
    ),
    pids: read.number('resources.pids', resources?.pids, defaults.pids, 1, 4_194_304),
    shmBytes: read.number('resources.shm_bytes', resources?.shmBytes, defaults.shmBytes, 4096, limits.maxMemoryBytes),
  };
}

function screenOf({ vnc }: SessionSpecMessage, refuse: Refuse): Readonly<Record<string, string>> {
  if (vnc === undefined) return {};
  const name = vnc.passwordEnv === '' ? 'VNC_PASSWORD' : vnc.passwordEnv;
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
    refuse(
      'vnc.password_env',
      `${JSON.stringify(name.slice(0, 80))} is not a variable name; [A-Za-z_][A-Za-z0-9_]* is`,
    );
  }
  if (vnc.password.length > 256 || vnc.password.includes('\0')) {
    refuse('vnc.password', 'is longer than 256 characters or holds a NUL character');
  }
  for (const side of ['width', 'height'] as const) {
    if (vnc[side] > 16_384) refuse(`vnc.${side}`, `${vnc[side]} is out of range; 0 to 16384 is allowed`);
  }
  return {
    ...(vnc.password === '' ? {} : { [name]: vnc.password }),
    ...(vnc.width === 0 ? {} : { VNC_WIDTH: String(vnc.width) }),
    ...(vnc.height === 0 ? {} : { VNC_HEIGHT: String(vnc.height) }),
  };
}

function idleOf(message: SessionSpecMessage['idle'], read: FieldReader, refuse: Refuse): IdlePolicy | null {
  if (message === undefined) return null;
  const pauseAfterMs = read.duration('idle.pause_after', message.pauseAfter, 0, 10 * SECOND, 30 * DAY);
  const stopAfterMs = read.duration('idle.stop_after', message.stopAfter, 0, 10 * SECOND, 30 * DAY);
  if (pauseAfterMs > 0 && stopAfterMs > 0 && stopAfterMs <= pauseAfterMs) {
    const given = `${formatDuration(stopAfterMs)} is not longer than pause_after, ${formatDuration(pauseAfterMs)}`;
    refuse('idle.stop_after', `${given}; both count from the same moment`);
  }
  return {
    pauseAfterMs: pauseAfterMs === 0 ? undefined : pauseAfterMs,
    stopAfterMs: stopAfterMs === 0 ? undefined : stopAfterMs,
    maxCpus: read.number('idle.max_cpus', message.maxCpus, 0.05, 0, 1024),
    maxNetworkBytes: read.number('idle.max_network_bytes', message.maxNetworkBytes, 65_536, 0, 2 ** 50),
  };
}

function restartOf(message: SessionSpecMessage['restart'], read: FieldReader, refuse: Refuse): RestartPolicy {
  const mode = message?.mode ?? 0;
  const backoffMs = read.duration('restart.backoff', message?.backoff, SECOND, 100, HOUR);
  const maxBackoffMs = read.duration('restart.max_backoff', message?.maxBackoff, Math.max(MINUTE, backoffMs), 100, DAY);
  if (maxBackoffMs < backoffMs) {
    refuse('restart.max_backoff', `${formatDuration(maxBackoffMs)} is less than backoff, ${formatDuration(backoffMs)}`);
  }
  return {
    when: restartModeOf(mode) ?? unknown('restart.mode', mode, 'never', refuse),
    maxRestarts: read.number('restart.max_retries', message?.maxRetries, 10, 0, 1_000_000),
    backoffMs,
    maxBackoffMs,
    resetAfterMs: read.duration('restart.reset_after', message?.resetAfter, 10 * MINUTE, SECOND, 30 * DAY),
  };
}

function hostnameOf(name: string, refuse: Refuse): string {
  if (!/^$|^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(name)) {
    refuse(
      'network.hostname',
      `${JSON.stringify(name.slice(0, 80))} is not a host name of at most 63 of A-Z a-z 0-9 -`,
    );
  }
  return name;
}

function ownerOf(owner: string, refuse: Refuse): string {
  if (!/^[A-Za-z0-9._-]{0,64}$/.test(owner)) {
    refuse('owner', `${JSON.stringify(owner.slice(0, 80))} is not at most 64 of A-Z a-z 0-9 . _ -`);
  }
  return owner;
}

function signalOf(name: string, refuse: Refuse): string {
  if (!/^$|^SIG[A-Z0-9+]{2,10}$/.test(name)) {
    refuse('stop_signal', `${JSON.stringify(name.slice(0, 80))} is not the name of a signal; "SIGINT" is`);
  }
  return name;
}

function runtimeOf(name: string, fallback: string, refuse: Refuse): string {
  if (!/^[A-Za-z0-9._-]{0,64}$/.test(name)) {
    refuse('sandbox.runtime', `${JSON.stringify(name.slice(0, 80))} is not a runtime name; "runc" or "runsc" are`);
  }
  return name === '' ? fallback : name;
}

function unknown<T>(field: string, value: number, fallback: T, refuse: Refuse): T {
  refuse(field, `${value} is a value that this agent does not know`);
  return fallback;
}
