// Figures that every process of Longline has.
import { counter, gauge, histogram } from '../../core/metrics/definition.ts';

/** Of the process itself, and of its figures. The names without "longline_" are those that Prometheus gives them everywhere. */
export const PROCESS_METRICS = {
  cpuSeconds: counter('process_cpu_seconds_total', 'Processor time that was used, of user and system.'),
  residentBytes: gauge('process_resident_memory_bytes', 'Memory that is resident.'),
  openFds: gauge('process_open_fds', 'File descriptors that are open.'),
  maxFds: gauge('process_max_fds', 'File descriptors that may be open.'),
  startTime: gauge('process_start_time_seconds', 'When the process was started, since the Unix epoch.'),
  heapBytes: gauge('longline_heap_used_bytes', 'Memory that objects of JavaScript use.'),
  build: gauge('longline_build_info', 'Always 1; its labels say what runs.', ['part', 'version', 'build', 'node']),
  loopLag: histogram(
    'longline_event_loop_lag_seconds',
    'How much later than asked for the event loop came to a timer; looked at once a second.',
  ),
  loopBusy: counter('longline_event_loop_busy_seconds_total', 'Time that the event loop had something to do.'),
  overflows: counter(
    'longline_metrics_overflows_total',
    'Times that a value went to the series "other", since its family has as many series as it may have.',
    ['metric'],
  ),
  collectorFailures: counter(
    'longline_metrics_collector_failures_total',
    'Times that a part of the process did not give its figures in time.',
    ['collector'],
  ),
  exports: counter('longline_metrics_exports_total', 'Exports of figures over OTLP, by how they ended.', ['outcome']),
} as const;

/** Of traces, where they are asked for. */
export const TRACE_METRICS = {
  exported: counter('longline_traces_exported_spans_total', 'Spans that the collector took.'),
  dropped: counter(
    'longline_traces_dropped_spans_total',
    'Spans that were lost: queue_full if too many waited, export_failed if the collector did not take them.',
    ['reason'],
  ),
  queued: gauge('longline_traces_queued_spans', 'Spans that wait to be sent, or are on their way.'),
} as const;

/** Of the copy of the log, where it is asked for. */
export const LOG_METRICS = {
  exported: counter('longline_logs_exported_lines_total', 'Log lines that the collector took.'),
  dropped: counter(
    'longline_logs_dropped_lines_total',
    'Log lines that did not get to the collector: queue_full if too many waited, export_failed if it did not take them.',
    ['reason'],
  ),
  queued: gauge('longline_logs_queued_lines', 'Log lines that wait to be sent, or are on their way.'),
} as const;

/** Of the watchdog of the service manager, where it has one. */
export const WATCHDOG_METRICS = {
  beats: counter('longline_watchdog_beats_total', 'Beats at which the watchdog was due, by whether it was told.', [
    'result',
  ]),
} as const;
