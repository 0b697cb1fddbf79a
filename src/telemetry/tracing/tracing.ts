// Traces of one process: started from OpenTelemetry's environment variables, ended by whoever started it. Where these ask for no
// traces nothing is loaded. It never fails its process: values that make no sense are logged and left, and a collector that can't
// be reached costs spans, which are counted.
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import { type Environment, tracingSettings } from './settings.ts';

export type { Environment } from './settings.ts';

import { type SpanCounts, SpanTally } from './span-export.ts';

/** Longest wait for the collector when a process ends, and for each answer where the environment says nothing. */
const FLUSH_MS = 3000;
const TIMEOUT_MS = 5000;

/** What tracing is started with. */
export interface TracingOptions {
  readonly environment: Environment;
  /** `service.name` unless the environment names another. */
  readonly service: string;
  readonly version: string;
  /** Further attributes of the resource, which those of the environment overrule. */
  readonly resource?: Readonly<Record<string, string>>;
  /** Longest wait for the collector at the end. */
  readonly flushMs?: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Tracing of a process. Dispose sends what waits, within a limit; may be called twice. */
export interface Tracing extends AsyncDisposable {
  readonly tracer: Tracer;
  /** False if nobody asked for traces: then all counts stay 0. */
  readonly on: boolean;
  counts(): SpanCounts;
}

/** Starts what the environment asks for. Does not wait for the collector. */
export async function startTracing(options: TracingOptions): Promise<Tracing> {
  const { environment, service, version, clock, log, flushMs = FLUSH_MS } = options;
  const settings = tracingSettings(environment);
  const tally = new SpanTally(clock, log);
  const counts = () => tally.counts;
  if (settings === undefined)
    return { tracer: noTracer, on: false, counts, [Symbol.asyncDispose]: async () => undefined };
  for (const complaint of settings.complaints) log.warn('tracing: a variable was not taken', { complaint });
  const { startSdk } = await import('./sdk.ts');
  const resource = { 'service.name': service, 'service.version': version, ...options.resource };
  const sdk = await startSdk({ settings, resource, version, timeoutMs: timeoutOf(environment, flushMs), tally });
  let stopping: Promise<void> | undefined;
  return {
    tracer: sdk.tracer,
    on: true,
    counts,
    [Symbol.asyncDispose]: () => {
      stopping ??= stop(sdk.shutdown(), tally, flushMs, clock);
      return stopping;
    },
  };
}

/** The exporter's own reading of the environment comes first. */
function timeoutOf(environment: Environment, flushMs: number): number | undefined {
  const set = environment['OTEL_EXPORTER_OTLP_TRACES_TIMEOUT'] ?? environment['OTEL_EXPORTER_OTLP_TIMEOUT'];
  return set === undefined ? Math.min(TIMEOUT_MS, flushMs + 1000) : undefined;
}

async function stop(shutdown: Promise<void>, tally: SpanTally, flushMs: number, clock: Clock): Promise<void> {
  const waiting = new AbortController();
  const limit = clock.sleep(flushMs, waiting.signal).catch(() => undefined);
  // What it fails with is counted and told as it happens.
  await Promise.race([shutdown.catch(() => undefined), limit]);
  waiting.abort();
  const { waiting: left, sending } = tally.counts;
  if (left + sending > 0) tally.tellLoss(`the collector took too long at the end: ${left + sending} are given up`);
}
