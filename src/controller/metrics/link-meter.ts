// What is counted of the link as it happens. Without a meter nothing is.
import { JobState } from '#gen/longline/v1/job_pb.js';
import { GRPC_CODE, type Reason } from '../../core/errors.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { DISPATCH_METRICS, GREETING_METRICS } from '../../telemetry/metrics/controller-names.ts';

const REASONS = Object.keys(GRPC_CODE);

/** Hears what goes over the link; is quick and doesn't throw. */
export interface LinkMeter {
  /** A control stream began, or was refused at its Hello: "connected", or why not. */
  greeted(result: 'connected' | Reason): void;
  /** A replica of an agent leads in the place of another. */
  tookOver(): void;
  /** A stream of a replica that no longer leads was ended. */
  fenced(): void;
  /** A command was given to its agent's stream, so long after it was stored. */
  dispatched(waitedMs: number): void;
  /** An agent has a command on its disk. */
  received(): void;
  /** A command ended, as its agent says. */
  ended(state: JobState): void;
  beat(): void;
  /** Figures came, and so many are said to have been dropped. */
  measured(dropped: bigint): void;
  /** Output was appended to the log store. */
  logged(bytes: number): void;
}

/** A meter that counts nothing. */
export const NO_LINK_METER: LinkMeter = {
  greeted: () => undefined,
  tookOver: () => undefined,
  fenced: () => undefined,
  dispatched: () => undefined,
  received: () => undefined,
  ended: () => undefined,
  beat: () => undefined,
  measured: () => undefined,
  logged: () => undefined,
};

/** A meter on a registry. */
export function linkMeter(registry: MetricRegistry): LinkMeter {
  const greetings = registry.counter(GREETING_METRICS.greetings);
  const takeovers = registry.counter(GREETING_METRICS.takeovers);
  const staleLeaders = registry.counter(GREETING_METRICS.staleLeaders);
  // There from the start, so that the first one shows as a rise.
  for (const result of ['connected', ...REASONS]) greetings.add(0, result);
  for (const when of ['greeting', 'stream']) staleLeaders.add(0, when);
  const dispatch = registry.histogram(DISPATCH_METRICS.dispatch);
  const receipts = registry.counter(DISPATCH_METRICS.receipts);
  const results = registry.counter(DISPATCH_METRICS.results);
  const heartbeats = registry.counter(DISPATCH_METRICS.heartbeats);
  const telemetry = registry.counter(DISPATCH_METRICS.telemetry);
  const telemetryDropped = registry.counter(DISPATCH_METRICS.telemetryDropped);
  const logBytes = registry.counter(DISPATCH_METRICS.logBytes);
  return {
    greeted: (result) => {
      greetings.add(1, result);
      if (result === 'stale') staleLeaders.add(1, 'greeting');
    },
    tookOver: () => takeovers.add(1),
    fenced: () => staleLeaders.add(1, 'stream'),
    dispatched: (waitedMs) => dispatch.observe(waitedMs / 1000),
    received: () => receipts.add(1),
    ended: (state) => results.add(1, (JobState[state] ?? 'unspecified').toLowerCase()),
    beat: () => heartbeats.add(1),
    measured: (dropped) => {
      telemetry.add(1);
      telemetryDropped.add(Number(dropped));
    },
    logged: (bytes) => logBytes.add(bytes),
  };
}
