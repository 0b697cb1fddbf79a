// The figures of a controller: one registry, the meters that its parts are handed, and what is asked when somebody scrapes. It knows the
// parts by what they tell of themselves only. A part that can't tell its figures costs only these.
import type { Interceptor } from '@connectrpc/connect';
import manifest from '../../../package.json' with { type: 'json' };
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import { family, figure } from '../../core/metrics/metric.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { FRONT_METRICS, STORE_METRICS } from '../../telemetry/metrics/controller-names.ts';
import { type CountedExport, logCollector, traceCollector } from '../../telemetry/metrics/export-figures.ts';
import { startMetricsExport } from '../../telemetry/metrics/otlp-export.ts';
import { openProcessMetrics } from '../../telemetry/metrics/process-metrics.ts';
import { type Beat, watchdogMeter } from '../../telemetry/metrics/watchdog-meter.ts';
import type { Environment } from '../../telemetry/otlp/environment.ts';
import type { FleetCountRepository } from '../store/fleet-counts.ts';
import { apiMeter } from './api-meter.ts';
import { type LinkMeter, linkMeter } from './link-meter.ts';
import { storeCollector } from './store-figures.ts';

/** Streams of agents that are open, by what they carry. */
export interface OpenStreams {
  readonly control: number;
  readonly logs: number;
  readonly tunnels: number;
  /** Figures, artifacts, and tunnels that are being opened. */
  readonly others: number;
}

/** One per controller. Dispose to let go of the timer of the event loop. */
export class ControllerMetrics implements Disposable {
  readonly registry: MetricRegistry;
  readonly link: LinkMeter;
  /** Counts calls of operators. */
  readonly calls: Interceptor;
  /** Takes how long an operation of the store took. */
  readonly stored: (operation: 'read' | 'write', tookMs: number) => void;
  /** Takes beats of a watchdog. */
  readonly beaten: (beat: Beat) => void;
  readonly #process: Disposable;
  readonly #clock: Clock;

  constructor(clock: Clock, log: Logger) {
    const build = import.meta.filename.endsWith('.ts') ? 'source' : 'bundle';
    const opened = openProcessMetrics({ part: 'controller', version: manifest.version, build }, clock, log);
    const { registry } = opened;
    this.#process = opened;
    this.#clock = clock;
    this.registry = registry;
    this.link = linkMeter(registry);
    this.beaten = watchdogMeter(registry);
    this.calls = apiMeter(registry, clock);
    const store = registry.histogram(STORE_METRICS.store);
    this.stored = (operation, tookMs) => store.observe(tookMs / 1000, operation);
  }

  /** Asks what is stored too. */
  measureStore(counts: FleetCountRepository): void {
    this.registry.add(storeCollector(counts, this.#clock));
  }

  /** Asks for what goes to a collector too. */
  measureExports({ traces, logs }: { readonly traces: CountedExport; readonly logs: CountedExport }): void {
    this.registry.add(traceCollector(traces));
    this.registry.add(logCollector(logs));
  }

  /** Asks for streams too. */
  measureStreams(streams: () => OpenStreams): void {
    this.registry.add({
      name: 'streams',
      collect: () => {
        const { control, logs, tunnels, others } = streams();
        return [
          family(FRONT_METRICS.streams, [
            [control, 'control'],
            [logs, 'logs'],
            [tunnels, 'tunnels'],
            [others, 'others'],
          ]),
        ];
      },
    });
  }

  /** Asks for connections too. */
  measureConnections(connections: () => number): void {
    this.registry.add({ name: 'front', collect: () => [figure(FRONT_METRICS.connections, connections())] });
  }

  /** Sends figures where the environment asks for it, until it is disposed. */
  async send(environment: Environment, log: Logger): Promise<AsyncDisposable> {
    const what = { service: 'longline-controller', version: manifest.version };
    return await startMetricsExport({ ...what, environment, registry: this.registry, clock: this.#clock, log });
  }

  [Symbol.dispose](): void {
    this.#process[Symbol.dispose]();
  }
}
