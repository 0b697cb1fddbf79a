// What OpenTelemetry's environment variables ask for in the way of metrics.
import { type Environment, OtlpEnvironment, type OtlpProtocol } from '../otlp/environment.ts';

/** What is asked for. */
export interface MetricsExportSettings {
  readonly protocol: OtlpProtocol;
  /** Where to; undefined for the standard address of the protocol on this host. */
  readonly endpoint: string | undefined;
  readonly intervalMs: number;
  /** Of one export; at most the interval, so that there is one at a time. */
  readonly timeoutMs: number;
}

const INTERVAL_MS = 60_000;
const TIMEOUT_MS = 30_000;
const LEAST_MS = 100;
const MOST_MS = 3_600_000;

/** What the environment asks for; undefined if it asks for no export. `complain` is told of values that are not taken. */
export function metricsExportSettings(
  environment: Environment,
  complain: (complaint: string) => void,
): MetricsExportSettings | undefined {
  const variables = new OtlpEnvironment(environment, 'metrics', complain);
  // Prometheus finds its figures at /metrics whatever is said here.
  if (!variables.wanted(true, ['prometheus'])) return undefined;
  const number = (name: string, fallback: number) => variables.number(name, fallback, LEAST_MS, MOST_MS);
  const protocol = variables.protocol();
  const intervalMs = number('OTEL_METRIC_EXPORT_INTERVAL', INTERVAL_MS);
  const timeoutMs = Math.min(number('OTEL_METRIC_EXPORT_TIMEOUT', TIMEOUT_MS), intervalMs);
  return { protocol, endpoint: variables.endpoint(protocol), intervalMs, timeoutMs };
}
