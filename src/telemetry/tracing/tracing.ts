// Traces of one process: started from OpenTelemetry's environment variables, ended by whoever started it. Where these ask for no
// traces nothing is loaded. It never fails its process: values that make no sense are logged and left, and a collector that can't
// be reached costs spans, which are counted.
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import { answerLimitMs, FLUSH_MS, within } from '../otlp/end-limit.ts';
import type { Environment } from '../otlp/environment.ts';
import { type ExportCounts, ExportTally } from '../otlp/export-tally.ts';
import { tracingSettings } from './settings.ts';

const SPANS = { what: 'spans', lost: 'spans are lost: traces will have holes' };

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
  counts(): ExportCounts;
}

/** Starts what the environment asks for. Does not wait for the collector. */
export async function startTracing(options: TracingOptions): Promise<Tracing> {
  const { environment, service, version, clock, log, flushMs = FLUSH_MS } = options;
  const settings = tracingSettings(environment, (complaint) => {
    log.warn('tracing: a variable was not taken', { complaint });
  });
  const tally = new ExportTally(clock, log, SPANS);
  const counts = () => tally.counts;
  if (settings === undefined)
    return { tracer: noTracer, on: false, counts, [Symbol.asyncDispose]: async () => undefined };
  const { startSdk } = await import('./sdk.ts');
  const resource = { 'service.name': service, 'service.version': version, ...options.resource };
  const timeoutMs = settings.hasTimeout ? undefined : answerLimitMs(flushMs);
  const sdk = await startSdk({ settings, resource, version, timeoutMs, tally });
  const stop = async () => {
    await within(sdk.shutdown(), flushMs, clock);
    tally.givenUp();
  };
  let stopping: Promise<void> | undefined;
  return {
    tracer: sdk.tracer,
    on: true,
    counts,
    [Symbol.asyncDispose]: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}
