// Figures of what goes to a collector: spans and log lines. There are none of what nobody asked for.
import { family, figure, type MetricCollector } from '../../core/metrics/metric.ts';
import type { ExportCounts } from '../otlp/export-tally.ts';
import { LOG_METRICS, TRACE_METRICS } from './process-names.ts';

/** An export whose figures are asked for. */
export interface CountedExport {
  readonly on: boolean;
  counts(): ExportCounts;
}

/** Figures of a process's tracing. */
export function traceCollector(tracing: CountedExport): MetricCollector {
  return exportCollector('traces', tracing, TRACE_METRICS);
}

/** Figures of the copy of a process's log. */
export function logCollector(copy: CountedExport): MetricCollector {
  return exportCollector('logs', copy, LOG_METRICS);
}

function exportCollector(
  name: string,
  counted: CountedExport,
  names: typeof TRACE_METRICS | typeof LOG_METRICS,
): MetricCollector {
  return {
    name,
    collect: () => {
      if (!counted.on) return [];
      const { sent, dropped, failed, waiting, sending } = counted.counts();
      return [
        figure(names.exported, sent),
        family(names.dropped, [
          [dropped, 'queue_full'],
          [failed, 'export_failed'],
        ]),
        figure(names.queued, waiting + sending),
      ];
    },
  };
}
