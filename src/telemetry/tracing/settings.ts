// What OpenTelemetry's environment variables ask for, as far as it is decided here; the exporters read the rest of
// OTEL_EXPORTER_OTLP_* themselves (headers, certificates, compression, timeout). Pure. As their specification has it, a value
// that makes no sense is reported and the default taken: telemetry is no reason not to start.

/** Variables of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** How spans travel. */
export type OtlpProtocol = 'grpc' | 'http/protobuf';

/** Which traces are recorded, if nobody decided before. */
export type SamplerName =
  | 'always_on'
  | 'always_off'
  | 'traceidratio'
  | 'parentbased_always_on'
  | 'parentbased_always_off'
  | 'parentbased_traceidratio';

/** What is asked for. */
export interface TracingSettings {
  readonly protocol: OtlpProtocol;
  /** Where to; undefined for the standard address of the protocol on this host. */
  readonly endpoint: string | undefined;
  readonly sampler: SamplerName;
  /** Share of traces, 0 to 1. */
  readonly ratio: number;
  /** Most spans that wait to be sent; more are dropped and counted. */
  readonly maxQueueSize: number;
  readonly maxExportBatchSize: number;
  readonly scheduledDelayMs: number;
  readonly exportTimeoutMs: number;
  /** Values that were not taken, for the log. */
  readonly complaints: readonly string[];
}

const PROTOCOLS: readonly OtlpProtocol[] = ['grpc', 'http/protobuf'];
const SAMPLERS: readonly SamplerName[] = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
];
const MAX_QUEUE = 65_536;
const MAX_WAIT_MS = 600_000;

/** What the environment asks for; undefined if it asks for no traces. */
export function tracingSettings(environment: Environment): TracingSettings | undefined {
  const read = (name: string) => environment[name]?.trim() || undefined;
  if (!wanted(read)) return undefined;
  const complaints: string[] = [];
  const oneOf = <T extends string>(name: string, allowed: readonly T[], fallback: T): T => {
    const value = read(name);
    if (value === undefined) return fallback;
    const found = allowed.find((one) => one === value.toLowerCase());
    if (found === undefined) complaints.push(`${name}: "${value}" is none of ${allowed.join(', ')}; took ${fallback}`);
    return found ?? fallback;
  };
  const number = (name: string, fallback: number, least: number, most: number): number => {
    const text = read(name);
    if (text === undefined) return fallback;
    const value = Number(text);
    if (value >= least && value <= most) return value;
    complaints.push(`${name}: "${text}" is not a number from ${least} to ${most}; took ${fallback}`);
    return fallback;
  };
  const protocolName =
    read('OTEL_EXPORTER_OTLP_TRACES_PROTOCOL') === undefined
      ? 'OTEL_EXPORTER_OTLP_PROTOCOL'
      : 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL';
  const protocol = oneOf(protocolName, PROTOCOLS, 'http/protobuf');
  return {
    protocol,
    endpoint: endpoint(read, protocol, complaints),
    sampler: oneOf('OTEL_TRACES_SAMPLER', SAMPLERS, 'parentbased_always_on'),
    ratio: number('OTEL_TRACES_SAMPLER_ARG', 1, 0, 1),
    maxQueueSize: number('OTEL_BSP_MAX_QUEUE_SIZE', 2048, 1, MAX_QUEUE),
    maxExportBatchSize: number('OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 512, 1, MAX_QUEUE),
    scheduledDelayMs: number('OTEL_BSP_SCHEDULE_DELAY', 5000, 1, MAX_WAIT_MS),
    exportTimeoutMs: number('OTEL_BSP_EXPORT_TIMEOUT', 30_000, 1, MAX_WAIT_MS),
    complaints,
  };
}

/** Over HTTP the general endpoint is a base, that for traces the whole address. */
function endpoint(
  read: (name: string) => string | undefined,
  protocol: OtlpProtocol,
  complaints: string[],
): string | undefined {
  const own = read('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT');
  const name = own === undefined ? 'OTEL_EXPORTER_OTLP_ENDPOINT' : 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT';
  const text = own ?? read(name);
  if (text === undefined) return undefined;
  // For gRPC a bare address will do.
  const isAddress = protocol === 'grpc' && /^[^/:\s]+:\d{1,5}$/.test(text);
  if (!isAddress && !/^https?:$/.test(URL.parse(text)?.protocol ?? '')) {
    complaints.push(`${name}: "${text}" is no http:// or https:// URL; took the standard address on this host`);
    return undefined;
  }
  if (protocol === 'grpc' || own !== undefined) return text;
  return `${text.replace(/\/$/, '')}/v1/traces`;
}

/** Without an endpoint nothing is sent to the standard one unasked: most hosts have no collector. */
function wanted(read: (name: string) => string | undefined): boolean {
  if (read('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return false;
  const exporter = read('OTEL_TRACES_EXPORTER')?.toLowerCase();
  if (exporter !== undefined) return exporter === 'otlp';
  return read('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT') !== undefined || read('OTEL_EXPORTER_OTLP_ENDPOINT') !== undefined;
}
