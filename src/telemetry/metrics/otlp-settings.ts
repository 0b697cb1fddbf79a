// What OpenTelemetry's environment variables ask for in the way of metrics, as far as it is decided here; the exporters read the rest of
// OTEL_EXPORTER_OTLP_* themselves (headers, certificates, compression). Pure. As their specification has it, a value that makes no
// sense is reported and the default taken: telemetry is no reason not to start.

/** Variables of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

const PROTOCOLS = ['grpc', 'http/protobuf', 'http/json'] as const;

/** How figures travel. */
export type MetricsProtocol = (typeof PROTOCOLS)[number];

/** What is asked for. */
export interface MetricsExportSettings {
  readonly protocol: MetricsProtocol;
  /** Where to; undefined for the standard address of the protocol on this host. */
  readonly endpoint: string | undefined;
  readonly intervalMs: number;
  /** Of one export; at most the interval, so that there is one at a time. */
  readonly timeoutMs: number;
  /** Values that were not taken, for the log. */
  readonly complaints: readonly string[];
}

const INTERVAL_MS = 60_000;
const TIMEOUT_MS = 30_000;
const LEAST_MS = 100;
const MOST_MS = 3_600_000;

/** What the environment asks for; undefined if it asks for no export. */
export function metricsExportSettings(environment: Environment): MetricsExportSettings | undefined {
  const read = (name: string) => environment[name]?.trim() || undefined;
  const complaints: string[] = [];
  if (!wanted(read, complaints)) return undefined;
  const number = (name: string, fallback: number) => {
    const text = read(name);
    const value = Number(text ?? fallback);
    if (value >= LEAST_MS && value <= MOST_MS) return value;
    complaints.push(`${name}: "${text}" is not a number from ${LEAST_MS} to ${MOST_MS}; took ${fallback}`);
    return fallback;
  };
  const protocol = protocolOf(read, complaints);
  const intervalMs = number('OTEL_METRIC_EXPORT_INTERVAL', INTERVAL_MS);
  const timeoutMs = Math.min(number('OTEL_METRIC_EXPORT_TIMEOUT', TIMEOUT_MS), intervalMs);
  return { protocol, endpoint: endpointOf(read, protocol, complaints), intervalMs, timeoutMs, complaints };
}

type Read = (name: string) => string | undefined;

/** Without an endpoint nothing is sent to the standard one unasked: most hosts have no collector. */
function wanted(read: Read, complaints: string[]): boolean {
  if (read('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return false;
  const exporters = read('OTEL_METRICS_EXPORTER')
    ?.toLowerCase()
    .split(',')
    .map((name) => name.trim());
  if (exporters === undefined) {
    return (
      read('OTEL_EXPORTER_OTLP_METRICS_ENDPOINT') !== undefined || read('OTEL_EXPORTER_OTLP_ENDPOINT') !== undefined
    );
  }
  // Prometheus finds its figures at /metrics whatever is said here.
  const unknown = exporters.filter((name) => !['otlp', 'none', 'prometheus'].includes(name));
  if (unknown.length > 0) complaints.push(`OTEL_METRICS_EXPORTER: "${unknown.join(',')}" can't be had; otlp can`);
  return exporters.includes('otlp');
}

function protocolOf(read: Read, complaints: string[]): MetricsProtocol {
  const own = 'OTEL_EXPORTER_OTLP_METRICS_PROTOCOL';
  const name = read(own) === undefined ? 'OTEL_EXPORTER_OTLP_PROTOCOL' : own;
  const text = read(name)?.toLowerCase();
  const found = PROTOCOLS.find((one) => one === text);
  if (found === undefined && text !== undefined) {
    complaints.push(`${name}: "${text}" is none of ${PROTOCOLS.join(', ')}; took http/protobuf`);
  }
  return found ?? 'http/protobuf';
}

/** Over HTTP the general endpoint is a base, that for metrics the whole address. */
function endpointOf(read: Read, protocol: MetricsProtocol, complaints: string[]): string | undefined {
  const own = read('OTEL_EXPORTER_OTLP_METRICS_ENDPOINT');
  const name = own === undefined ? 'OTEL_EXPORTER_OTLP_ENDPOINT' : 'OTEL_EXPORTER_OTLP_METRICS_ENDPOINT';
  const text = own ?? read(name);
  if (text === undefined) return undefined;
  // For gRPC a bare address will do.
  const isAddress = protocol === 'grpc' && /^[^/:\s]+:\d{1,5}$/.test(text);
  if (!isAddress && !/^https?:$/.test(URL.parse(text)?.protocol ?? '')) {
    complaints.push(`${name}: "${text}" is no http:// or https:// URL; took the standard address on this host`);
    return undefined;
  }
  if (protocol === 'grpc' || own !== undefined) return text;
  return `${text.replace(/\/$/, '')}/v1/metrics`;
}
