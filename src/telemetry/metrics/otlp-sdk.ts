// OpenTelemetry's SDK for metrics, put together. Loaded only where an export is asked for: it costs memory that an idle agent hasn't got.
// The SDK counts nothing itself: its reader asks for the figures that there are, when it is to send them.
import { type HrTime, ValueType } from '@opentelemetry/api';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  DataPointType,
  MeterProvider,
  type MetricData,
  type MetricProducer,
  PeriodicExportingMetricReader,
  type PushMetricExporter,
} from '@opentelemetry/sdk-metrics';
import type { Distribution, MetricDefinition, MetricFamily, MetricSample } from '../../core/metrics/metric.ts';
import type { MetricsExportSettings } from './otlp-settings.ts';

/** Name of the instrumentation. */
const SCOPE = 'longline';
/** As UCUM writes them. */
const UNITS: Readonly<Record<string, string>> = { seconds: 's', bytes: 'By', ratio: '1' };

/** What the SDK is started with. */
export interface MetricsSdkOptions {
  readonly settings: MetricsExportSettings;
  readonly collect: () => Promise<readonly MetricFamily[]>;
  readonly resource: Readonly<Record<string, string>>;
  readonly version: string;
  /** An export is over, and how. */
  readonly ended: (error: Error | undefined) => void;
}

/** A started SDK. */
export interface MetricsSdk {
  /** Sends a last time; settles when the collector has answered, or not in time. */
  shutdown(): Promise<void>;
}

/** Starts the SDK. The first export is after one interval. */
export async function startMetricsSdk(options: MetricsSdkOptions): Promise<MetricsSdk> {
  const { intervalMs, timeoutMs } = options.settings;
  const resource = resourceFromAttributes(options.resource).merge(detectResources({ detectors: [envDetector] }));
  const producer: MetricProducer = {
    collect: async () => {
      const metrics = (await options.collect()).map((family) => metricData(family, hrTime(Date.now())));
      const scopeMetrics = [{ scope: { name: SCOPE, version: options.version }, metrics }];
      return { resourceMetrics: { resource, scopeMetrics }, errors: [] };
    },
  };
  const reader = new PeriodicExportingMetricReader({
    exporter: told(await exporterOf(options.settings), options.ended),
    exportIntervalMillis: intervalMs,
    exportTimeoutMillis: timeoutMs,
    metricProducers: [producer],
  });
  const provider = new MeterProvider({ resource, readers: [reader] });
  return { shutdown: () => provider.shutdown() };
}

async function exporterOf({ endpoint, protocol, timeoutMs }: MetricsExportSettings): Promise<PushMetricExporter> {
  const options = {
    ...(endpoint === undefined ? {} : { url: endpoint }),
    timeoutMillis: timeoutMs,
    concurrencyLimit: 2,
  };
  if (protocol === 'grpc') {
    const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-grpc');
    return new OTLPMetricExporter(options);
  }
  if (protocol === 'http/json') {
    const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-http');
    return new OTLPMetricExporter(options);
  }
  const { OTLPMetricExporter } = await import('@opentelemetry/exporter-metrics-otlp-proto');
  return new OTLPMetricExporter(options);
}

/** An exporter that says what becomes of each export. */
function told(inner: PushMetricExporter, ended: MetricsSdkOptions['ended']): PushMetricExporter {
  return {
    export: (metrics, done) =>
      inner.export(metrics, (result) => {
        // ExportResultCode.SUCCESS
        ended(result.code === 0 ? undefined : (result.error ?? new Error('no reason given')));
        done(result);
      }),
    forceFlush: () => inner.forceFlush(),
    shutdown: () => inner.shutdown(),
  };
}

/** Always from the start of the process, as Prometheus counts. */
function metricData({ definition, samples }: MetricFamily, endTime: HrTime): MetricData {
  const { help, name, type, unit } = definition;
  const descriptor = { name, description: help, unit: UNITS[unit] ?? '', valueType: ValueType.DOUBLE };
  const aggregationTemporality = AggregationTemporality.CUMULATIVE;
  const startTime = hrTime(performance.timeOrigin);
  const point = <T>(sample: MetricSample, value: T) => ({
    startTime,
    endTime,
    attributes: attributesOf(definition, sample),
    value,
  });
  if (type === 'histogram') {
    const dataPoints = samples.map((sample) => point(sample, histogramOf(definition, sample.value as Distribution)));
    return { descriptor, aggregationTemporality, dataPointType: DataPointType.HISTOGRAM, dataPoints };
  }
  const dataPoints = samples.map((sample) => point(sample, sample.value as number));
  if (type === 'gauge') return { descriptor, aggregationTemporality, dataPointType: DataPointType.GAUGE, dataPoints };
  return { descriptor, aggregationTemporality, dataPointType: DataPointType.SUM, dataPoints, isMonotonic: true };
}

function attributesOf({ labels }: MetricDefinition, sample: MetricSample): Record<string, string> {
  return Object.fromEntries(labels.map((label, at) => [label, sample.labels[at] ?? '']));
}

function histogramOf({ buckets }: MetricDefinition, { counts, sum }: Distribution) {
  const count = counts.reduce((total, one) => total + one, 0);
  return { buckets: { boundaries: [...buckets], counts: [...counts] }, sum, count };
}

function hrTime(ms: number): HrTime {
  return [Math.floor(ms / 1000), Math.round((ms % 1000) * 1e6)];
}
