// What an operator may set for jobs, parsed once into a frozen value. Policy (who may ask for what) is not here: these
// are the bounds of the host, which hold for every signer.

import { MAX_TIMER_MS } from '../../core/clock.ts';
import { type FieldViolation, invalid } from '../../core/errors.ts';
import { type ImagePattern, parseImagePattern } from '../../core/images/image-pattern.ts';
import type { PullSettings } from '../../core/images/image-puller.ts';
import { type ImageReference, parseImageReference } from '../../core/images/image-reference.ts';

/** What a job gets that doesn't say otherwise. */
export interface JobDefaults {
  readonly image: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly tmpBytes: number;
  readonly timeoutMs: number;
  readonly stopGraceMs: number;
  /** For each stream. */
  readonly outputBytes: number;
  readonly user: string;
  /** Empty takes the engine's. */
  readonly runtime: string;
}

/** The most that any job may ask for. */
export interface JobLimits {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly tmpBytes: number;
  readonly timeoutMs: number;
  readonly stopGraceMs: number;
  /** For each stream. */
  readonly outputBytes: number;
}

/** An image that containers are started ahead for. */
export interface WarmImage {
  readonly reference: string;
  /** Containers that wait at any time, for each shape (limits, user, network, mounts) in use. */
  readonly size: number;
}

/** The warm pool; no images means that it is off. */
export interface WarmSettings {
  readonly images: readonly WarmImage[];
  /** Static busybox on the host, mounted read-only into warm containers as their waiting init. */
  readonly initPath: string;
  /** Most waiting containers over all images; the shape used longest ago makes room. */
  readonly maxContainers: number;
  /** A container that waited this long is removed; its shape is warmed again by the next job that fits it. */
  readonly idleTtlMs: number;
}

/** Settings of the jobs capability. */
export interface JobsSettings {
  readonly maxConcurrent: number;
  readonly maxQueued: number;
  /** Patterns as parseImagePattern takes them. */
  readonly allowedImages: readonly string[];
  readonly defaults: JobDefaults;
  readonly limits: JobLimits;
  readonly pull: PullSettings;
  readonly warm: WarmSettings;
  /** How long a lost engine is waited for before the outcome of its jobs is given up as unknown. */
  readonly engineLossLimitMs: number;
}

/** Settings that were checked, with their patterns compiled. */
export interface JobsConfig extends JobsSettings {
  readonly imagePatterns: readonly ImagePattern[];
}

const MIB = 1024 * 1024;
const HOUR_MS = 3_600_000;

/** What holds where nothing is set. */
export const DEFAULT_JOBS_SETTINGS: JobsSettings = {
  maxConcurrent: 5,
  maxQueued: 1000,
  // Which images may run is the policy's word; a list here narrows it further.
  allowedImages: ['**'],
  defaults: {
    image: 'alpine:latest',
    cpus: 0.5,
    memoryBytes: 256 * MIB,
    pids: 64,
    tmpBytes: 64 * MIB,
    timeoutMs: 300_000,
    stopGraceMs: 10_000,
    outputBytes: 64 * MIB,
    user: '65534:65534',
    runtime: '',
  },
  limits: {
    cpus: 64,
    memoryBytes: 64 * 1024 * MIB,
    pids: 32_768,
    tmpBytes: 8 * 1024 * MIB,
    timeoutMs: 24 * HOUR_MS,
    stopGraceMs: 300_000,
    outputBytes: 1024 * MIB,
  },
  pull: { attempts: 4, backoffBaseMs: 1000, backoffCapMs: 15_000, timeoutMs: 900_000 },
  warm: { images: [], initPath: '/bin/busybox', maxContainers: 16, idleTtlMs: 1_800_000 },
  engineLossLimitMs: 120_000,
};

/** Settings in which every field may be left out. */
export interface PartialJobsSettings extends Partial<Omit<JobsSettings, 'defaults' | 'limits' | 'pull' | 'warm'>> {
  readonly defaults?: Partial<JobDefaults>;
  readonly limits?: Partial<JobLimits>;
  readonly pull?: Partial<PullSettings>;
  readonly warm?: Partial<WarmSettings>;
}

/** Fills in defaults and checks. Throws `invalid` with every wrong key, its value and its range. */
export function parseJobsConfig(given: PartialJobsSettings): JobsConfig {
  const base = DEFAULT_JOBS_SETTINGS;
  const settings: JobsSettings = {
    ...base,
    ...given,
    defaults: { ...base.defaults, ...given.defaults },
    limits: { ...base.limits, ...given.limits },
    pull: { ...base.pull, ...given.pull },
    warm: { ...base.warm, ...given.warm },
  };
  const violations: FieldViolation[] = [];
  checkRanges(settings, violations);
  const imagePatterns = settings.allowedImages.flatMap((text, index) => {
    const pattern = parseImagePattern(text);
    if (typeof pattern !== 'string') return [pattern];
    violations.push({ field: `allowed_images[${index}]`, description: pattern });
    return [];
  });
  checkImage('defaults.image', settings.defaults.image, violations);
  for (const [index, image] of settings.warm.images.entries()) {
    checkImage(`warm.images[${index}].reference`, image.reference, violations);
  }
  if (violations.length > 0) throw invalid(violations);
  return deepFreeze({ ...settings, imagePatterns });
}

/** True if the host runs this image at all. */
export function imageAllowed(config: JobsConfig, reference: ImageReference): boolean {
  return config.imagePatterns.some((pattern) => pattern.matches(reference));
}

/** Most output a job's engine log must keep, so that both streams can be recovered whole after a crash. */
export function keepLogBytes(outputBytes: number): number {
  return 2 * outputBytes + MIB;
}

function checkRanges(settings: JobsSettings, violations: FieldViolation[]): void {
  const { defaults, limits, pull, warm } = settings;
  const rows: readonly (readonly [string, number, number, number, boolean?])[] = [
    ['max_concurrent', settings.maxConcurrent, 1, 1000],
    ['max_queued', settings.maxQueued, 0, 100_000],
    ['engine_loss_limit_ms', settings.engineLossLimitMs, 0, HOUR_MS],
    ['limits.cpus', limits.cpus, 0.01, 1024, true],
    ['limits.memory_bytes', limits.memoryBytes, MIN_MEMORY_BYTES, 2 ** 50],
    ['limits.pids', limits.pids, 1, 4_194_304],
    ['limits.tmp_bytes', limits.tmpBytes, MIN_TMP_BYTES, 2 ** 50],
    ['limits.timeout_ms', limits.timeoutMs, 1, MAX_TIMER_MS],
    ['limits.stop_grace_ms', limits.stopGraceMs, 0, HOUR_MS],
    ['limits.output_bytes', limits.outputBytes, 0, 2 ** 40],
    ['defaults.cpus', defaults.cpus, 0.01, limits.cpus, true],
    ['defaults.memory_bytes', defaults.memoryBytes, MIN_MEMORY_BYTES, limits.memoryBytes],
    ['defaults.pids', defaults.pids, 1, limits.pids],
    ['defaults.tmp_bytes', defaults.tmpBytes, MIN_TMP_BYTES, limits.tmpBytes],
    ['defaults.timeout_ms', defaults.timeoutMs, 1, limits.timeoutMs],
    ['defaults.stop_grace_ms', defaults.stopGraceMs, 0, limits.stopGraceMs],
    ['defaults.output_bytes', defaults.outputBytes, 0, limits.outputBytes],
    ['pull.attempts', pull.attempts, 1, 20],
    ['pull.backoff_base_ms', pull.backoffBaseMs, 0, HOUR_MS],
    ['pull.backoff_cap_ms', pull.backoffCapMs, 0, HOUR_MS],
    ['pull.timeout_ms', pull.timeoutMs, 1, MAX_TIMER_MS],
    ['warm.max_containers', warm.maxContainers, 0, 1000],
    ['warm.idle_ttl_ms', warm.idleTtlMs, 1000, MAX_TIMER_MS],
    ...warm.images.map((image, index) => [`warm.images[${index}].size`, image.size, 1, 100] as const),
  ];
  for (const [field, value, least, most, fractions] of rows) {
    const whole = fractions === true || Number.isInteger(value);
    if (whole && value >= least && value <= most) continue;
    violations.push({
      field,
      description: `${value} is not a ${fractions === true ? '' : 'whole '}number from ${least} to ${most}`,
    });
  }
}

/** Least memory that engines accept for a container. */
export const MIN_MEMORY_BYTES = 6 * MIB;
/** Smallest /tmp: one page. 0 would mean a tmpfs without bound. */
export const MIN_TMP_BYTES = 4096;

function checkImage(field: string, text: string, violations: FieldViolation[]): void {
  const reference = parseImageReference(text);
  if (typeof reference === 'string') violations.push({ field, description: reference });
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
