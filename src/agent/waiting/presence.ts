// What a process shows of itself from its start to its end, whatever becomes of its agent: the HTTP API on its places, the local service
// where a socket was named for it, and figures. An agent that serves takes its turn on them, and they are there before, between and
// after. None of them is needed: what can't be had is said, and the process does without.
import { hostname } from 'node:os';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import { Shown } from '../../core/shown.ts';
import { ATTRIBUTE } from '../../core/span-names.ts';
import type { LeveledLogger } from '../../telemetry/logger.ts';
import { type CountedExport, logCollector, traceCollector } from '../../telemetry/metrics/export-figures.ts';
import type { Tracing } from '../../telemetry/tracing/tracing.ts';
import type { AgentConfig } from '../config.ts';
import type { Election } from '../ha/election.ts';
import type { LeadershipView } from '../ha/leadership.ts';
import { sharedPlaces } from '../ha/replica-name.ts';
import type { AgentHealth } from '../health/agent-health.ts';
import { LoopPulse } from '../health/loop-pulse.ts';
import { AgentHttp } from '../http/agent-http.ts';
import type { HttpRoute } from '../http/http-server.ts';
import { LocalServer } from '../local/local-server.ts';
import { AgentMetrics } from '../metrics/agent-metrics.ts';
import { electionCollector } from '../metrics/election-figures.ts';
import { Waiting } from './waiting.ts';
import { waitingRoutes } from './waiting-routes.ts';

/** What it is made from. */
export interface PresenceParts {
  readonly config: AgentConfig;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly log: LeveledLogger;
  readonly tracing: Tracing;
  /** Of the log. */
  readonly copy: CountedExport;
  /** Aborts when the process is to end. */
  readonly signal: AbortSignal;
}

/** One per process. Dispose to close. */
export class Presence implements AsyncDisposable {
  readonly metrics: AgentMetrics;
  readonly pulse: LoopPulse;
  /** Undefined where the agent has its own, in its data folder. */
  readonly localServer: LocalServer | undefined;
  readonly #parts: PresenceParts;
  readonly #waiting: Waiting;
  readonly #routes = new Shown<readonly HttpRoute[]>();
  readonly #http: AgentHttp;
  readonly #stack = new AsyncDisposableStack();

  private constructor(parts: PresenceParts) {
    const { config, clock, log, signal, tracing, copy } = parts;
    const stack = this.#stack;
    this.#parts = parts;
    this.metrics = stack.use(new AgentMetrics(clock, log));
    this.metrics.add(traceCollector(tracing));
    this.metrics.add(logCollector(copy));
    this.pulse = stack.use(new LoopPulse(() => clock.monotonic()));
    this.#waiting = new Waiting({ config, pulse: this.pulse, levels: log, clock, signal });
    // Of the process as it waits: an agent's own, which is shown later, goes before.
    this.metrics.show({ report: () => this.#waiting.health.report() });
    this.#routes.show(waitingRoutes(this.#waiting, { agentId: config.agentId, clock, figures: this.metrics.route() }));
    this.#http = stack.use(
      new AgentHttp(config.http, () => this.#routes.current ?? [], clock, log.child({ part: 'http' })),
    );
    const { localSocket, ha } = config;
    // Replicas that share a data folder would take the one in it from each other.
    if (!ha.enabled || localSocket === undefined) return;
    const { local } = this.#waiting;
    this.localServer = stack.use(new LocalServer(localSocket, local, log.child({ part: 'local' }), tracing.tracer));
  }

  /** Opens it. Waits for nobody. */
  static async open(parts: PresenceParts): Promise<Presence> {
    const presence = new Presence(parts);
    try {
      await presence.#open();
      return presence;
    } catch (error) {
      await presence[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Shows an agent in place of the process that waits, until what it gives is disposed. */
  show({ routes, health }: { readonly routes: readonly HttpRoute[]; readonly health: AgentHealth }): Disposable {
    const shown = new DisposableStack();
    shown.use(this.metrics.show(health));
    shown.use(this.#routes.show(routes));
    return shown;
  }

  /** Tells of an election, until what it gives is disposed. */
  elects(election: Election, view: () => LeadershipView): Disposable {
    const { clock, config } = this.#parts;
    this.#waiting.elects(view);
    return this.metrics.add(electionCollector(config.agentId, { election, now: () => clock.now() }));
  }

  /** Leaves the places of the HTTP API to another replica of this host that leads and wants the same, and takes them else. */
  yieldTo(holder: string, { role, leader }: LeadershipView): void {
    if (role === 'leader') void this.#http.open();
    else if (leader !== '') void this.#http.open(sharedPlaces(holder, leader));
  }

  /** The replica stands by, and its local service tells so. */
  standsBy(): void {
    this.localServer?.setServing(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }

  async #open(): Promise<void> {
    const { config, environment, log } = this.#parts;
    const { agentId, ha } = config;
    // Replicas are one agent, and several processes.
    const instance = ha.enabled ? { 'service.instance.id': `${hostname()}/${process.pid}` } : {};
    this.#stack.use(await this.metrics.send(environment, { [ATTRIBUTE.agentId]: agentId, ...instance }, log));
    await this.#http.open();
    try {
      await this.localServer?.open();
    } catch (error) {
      const why = { err: describeError(error) };
      log.warn('a standby serves no socket; give each replica a local_socket of its own', why);
    }
  }
}
