// OpenTelemetry's SDK for logs, put together. Loaded only where logs are to be sent: it costs memory that an idle agent hasn't got.
import { type Logger as OtelLogger, ROOT_CONTEXT } from '@opentelemetry/api';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider, type LogRecordExporter } from '@opentelemetry/sdk-logs';
import type { LogSink } from '../logger.ts';
import { CountedExporter } from '../otlp/counted-exporter.ts';
import type { ExportTally } from '../otlp/export-tally.ts';
import { currentSpan } from '../tracing/current-span.ts';
import { recordOf } from './log-record.ts';
import type { LogExportSettings } from './settings.ts';

/** Name of the instrumentation in every record. */
const SCOPE = 'longline';

/** What the SDK is started with. */
export interface LogSdkOptions {
  readonly settings: LogExportSettings;
  readonly resource: Readonly<Record<string, string | number>>;
  readonly version: string;
  /** Longest wait for an answer of the collector; that of the environment or of the exporter if undefined. */
  readonly timeoutMs: number | undefined;
  readonly tally: ExportTally;
}

/** A started SDK. */
export interface LogSdk {
  readonly sink: LogSink;
  /** Sends what waits; settles when the collector has answered, or not in time. */
  shutdown(): Promise<void>;
}

/** Starts the SDK. Nothing is sent before there is a line. */
export async function startLogSdk(options: LogSdkOptions): Promise<LogSdk> {
  const { settings, tally, version } = options;
  const provider = new LoggerProvider({
    resource: resourceFromAttributes(options.resource).merge(detectResources({ detectors: [envDetector] })),
    processors: [
      new BatchLogRecordProcessor({
        exporter: new CountedExporter(await exporterOf(options), tally),
        maxQueueSize: settings.maxQueueSize,
        maxExportBatchSize: settings.maxExportBatchSize,
        scheduledDelayMillis: settings.scheduledDelayMs,
        exportTimeoutMillis: settings.exportTimeoutMs,
      }),
    ],
  });
  return {
    sink: sinkOf(provider.getLogger(SCOPE, version), tally, settings.maxQueueSize),
    shutdown: () => provider.shutdown(),
  };
}

function sinkOf(logger: OtelLogger, tally: ExportTally, most: number): LogSink {
  return (line) => {
    // Before the record is made: a line that has no room should cost nothing.
    if (!tally.admit(most)) return;
    const context = currentSpan.getStore()?.context ?? ROOT_CONTEXT;
    logger.emit({ ...recordOf(line), timestamp: line.timeMs, context });
  };
}

async function exporterOf({ settings, timeoutMs }: LogSdkOptions): Promise<LogRecordExporter> {
  const { endpoint, protocol } = settings;
  const url = endpoint === undefined ? {} : { url: endpoint };
  const timeout = timeoutMs === undefined ? {} : { timeoutMillis: timeoutMs };
  // One at a time, and those that the processor gave up waiting for.
  const options = { ...url, ...timeout, concurrencyLimit: 4 };
  if (protocol === 'grpc') {
    const { OTLPLogExporter } = await import('@opentelemetry/exporter-logs-otlp-grpc');
    return new OTLPLogExporter(options);
  }
  if (protocol === 'http/json') {
    const { OTLPLogExporter } = await import('@opentelemetry/exporter-logs-otlp-http');
    return new OTLPLogExporter(options);
  }
  const { OTLPLogExporter } = await import('@opentelemetry/exporter-logs-otlp-proto');
  return new OTLPLogExporter(options);
}
