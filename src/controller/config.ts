// What `longline controller` can be told, checked once and frozen. Names in messages are those of the command line's flags.

import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { type FieldViolation, invalid } from '../core/errors.ts';
import { LOG_LEVELS, type LogLevel } from '../telemetry/logger.ts';
import { DEFAULT_FRONT_LIMITS, type FrontLimits } from './front/limits.ts';

/** What a caller gives; what is left out takes its default. */
export interface ControllerOptions {
  /** Directory for all state; made if missing. */
  readonly dataDir: string;
  /** "HOST:PORT"; port 0 picks a free one. Default "127.0.0.1:7443". */
  readonly listen?: string;
  /** "HOST" or "HOST:PORT" under which others reach it, if that isn't the address it listens on. */
  readonly advertise?: string;
  /** "HOST:PORT" for agents with API keys, without TLS: behind a proxy that ends TLS. */
  readonly plaintextListen?: string;
  /** Says that the network of `plaintextListen` is trusted; needed unless it is loopback. */
  readonly plaintextTrusted?: boolean;
  /** "HOST:PORT" of this host on which figures are told to whoever asks, without TLS. */
  readonly metricsListen?: string;
  /** Default "info". */
  readonly logLevel?: LogLevel;
  readonly limits?: Partial<FrontLimits>;
  /** Life of agents' certificates, milliseconds; default 24 h, 10 s to 90 days. */
  readonly agentCertificateLifetimeMs?: number;
  /** How long agents and calls have to end at shutdown, milliseconds; default 10 s, at most 10 min. */
  readonly drainWindowMs?: number;
  /** Origins, as "https://desks.example.net", of pages beside the controller's own that may open WebSockets. */
  readonly allowedOrigins?: readonly string[];
  /** Period of heartbeats each way, milliseconds; default 15 s, 1 s to 5 min. An agent silent for three is cut off. */
  readonly heartbeatMs?: number;
  /** How long things are kept; what is left out as in DEFAULT_KEEP. */
  readonly keep?: Partial<KeepOptions>;
}

/** A host and a port. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** The options with all defaults, checked. */
export interface ControllerConfig {
  readonly dataDir: string;
  readonly listen: HostPort;
  /** Port undefined takes the one it listens on. */
  readonly advertise: { readonly host: string; readonly port: number | undefined } | undefined;
  readonly plaintextListen: HostPort | undefined;
  readonly metricsListen: HostPort | undefined;
  readonly logLevel: LogLevel;
  readonly limits: FrontLimits;
  readonly agentCertificateLifetimeMs: number;
  readonly drainWindowMs: number;
  readonly heartbeatMs: number;
  readonly keep: KeepOptions;
  readonly allowedOrigins: readonly string[];
}

/** Address that a controller listens on unless told otherwise. */
export const DEFAULT_LISTEN = '127.0.0.1:7443';

const DAY_MS = 86_400_000;
const HOST_NAME = /^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/;

/** How long things are kept. Times in milliseconds. */
export interface KeepOptions {
  /** Ended jobs, from their submission. */
  readonly jobsMs: number;
  /** Ended sessions, from their last change. */
  readonly sessionsMs: number;
  /** Output, from its last write. */
  readonly logsMs: number;
  /** Audit checkpoints but the newest of each chain. */
  readonly checkpointsMs: number;
  /** Events of each agent. */
  readonly events: number;
  /** Jobs in all; beyond that the oldest ended ones go. */
  readonly maxJobs: number;
  /** Bytes of all logs; beyond that those go that were written to longest ago. */
  readonly maxLogBytes: number;
}

const MAX_KEEP_MS = 3650 * DAY_MS;
/** What holds where nothing is set. */
export const DEFAULT_KEEP: KeepOptions = {
  jobsMs: 30 * DAY_MS,
  sessionsMs: 30 * DAY_MS,
  logsMs: 14 * DAY_MS,
  checkpointsMs: 365 * DAY_MS,
  events: 1000,
  maxJobs: 1_000_000,
  maxLogBytes: 64 * 1024 ** 3,
};

/** Checks options. Throws `invalid` that lists everything wrong with them. */
export function compileControllerOptions(options: ControllerOptions): ControllerConfig {
  const violations: FieldViolation[] = [];
  const listen = address('listen', options.listen ?? DEFAULT_LISTEN, violations);
  const advertise = options.advertise === undefined ? undefined : advertised(options.advertise, violations);
  const plaintext =
    options.plaintextListen === undefined
      ? undefined
      : address('plaintext-listen', options.plaintextListen, violations);
  if (plaintext !== undefined && options.plaintextTrusted !== true && !isLoopback(plaintext.host)) {
    const description = `is ${options.plaintextListen}; without TLS it must be loopback, or its network declared trusted`;
    violations.push({ field: 'plaintext-listen', description });
  }
  const metrics =
    options.metricsListen === undefined ? undefined : address('metrics-listen', options.metricsListen, violations);
  if (metrics !== undefined && !isLoopback(metrics.host)) {
    const description = `is ${options.metricsListen}; it asks nobody who they are, so it must be loopback: from elsewhere scrape /metrics of the controller's own port with an API token`;
    violations.push({ field: 'metrics-listen', description });
  }
  if (options.dataDir === '') violations.push({ field: 'data-dir', description: 'is empty; name a directory' });
  const logLevel = options.logLevel ?? 'info';
  if (!LOG_LEVELS.includes(logLevel)) {
    violations.push({
      field: 'log-level',
      description: `is ${JSON.stringify(logLevel)}; it must be one of ${LOG_LEVELS.join(', ')}`,
    });
  }
  const { agentCertificateLifetimeMs = DAY_MS, drainWindowMs = 10_000, heartbeatMs = 15_000 } = options;
  range('agent-certificate-lifetime', agentCertificateLifetimeMs, 10_000, 90 * DAY_MS, violations);
  range('drain-window', drainWindowMs, 0, 600_000, violations);
  range('heartbeat', heartbeatMs, 1000, 300_000, violations);
  const keep = Object.freeze({ ...DEFAULT_KEEP, ...options.keep });
  range('keep-jobs', keep.jobsMs, 60_000, MAX_KEEP_MS, violations);
  range('keep-sessions', keep.sessionsMs, 60_000, MAX_KEEP_MS, violations);
  range('keep-logs', keep.logsMs, 60_000, MAX_KEEP_MS, violations);
  range('keep-checkpoints', keep.checkpointsMs, 60_000, MAX_KEEP_MS, violations);
  count('keep-events', keep.events, 1, 100_000, violations);
  count('keep-max-jobs', keep.maxJobs, 100, 100_000_000, violations);
  count('keep-max-log-size', keep.maxLogBytes, 1024 ** 2, 1024 ** 5, violations);
  const { allowedOrigins = [] } = options;
  for (const origin of allowedOrigins) checkOrigin(origin, violations);
  if (violations.length > 0) throw invalid(violations);
  return Object.freeze({
    dataDir: options.dataDir,
    listen: listen!,
    advertise,
    plaintextListen: plaintext,
    metricsListen: metrics,
    logLevel,
    limits: Object.freeze({ ...DEFAULT_FRONT_LIMITS, ...options.limits }),
    agentCertificateLifetimeMs,
    drainWindowMs,
    heartbeatMs,
    keep,
    allowedOrigins,
  });
}

/** Names and addresses that the server certificate has to be good for. */
export function certificateHosts({
  listen,
  advertise,
}: Pick<ControllerConfig, 'listen' | 'advertise'>): readonly string[] {
  const names = [listen.host, advertise?.host, hostname(), 'localhost', '127.0.0.1', '::1'];
  const usable = (name: string | undefined): name is string =>
    name !== undefined && !isWildcard(name) && (isIP(name) !== 0 || HOST_NAME.test(name));
  return [...new Set(names.filter(usable))];
}

/** URL under which a controller that listens on `port` is reached. */
export function controllerUrl(
  { listen, advertise }: Pick<ControllerConfig, 'listen' | 'advertise'>,
  port: number,
): string {
  const host = advertise?.host ?? (isWildcard(listen.host) ? 'localhost' : listen.host);
  return `https://${isIP(host) === 6 ? `[${host}]` : host}:${advertise?.port ?? port}`;
}

function address(field: string, text: string, violations: FieldViolation[]): HostPort | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? (match?.[2] === '' ? '::' : match?.[2]);
  const port = Number(match?.[3]);
  if (host !== undefined && port <= 65_535 && (isIP(host) !== 0 || HOST_NAME.test(host))) return { host, port };
  const description = `is ${JSON.stringify(text)}; it must be HOST:PORT, as 0.0.0.0:7443, [::1]:7443 or :7443, with a port of 0 to 65535`;
  violations.push({ field, description });
  return undefined;
}

function advertised(text: string, violations: FieldViolation[]): ControllerConfig['advertise'] {
  if (isIP(text) !== 0 || HOST_NAME.test(text)) return { host: text, port: undefined };
  const found: FieldViolation[] = [];
  const parsed = address('advertise', text, found);
  if (parsed !== undefined && parsed.port > 0 && !isWildcard(parsed.host)) return parsed;
  violations.push({
    field: 'advertise',
    description: `is ${JSON.stringify(text)}; it must be HOST or HOST:PORT as others reach it`,
  });
  return undefined;
}

/** As browsers write an origin: scheme and host, the port unless it is the usual one, and nothing after it. */
function checkOrigin(origin: string, violations: FieldViolation[]): void {
  if (URL.canParse(origin) && /^https?:/.test(origin) && new URL(origin).origin === origin) return;
  const description = `has ${JSON.stringify(origin)}; an origin is written like "https://desks.example.net"`;
  violations.push({ field: 'allowed-origins', description });
}

function range(field: string, value: number, min: number, max: number, violations: FieldViolation[]): void {
  if (value >= min && value <= max) return;
  violations.push({ field, description: `is ${value / 1000} s; it must be ${min / 1000} s to ${max / 1000} s` });
}

function count(field: string, value: number, min: number, max: number, violations: FieldViolation[]): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return;
  violations.push({ field, description: `is ${value}; it must be a whole number from ${min} to ${max}` });
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host);
}
