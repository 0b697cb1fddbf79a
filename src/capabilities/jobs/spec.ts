// A job as it will be run: parsed from the wire, complete, within the host's bounds and frozen, or refused with every
// wrong field. Pure. What a signer may ask for is policy's matter and decided elsewhere, on the value made here.

import { formatDuration } from '../../core/clock.ts';
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { type ImageReference, parseImageReference } from '../../core/images/image-reference.ts';
import { imageAllowed, type JobsConfig, MIN_MEMORY_BYTES, MIN_TMP_BYTES } from './config.ts';
import type { ContainerMount } from './ports.ts';
import {
  capabilityNames,
  commandOf,
  environment,
  type JobNetwork,
  mountsOf,
  networkOf,
  type Refuse,
  userOf,
} from './spec-fields.ts';
import { durationMs, type JobSpecMessage, metadataBytes, pullPolicyOf, stdinModeOf } from './wire.ts';

/** Where a job's standard input comes from. */
export type JobInput =
  /** It has none: reads give end of file. */
  | { readonly kind: 'none' }
  /** These bytes, then end of file. */
  | { readonly kind: 'inline'; readonly data: Uint8Array }
  /** What is sent while it runs. */
  | { readonly kind: 'stream' };

/** A job with nothing left open. */
export interface JobSpec {
  /** Program and arguments; a shell line has become "/bin/sh -c LINE". */
  readonly argv: readonly string[];
  readonly image: ImageReference;
  readonly pullPolicy: 'if_missing' | 'always' | 'never';
  readonly env: Readonly<Record<string, string>>;
  /** Empty takes the image's. */
  readonly workingDir: string;
  readonly input: JobInput;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly tmpBytes: number;
  readonly timeoutMs: number;
  readonly stopGraceMs: number;
  /** Kept for each stream; what is past it is dropped and declared. */
  readonly outputBytes: number;
  readonly network: JobNetwork;
  readonly mounts: readonly ContainerMount[];
  readonly user: string;
  /** On top of none, without CAP_. */
  readonly addCapabilities: readonly string[];
  readonly writableRoot: boolean;
  readonly allowNewPrivileges: boolean;
  /** Empty takes the engine's default. */
  readonly runtime: string;
  readonly requiredScopes: readonly string[];
}

const MAX_INPUT = 1024 * 1024;
const MAX_METADATA = 64 * 1024;
const MAX_SCOPES = 64;
const MAX_VIOLATIONS = 50;

/** Parses a spec and fills in defaults. Throws `invalid` with every wrong field (at most 50), its value and what would be right. */
export function parseJobSpec(message: JobSpecMessage, config: JobsConfig): JobSpec {
  const violations: FieldViolation[] = [];
  // A spec may hold a million wrong values; the refusal of it has to stay small.
  const refuse: Refuse = (field, description) => {
    if (violations.length < MAX_VIOLATIONS) violations.push({ field: `spec.${field}`, description });
  };
  const { defaults, limits } = config;
  const resources = message.resources;
  const sandbox = message.sandbox;
  const spec: JobSpec = {
    argv: commandOf(message.argv, message.shell, refuse),
    image: imageOf(message.image, config, refuse),
    pullPolicy: pullPolicyOf(message.pullPolicy) ?? refused('pull_policy', message.pullPolicy, 'never', refuse),
    env: environment(message.env, refuse),
    workingDir: workingDirOf(message.workingDir, refuse),
    input: inputOf(message, refuse),
    cpus: bounded('resources.cpus', resources?.cpus, defaults.cpus, 0.01, limits.cpus, refuse),
    memoryBytes: bounded(
      'resources.memory_bytes',
      resources?.memoryBytes,
      defaults.memoryBytes,
      MIN_MEMORY_BYTES,
      limits.memoryBytes,
      refuse,
    ),
    pids: bounded('resources.pids', resources?.pids, defaults.pids, 1, limits.pids, refuse),
    tmpBytes: bounded(
      'resources.tmp_bytes',
      resources?.tmpBytes,
      defaults.tmpBytes,
      MIN_TMP_BYTES,
      limits.tmpBytes,
      refuse,
    ),
    timeoutMs: duration('timeout', message.timeout, defaults.timeoutMs, 1, limits.timeoutMs, refuse),
    stopGraceMs: duration('stop_grace', message.stopGrace, defaults.stopGraceMs, 0, limits.stopGraceMs, refuse),
    outputBytes: bounded(
      'max_output_bytes',
      message.maxOutputBytes,
      defaults.outputBytes,
      0,
      limits.outputBytes,
      refuse,
    ),
    network: networkOf(message.networkMode, message.networkName, refuse),
    mounts: mountsOf(message.mounts, refuse),
    user: userOf(sandbox?.user ?? '', defaults.user, refuse),
    addCapabilities: capabilityNames(sandbox?.addCapabilities ?? [], refuse),
    writableRoot: sandbox?.writableRoot ?? false,
    allowNewPrivileges: sandbox?.allowNewPrivileges ?? false,
    runtime: runtimeOf(sandbox?.runtime ?? '', defaults.runtime, refuse),
    requiredScopes: scopesOf(message.requiredScopes, refuse),
  };
  const size = metadataBytes(message);
  if (size > MAX_METADATA) refuse('metadata', `${size} bytes; at most ${MAX_METADATA} are taken`);
  if (violations.length > 0) throw invalid(violations);
  return freeze(spec);
}

function imageOf(text: string, config: JobsConfig, refuse: Refuse): ImageReference {
  const reference = parseImageReference(text === '' ? config.defaults.image : text);
  if (typeof reference === 'string') {
    refuse('image', reference);
    return parseImageReference(config.defaults.image) as ImageReference;
  }
  if (!imageAllowed(config, reference)) {
    const allowed = config.imagePatterns.map((pattern) => pattern.text).slice(0, 10);
    refuse('image', `${JSON.stringify(reference.text)} is not allowed on this host; allowed are ${allowed.join(', ')}`);
  }
  return reference;
}

function inputOf(message: JobSpecMessage, refuse: Refuse): JobInput {
  const kind = stdinModeOf(message.stdinMode);
  if (kind === undefined) return refused('stdin_mode', message.stdinMode, { kind: 'none' }, refuse);
  const { stdinData: data } = message;
  if (data.length > 0 && kind !== 'inline') {
    refuse('stdin_data', `${data.length} bytes were given, but stdin_mode is not STDIN_MODE_INLINE`);
  }
  if (data.length > MAX_INPUT)
    refuse('stdin_data', `${data.length} bytes; at most ${MAX_INPUT} go inline, stream more`);
  return kind === 'inline' ? { kind, data } : { kind };
}

function workingDirOf(path: string, refuse: Refuse): string {
  if (path !== '' && (!path.startsWith('/') || path.includes('\0') || path.length > 4096)) {
    refuse('working_dir', `${JSON.stringify(path.slice(0, 80))} is not an absolute path of at most 4096 characters`);
  }
  return path;
}

function runtimeOf(name: string, fallback: string, refuse: Refuse): string {
  if (!/^[A-Za-z0-9._-]{0,64}$/.test(name)) {
    refuse('sandbox.runtime', `${JSON.stringify(name.slice(0, 80))} is not a runtime name; "runc" or "runsc" are`);
  }
  return name === '' ? fallback : name;
}

function scopesOf(scopes: readonly string[], refuse: Refuse): readonly string[] {
  if (scopes.length > MAX_SCOPES) refuse('required_scopes', `${scopes.length} scopes; at most ${MAX_SCOPES} are taken`);
  for (const [index, scope] of scopes.slice(0, MAX_SCOPES).entries()) {
    if (/^[\x21-\x7e]{1,128}$/.test(scope)) continue;
    refuse(`required_scopes[${index}]`, 'is not 1 to 128 visible ASCII characters');
  }
  return [...scopes];
}

function bounded(
  field: string,
  given: number | bigint | undefined,
  fallback: number,
  least: number,
  most: number,
  refuse: Refuse,
): number {
  if (given === undefined) return fallback;
  const value = Number(given);
  if (value >= least && value <= most) return value;
  refuse(field, `${given} is out of range; ${least} to ${most} is allowed on this host`);
  return fallback;
}

function duration(
  field: string,
  given: JobSpecMessage['timeout'],
  fallback: number,
  leastMs: number,
  mostMs: number,
  refuse: Refuse,
): number {
  if (given === undefined) return fallback;
  const ms = durationMs(given);
  if (ms >= leastMs && ms <= mostMs) return ms;
  const shown = Number.isNaN(ms) ? 'a malformed duration' : `${ms / 1000} s`;
  refuse(
    field,
    `${shown} is out of range; ${formatDuration(leastMs)} to ${formatDuration(mostMs)} is allowed on this host`,
  );
  return fallback;
}

function refused<T>(field: string, value: number, fallback: T, refuse: Refuse): T {
  refuse(field, `${value} is a value that this agent does not know`);
  return fallback;
}

function freeze(spec: JobSpec): JobSpec {
  for (const part of [spec.argv, spec.env, spec.input, spec.network, spec.addCapabilities, spec.requiredScopes]) {
    Object.freeze(part);
  }
  for (const mount of spec.mounts) Object.freeze(mount);
  Object.freeze(spec.mounts);
  return Object.freeze(spec);
}
