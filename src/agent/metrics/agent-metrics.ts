// The figures of an agent: one registry, the meters that its parts are handed, and what is asked when somebody scrapes. Nothing here
// costs anything until it is asked, but for what is counted as it happens. A part that can't tell its figures costs only these.

import type { NetworkCapability } from '../../capabilities/network/capability.ts';
import type { SessionMeter } from '../../capabilities/sessions/ports.ts';
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { MetricCollector } from '../../core/metrics/metric.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { Shown } from '../../core/shown.ts';
import { startMetricsExport } from '../../telemetry/metrics/otlp-export.ts';
import { openProcessMetrics } from '../../telemetry/metrics/process-metrics.ts';
import { type Beat, watchdogMeter } from '../../telemetry/metrics/watchdog-meter.ts';
import type { Environment } from '../../telemetry/otlp/environment.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { CapabilityRegistry } from '../capability-registry.ts';
import type { AgentHealth, HealthReport } from '../health/agent-health.ts';
import type { HttpRoute } from '../http/http-server.ts';
import { AGENT_BUILD, AGENT_VERSION } from '../version.ts';
import { CommandMeter } from './command-meter.ts';
import { availabilityCollector, jobsCollector, sessionMeter, sessionsCollector } from './container-figures.ts';
import { healthCollector } from './health-figures.ts';
import { diskCollector, type LinkFiguresParts, linkCollector } from './link-figures.ts';
import { metricsRoute } from './metrics-route.ts';
import { networkCollector } from './network-figures.ts';
import { type MeasuredPrograms, programsCollector } from './program-figures.ts';
import { TunnelMeter } from './tunnel-meter.ts';

const NO_HEALTH: HealthReport = { state: 'ok', checks: [], unready: 'the agent is starting' };

/** Parts of an agent whose figures are asked for. */
export interface MeasuredParts extends LinkFiguresParts {
  readonly folder: string;
  readonly audit: Pick<AuditLog, 'head'>;
  readonly registry: Pick<CapabilityRegistry, 'availability'>;
  readonly jobs: Parameters<typeof jobsCollector>[0];
  readonly sessions: Parameters<typeof sessionsCollector>[0];
  readonly networks: Pick<NetworkCapability, 'look'>;
  readonly programs: MeasuredPrograms;
}

/** One per process, also if its agent is opened several times. Dispose to let go of the timer of the event loop. */
export class AgentMetrics implements Disposable {
  readonly registry: MetricRegistry;
  readonly commands: CommandMeter;
  readonly sessions: SessionMeter;
  readonly tunnels: TunnelMeter;
  /** Takes beats of a watchdog. */
  readonly beaten: (beat: Beat) => void;
  readonly #health = new Shown<Pick<AgentHealth, 'report'>>();
  readonly #clock: Clock;
  readonly #process: Disposable;

  constructor(clock: Clock, log: Logger) {
    const build = { part: 'agent', version: AGENT_VERSION, build: AGENT_BUILD };
    const opened = openProcessMetrics(build, clock, log);
    this.#clock = clock;
    this.#process = opened;
    this.registry = opened.registry;
    this.commands = new CommandMeter(opened.registry, clock);
    this.sessions = sessionMeter(opened.registry);
    this.tunnels = new TunnelMeter(opened.registry);
    this.beaten = watchdogMeter(opened.registry);
    const report = async () => (await this.#health.current?.report()) ?? NO_HEALTH;
    opened.registry.add(healthCollector({ report }));
  }

  /** Asks this too, until what it gives is disposed. */
  add(collector: MetricCollector): Disposable {
    return this.registry.add(collector);
  }

  /** Tells this health, until what it gives is disposed. */
  show(health: Pick<AgentHealth, 'report'>): Disposable {
    return this.#health.show(health);
  }

  /** Asks these too, until what it gives is disposed. */
  measure(parts: MeasuredParts): Disposable {
    const asked = new DisposableStack();
    for (const collector of [
      linkCollector(parts),
      diskCollector(parts.folder, () => parts.audit.head.sequence),
      availabilityCollector(() => parts.registry.availability),
      jobsCollector(parts.jobs),
      sessionsCollector(parts.sessions),
      networkCollector(
        () => parts.networks.look(),
        () => this.#clock.now(),
      ),
      programsCollector(parts.programs),
    ]) {
      asked.use(this.registry.add(collector));
    }
    return asked;
  }

  /** Sends figures where the environment asks for it, until it is disposed. `resource` says whose they are. */
  async send(
    environment: Environment,
    resource: Readonly<Record<string, string>>,
    log: Logger,
  ): Promise<AsyncDisposable> {
    const what = { service: 'longline-agent', version: AGENT_VERSION, resource };
    return await startMetricsExport({ ...what, environment, registry: this.registry, clock: this.#clock, log });
  }

  /** Not open: names of networks, peers and programs are in it. */
  route(): HttpRoute {
    return metricsRoute(() => this.registry.collect(), { open: false });
  }

  [Symbol.dispose](): void {
    this.#process[Symbol.dispose]();
  }
}
