// OpenTelemetry's SDK, put together. Loaded only where traces are asked for: it costs memory that an idle agent hasn't got.
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import type { Tracer } from '../../core/tracer.ts';
import { CountedExporter } from '../otlp/counted-exporter.ts';
import type { ExportTally } from '../otlp/export-tally.ts';
import { BoundedProcessor } from './bounded-processor.ts';
import { tracerOn } from './otel-tracer.ts';
import type { TracingSettings } from './settings.ts';

/** Name of the instrumentation in every span. */
const SCOPE = 'longline';

/** What the SDK is started with. */
export interface SdkOptions {
  readonly settings: TracingSettings;
  readonly resource: Readonly<Record<string, string>>;
  readonly version: string;
  /** Longest wait for an answer of the collector; that of the environment or of the exporter if undefined. */
  readonly timeoutMs: number | undefined;
  readonly tally: ExportTally;
}

/** A started SDK. */
export interface Sdk {
  readonly tracer: Tracer;
  /** Sends what waits; settles when the collector has answered, or not in time. */
  shutdown(): Promise<void>;
}

/** Starts the SDK. Nothing is sent before a span ends. */
export async function startSdk(options: SdkOptions): Promise<Sdk> {
  const { settings, tally, version } = options;
  const { maxExportBatchSize, maxQueueSize, scheduledDelayMs, exportTimeoutMs } = settings;
  // At the end all batches go out at once; a batch more may hang from before.
  const concurrencyLimit = Math.ceil(maxQueueSize / maxExportBatchSize) + 1;
  const exporter = new CountedExporter(await exporterOf(options, concurrencyLimit), tally);
  const batches = new BatchSpanProcessor({
    exporter,
    maxQueueSize,
    maxExportBatchSize,
    scheduledDelayMillis: scheduledDelayMs,
    exportTimeoutMillis: exportTimeoutMs,
  });
  const provider = new TracerProvider({
    resource: resourceFromAttributes(options.resource).merge(detectResources({ detectors: [envDetector] })),
    sampler: samplerOf(settings),
    spanProcessors: [new BoundedProcessor(batches, tally, maxQueueSize)],
  });
  return { tracer: tracerOn(provider.getTracer(SCOPE, version)), shutdown: () => provider.shutdown() };
}

async function exporterOf({ settings, timeoutMs }: SdkOptions, concurrencyLimit: number): Promise<SpanExporter> {
  const url = settings.endpoint === undefined ? {} : { url: settings.endpoint };
  const timeout = timeoutMs === undefined ? {} : { timeoutMillis: timeoutMs };
  const options = { ...url, ...timeout, concurrencyLimit };
  if (settings.protocol === 'grpc') {
    const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-grpc');
    return new OTLPTraceExporter(options);
  }
  if (settings.protocol === 'http/json') {
    const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-http');
    return new OTLPTraceExporter(options);
  }
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-proto');
  return new OTLPTraceExporter(options);
}

function samplerOf({ sampler, ratio }: TracingSettings): Sampler {
  const root = () => {
    if (sampler.endsWith('always_on')) return new AlwaysOnSampler();
    return sampler.endsWith('always_off') ? new AlwaysOffSampler() : new TraceIdRatioBasedSampler(ratio);
  };
  return sampler.startsWith('parentbased') ? new ParentBasedSampler({ root: root() }) : root();
}
