// The figures of an agent: one registry, the meters that its parts are handed, and what is asked when somebody scrapes. Nothing here
// costs anything until it is asked, but for what is counted as it happens. A part that can't tell its figures costs only these.

import type { NetworkCapability } from '../../capabilities/network/capability.ts';
import type { SessionMeter } from '../../capabilities/sessions/ports.ts';
import type { Clock } from '../../core/clock.ts';
import type { Logger } from '../../core/logger.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { ATTRIBUTE } from '../../core/span-names.ts';
import { startMetricsExport } from '../../telemetry/metrics/otlp-export.ts';
import { openProcessMetrics } from '../../telemetry/metrics/process-metrics.ts';
import type { Environment } from '../../telemetry/otlp/environment.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { CapabilityRegistry } from '../capability-registry.ts';
import type { HttpRoute } from '../http/http-server.ts';
import { AGENT_BUILD, AGENT_VERSION } from '../version.ts';
import { CommandMeter } from './command-meter.ts';
import { availabilityCollector, jobsCollector, sessionMeter, sessionsCollector } from './container-figures.ts';
import { diskCollector, type LinkFiguresParts, linkCollector } from './link-figures.ts';
import { metricsRoute } from './metrics-route.ts';
import { networkCollector } from './network-figures.ts';
import { type MeasuredPrograms, programsCollector } from './program-figures.ts';

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

/** One per agent. Dispose to let go of the timer of the event loop. */
export class AgentMetrics implements Disposable {
  readonly registry: MetricRegistry;
  readonly commands: CommandMeter;
  readonly sessions: SessionMeter;
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
  }

  /** Asks these too from now on. */
  measure(parts: MeasuredParts): void {
    const { registry } = this;
    registry.add(linkCollector(parts));
    registry.add(diskCollector(parts.folder, () => parts.audit.head.sequence));
    registry.add(availabilityCollector(() => parts.registry.availability));
    registry.add(jobsCollector(parts.jobs));
    registry.add(sessionsCollector(parts.sessions));
    registry.add(
      networkCollector(
        () => parts.networks.look(),
        () => this.#clock.now(),
      ),
    );
    registry.add(programsCollector(parts.programs));
  }

  /** Sends figures where the environment asks for it, until it is disposed. */
  async send(environment: Environment, agentId: string, log: Logger): Promise<AsyncDisposable> {
    const what = { service: 'longline-agent', version: AGENT_VERSION, resource: { [ATTRIBUTE.agentId]: agentId } };
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
