// What OpenTelemetry's environment variables say of one kind of telemetry, as far as it is decided here; the exporters read the rest
// of OTEL_EXPORTER_OTLP_* themselves (headers, certificates, compression, timeout). Pure. As their specification has it, a value
// that makes no sense is complained of and the default taken: telemetry is no reason not to start.

/** Variables of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** How telemetry may travel. */
export const OTLP_PROTOCOLS = ['grpc', 'http/protobuf', 'http/json'] as const;

/** How telemetry travels. */
export type OtlpProtocol = (typeof OTLP_PROTOCOLS)[number];

/** A kind of telemetry. */
export type Signal = 'traces' | 'metrics' | 'logs';

/** The variables of one signal. */
export class OtlpEnvironment {
  readonly #environment: Environment;
  readonly #signal: Signal;
  readonly #complain: (complaint: string) => void;

  constructor(environment: Environment, signal: Signal, complain: (complaint: string) => void) {
    this.#environment = environment;
    this.#signal = signal;
    this.#complain = complain;
  }

  /** Undefined if it is unset or empty. */
  read(name: string): string | undefined {
    return this.#environment[name]?.trim() || undefined;
  }

  oneOf<T extends string>(name: string, allowed: readonly T[], fallback: T): T {
    const value = this.read(name);
    if (value === undefined) return fallback;
    const found = allowed.find((one) => one === value.toLowerCase());
    if (found === undefined) this.#complain(`${name}: "${value}" is none of ${allowed.join(', ')}; took ${fallback}`);
    return found ?? fallback;
  }

  number(name: string, fallback: number, least: number, most: number): number {
    const text = this.read(name);
    const value = Number(text ?? fallback);
    if (value >= least && value <= most) return value;
    this.#complain(`${name}: "${text}" is not a number from ${least} to ${most}; took ${fallback}`);
    return fallback;
  }

  /**
   * True if this signal is to be sent. Without an endpoint nothing is sent to the standard one unasked: most hosts have no collector.
   * @param byAnyEndpoint false if the endpoint of all signals is no reason to send this one.
   * @param beside exporters that may be named beside "otlp", and are none of ours.
   */
  wanted(byAnyEndpoint: boolean, beside: readonly string[] = []): boolean {
    if (this.read('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return false;
    const name = `OTEL_${this.#signal.toUpperCase()}_EXPORTER`;
    const exporters = this.read(name)?.toLowerCase().split(',');
    if (exporters === undefined) {
      if (this.read(this.#own('ENDPOINT')) !== undefined) return true;
      return byAnyEndpoint && this.read('OTEL_EXPORTER_OTLP_ENDPOINT') !== undefined;
    }
    const names = exporters.map((one) => one.trim());
    const unknown = names.filter((one) => !['otlp', 'none', ...beside].includes(one));
    if (unknown.length > 0) this.#complain(`${name}: "${unknown.join(',')}" can't be had; otlp can`);
    return names.includes('otlp');
  }

  protocol(): OtlpProtocol {
    const own = this.#own('PROTOCOL');
    const name = this.read(own) === undefined ? 'OTEL_EXPORTER_OTLP_PROTOCOL' : own;
    return this.oneOf(name, OTLP_PROTOCOLS, 'http/protobuf');
  }

  /**
   * Where to; undefined for the standard address of the protocol on this host. Over HTTP the general endpoint is a base, that for a
   * signal the whole address.
   */
  endpoint(protocol: OtlpProtocol): string | undefined {
    const ownName = this.#own('ENDPOINT');
    const own = this.read(ownName);
    const name = own === undefined ? 'OTEL_EXPORTER_OTLP_ENDPOINT' : ownName;
    const text = own ?? this.read(name);
    if (text === undefined) return undefined;
    // For gRPC a bare address will do.
    const isAddress = protocol === 'grpc' && /^[^/:\s]+:\d{1,5}$/.test(text);
    if (!isAddress && !/^https?:$/.test(URL.parse(text)?.protocol ?? '')) {
      this.#complain(`${name}: "${text}" is no http:// or https:// URL; took the standard address on this host`);
      return undefined;
    }
    if (protocol === 'grpc' || own !== undefined) return text;
    return `${text.replace(/\/$/, '')}/v1/${this.#signal}`;
  }

  /** True if something is said of how long an answer may take; the exporters read it. */
  get hasTimeout(): boolean {
    return [this.#own('TIMEOUT'), 'OTEL_EXPORTER_OTLP_TIMEOUT'].some((name) => this.read(name) !== undefined);
  }

  #own(what: string): string {
    return `OTEL_EXPORTER_OTLP_${this.#signal.toUpperCase()}_${what}`;
  }
}

/** How what waits is sent in batches: of spans (`BSP`) and of log lines (`BLRP`). */
export interface BatchSettings {
  /** Most that wait to be sent; more are dropped and counted. */
  readonly maxQueueSize: number;
  readonly maxExportBatchSize: number;
  readonly scheduledDelayMs: number;
  readonly exportTimeoutMs: number;
}

const MAX_QUEUE = 65_536;
const MAX_WAIT_MS = 600_000;

/** Reads `OTEL_BSP_…` or `OTEL_BLRP_…`. */
export function batchSettings(
  variables: OtlpEnvironment,
  prefix: 'OTEL_BSP' | 'OTEL_BLRP',
  defaultDelayMs: number,
): BatchSettings {
  const maxQueueSize = variables.number(`${prefix}_MAX_QUEUE_SIZE`, 2048, 1, MAX_QUEUE);
  const maxExportBatchSize = variables.number(`${prefix}_MAX_EXPORT_BATCH_SIZE`, 512, 1, MAX_QUEUE);
  return {
    maxQueueSize,
    maxExportBatchSize: Math.min(maxExportBatchSize, maxQueueSize),
    scheduledDelayMs: variables.number(`${prefix}_SCHEDULE_DELAY`, defaultDelayMs, 1, MAX_WAIT_MS),
    exportTimeoutMs: variables.number(`${prefix}_EXPORT_TIMEOUT`, 30_000, 1, MAX_WAIT_MS),
  };
}
