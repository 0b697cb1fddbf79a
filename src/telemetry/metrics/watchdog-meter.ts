// Counts beats of the watchdog of a service manager. Where there is none it is never called, and there is no figure.
import type { Counter } from '../../core/metrics/metric.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { WATCHDOG_METRICS } from './process-names.ts';

/** What became of a beat: the watchdog was told that the process lives, or it was not. */
export type Beat = 'told' | 'withheld';

/** Takes one beat after the other. */
export function watchdogMeter(registry: MetricRegistry): (beat: Beat) => void {
  let beats: Counter | undefined;
  return (beat) => {
    if (beats === undefined) {
      beats = registry.counter(WATCHDOG_METRICS.beats);
      for (const one of ['told', 'withheld']) beats.add(0, one);
    }
    beats.add(1, beat);
  };
}
