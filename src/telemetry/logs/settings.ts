// What OpenTelemetry's environment variables ask for in the way of logs. The endpoint of all signals alone is no reason to send them:
// who has traces or figures sent should not find the volume of the logs doubled, which are in the journal already.
import {
  type BatchSettings,
  batchSettings,
  type Environment,
  OtlpEnvironment,
  type OtlpProtocol,
} from '../otlp/environment.ts';

/** What is asked for. */
export interface LogExportSettings extends BatchSettings {
  readonly protocol: OtlpProtocol;
  /** Where to; undefined for the standard address of the protocol on this host. */
  readonly endpoint: string | undefined;
  /** True if the environment says how long an answer may take. */
  readonly hasTimeout: boolean;
}

const DELAY_MS = 1000;

/** What the environment asks for; undefined if it asks for no logs. `complain` is told of values that are not taken. */
export function logExportSettings(
  environment: Environment,
  complain: (complaint: string) => void,
): LogExportSettings | undefined {
  const variables = new OtlpEnvironment(environment, 'logs', complain);
  if (!variables.wanted(false)) return undefined;
  const protocol = variables.protocol();
  return {
    protocol,
    endpoint: variables.endpoint(protocol),
    hasTimeout: variables.hasTimeout,
    ...batchSettings(variables, 'OTEL_BLRP', DELAY_MS),
  };
}
