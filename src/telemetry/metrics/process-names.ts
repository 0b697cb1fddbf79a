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
