// What is counted of the link as it happens. Without a meter nothing is.
import { JobState } from '#gen/longline/v1/job_pb.js';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { DISPATCH_METRICS } from '../../telemetry/metrics/controller-names.ts';

/** Hears what goes over the link; is quick and doesn't throw. */
export interface LinkMeter {
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
  dispatched: () => undefined,
  received: () => undefined,
  ended: () => undefined,
  beat: () => undefined,
  measured: () => undefined,
  logged: () => undefined,
};

/** A meter on a registry. */
export function linkMeter(registry: MetricRegistry): LinkMeter {
  const dispatch = registry.histogram(DISPATCH_METRICS.dispatch);
  const receipts = registry.counter(DISPATCH_METRICS.receipts);
  const results = registry.counter(DISPATCH_METRICS.results);
  const heartbeats = registry.counter(DISPATCH_METRICS.heartbeats);
  const telemetry = registry.counter(DISPATCH_METRICS.telemetry);
  const telemetryDropped = registry.counter(DISPATCH_METRICS.telemetryDropped);
  const logBytes = registry.counter(DISPATCH_METRICS.logBytes);
  return {
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
