// What OpenTelemetry's environment variables ask for in the way of traces.
import {
  type BatchSettings,
  batchSettings,
  type Environment,
  OtlpEnvironment,
  type OtlpProtocol,
} from '../otlp/environment.ts';

/** Which traces are recorded, if nobody decided before. */
export type SamplerName = (typeof SAMPLERS)[number];

/** What is asked for. */
export interface TracingSettings extends BatchSettings {
  readonly protocol: OtlpProtocol;
  /** Where to; undefined for the standard address of the protocol on this host. */
  readonly endpoint: string | undefined;
  /** True if the environment says how long an answer may take. */
  readonly hasTimeout: boolean;
  readonly sampler: SamplerName;
  /** Share of traces, 0 to 1. */
  readonly ratio: number;
}

const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const;
const DELAY_MS = 5000;

/** What the environment asks for; undefined if it asks for no traces. `complain` is told of values that are not taken. */
export function tracingSettings(
  environment: Environment,
  complain: (complaint: string) => void,
): TracingSettings | undefined {
  const variables = new OtlpEnvironment(environment, 'traces', complain);
  if (!variables.wanted(true)) return undefined;
  const protocol = variables.protocol();
  return {
    protocol,
    endpoint: variables.endpoint(protocol),
    hasTimeout: variables.hasTimeout,
    sampler: variables.oneOf('OTEL_TRACES_SAMPLER', SAMPLERS, 'parentbased_always_on'),
    ratio: variables.number('OTEL_TRACES_SAMPLER_ARG', 1, 0, 1),
    ...batchSettings(variables, 'OTEL_BSP', DELAY_MS),
  };
}
