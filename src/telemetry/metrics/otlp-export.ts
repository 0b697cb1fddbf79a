// Figures over OTLP, for those who have no Prometheus: the same ones, all at once every so often. Started from OpenTelemetry's environment
// variables; where these ask for no export nothing is loaded. It never fails its process, and it keeps nothing: a collector that is
// down or slow misses what was then, there is one export at a time, and each that failed is counted.
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { FLUSH_MS, within } from '../otlp/end-limit.ts';
import type { Environment } from '../otlp/environment.ts';
import { metricsExportSettings } from './otlp-settings.ts';
import { PROCESS_METRICS } from './process-names.ts';

/** Between words of the same trouble. */
const TELL_EVERY_MS = 60_000;

/** What an export is started with. */
export interface MetricsExportOptions {
  readonly environment: Environment;
  readonly registry: MetricRegistry;
  /** `service.name` unless the environment names another. */
  readonly service: string;
  readonly version: string;
  /** Further attributes of the resource, which those of the environment overrule. */
  readonly resource?: Readonly<Record<string, string>>;
  readonly flushMs?: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/** An export. Dispose sends a last time, within a limit; may be called twice. */
export interface MetricsExport extends AsyncDisposable {
  /** False if nobody asked for it. */
  readonly on: boolean;
}

/** Starts what the environment asks for. Does not wait for the collector. */
export async function startMetricsExport(options: MetricsExportOptions): Promise<MetricsExport> {
  const { clock, environment, flushMs = FLUSH_MS, log, registry, resource, service, version } = options;
  const settings = metricsExportSettings(environment, (complaint) => {
    log.warn('metrics: a variable was not taken', { complaint });
  });
  if (settings === undefined) return { on: false, [Symbol.asyncDispose]: async () => undefined };
  const exports = registry.counter(PROCESS_METRICS.exports);
  for (const outcome of ['succeeded', 'failed']) exports.add(0, outcome);
  let toldMs = Number.NEGATIVE_INFINITY;
  const ended = (error: Error | undefined): void => {
    exports.add(1, error === undefined ? 'succeeded' : 'failed');
    const nowMs = clock.monotonic();
    if (error === undefined || nowMs - toldMs < TELL_EVERY_MS) return;
    toldMs = nowMs;
    log.warn('figures did not get to the collector', { why: error.message });
  };
  const { startMetricsSdk } = await import('./otlp-sdk.ts');
  const sdk = await startMetricsSdk({
    settings,
    collect: async () => await registry.collect(),
    resource: { 'service.name': service, 'service.version': version, ...resource },
    version,
    ended,
  });
  let stopping: Promise<void> | undefined;
  return {
    on: true,
    [Symbol.asyncDispose]: () => {
      stopping ??= within(sdk.shutdown(), flushMs, clock);
      return stopping;
    },
  };
}
