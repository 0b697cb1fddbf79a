// The controller's end of the link: AgentLinkService on the agents' stack. It knows streams, the store, the log store and
// the bus; it shares nothing else with the services, so that several replicas can serve one fleet. A stream fails with a
// status that names the reason, never by taking the process down; its agent comes again.
import { create } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  AgentLinkService,
  type TelemetryRequest,
  type TelemetryResponse,
  TelemetryResponseSchema,
  type TunnelRequest,
} from '#gen/longline/link/v1/link_pb.js';
import { describeError, LonglineError } from '../../core/errors.ts';
import type { Progress } from '../../core/progress.ts';
import { TaskGroup } from '../../core/task-group.ts';
import { fleetTopic } from '../bus/topics.ts';
import { Admission } from '../front/admission.ts';
import { type GrpcServiceRegistry, serveGrpc } from '../front/grpc-service.ts';
import type { AgentRoutes } from '../front/routes.ts';
import type { AuthenticatedAgent } from '../identity/agent-authentication.ts';
import type { OpenStreams } from '../metrics/controller-metrics.ts';
import type { TunnelCall } from './agent-tunnel.ts';
import { type ArtifactCall, sendArtifact } from './artifact-stream.ts';
import { BeatWheel } from './beat-wheel.ts';
import { type ControlCall, ControlSession } from './control-session.ts';
import { InputRelays } from './input-relays.ts';
import type { LinkDependencies } from './link-options.ts';
import { decodeLogsRequest } from './logs-request.ts';
import { type LogsCall, LogsSession } from './logs-session.ts';
import { TunnelRegistry } from './tunnel-registry.ts';

/** Ticks in one heartbeat period. */
const WHEEL_SLOTS = 60;

type TelemetryCall = ServerDuplexStream<TelemetryRequest, TelemetryResponse>;
type AnyCall = Pick<TelemetryCall, 'metadata' | 'getAuthContext'>;

/** Serves agents. Dispose it after the front. */
export class LinkServer implements AgentRoutes, AsyncDisposable {
  readonly tunnels: TunnelRegistry;
  readonly #needs: LinkDependencies;
  readonly #admission: Admission;
  readonly #wheel: BeatWheel<ControlSession>;
  readonly #logStreams = new Set<LogsSession>();
  readonly #otherCalls = new Set<() => void>();
  readonly #inputs: InputRelays;
  readonly #tasks = new TaskGroup();
  #draining = false;

  constructor(needs: LinkDependencies) {
    this.#needs = needs;
    const { clock, options } = needs;
    this.tunnels = new TunnelRegistry(clock);
    this.#inputs = new InputRelays(needs.bus);
    this.#admission = new Admission(options.admission, clock);
    this.#wheel = new BeatWheel(options.heartbeatMs, WHEEL_SLOTS, clock);
    this.#tasks.spawn((signal) => this.#wheel.run(signal));
    this.#tasks.spawn((signal) => this.#saveSightings(signal));
  }

  /** Control streams open at this moment. */
  get connections(): number {
    return this.#wheel.size;
  }

  /** Whether agents are looked after. */
  get progress(): readonly Progress[] {
    return [this.#wheel.progress];
  }

  /** Streams open at this moment, by what they carry. */
  get streams(): OpenStreams {
    const { size: tunnels } = this.tunnels;
    return { control: this.#wheel.size, logs: this.#logStreams.size, tunnels, others: this.#otherCalls.size };
  }

  register(registry: GrpcServiceRegistry): void {
    const handlers = {
      control: async (call: ControlCall) => await this.#control(call),
      logs: async (call: LogsCall) => await this.#logs(call),
      telemetry: async (call: TelemetryCall) => await this.#telemetry(call),
      tunnel: async (call: TunnelCall) => await this.#tunnel(call),
      fetchArtifact: async (call: ArtifactCall) => await this.#fetchArtifact(call),
    };
    serveGrpc(registry, AgentLinkService, handlers, this.#needs.log, { logs: decodeLogsRequest });
  }

  async drain(windowMs: number, reason: string): Promise<void> {
    this.#draining = true;
    const { clock } = this.#needs;
    for (const session of this.#wheel.items()) session.drain(windowMs, reason);
    const deadline = clock.monotonic() + windowMs;
    const open = () => this.#wheel.size + this.#logStreams.size + this.#otherCalls.size;
    // Agents leave with their control streams; tunnels stay where they are until the window ends.
    while (this.#wheel.size + this.tunnels.size > 0 && clock.monotonic() < deadline) {
      await clock.sleep(Math.min(20, Math.max(1, deadline - clock.monotonic())));
    }
    const goodbye = new LonglineError('unavailable', `the controller is leaving: ${reason}`);
    for (const session of this.#wheel.items()) session.end(goodbye);
    for (const stream of this.#logStreams) stream.end(goodbye);
    this.tunnels.endAll(goodbye);
    for (const end of this.#otherCalls) end();
    // Ending takes a write each; it isn't part of the window that agents are given.
    for (let waited = 0; open() > 0 && waited < 5000; waited += 10) await clock.sleep(10);
  }

  /** After a restart all agents come at once. Those refused are told when to come again, spread so that they don't come together. */
  #admit(): void {
    const waitMs = this.#admission.tryEnter();
    if (waitMs === 0) return;
    const { perSecond } = this.#needs.options.admission;
    throw new LonglineError('limit', `more than ${perSecond} agents a second attach; come again later`, {
      retryAfterMs: waitMs + Math.ceil(Math.random() * 1000),
    });
  }

  async #authenticate(call: AnyCall): Promise<AuthenticatedAgent> {
    if (this.#draining) throw new LonglineError('unavailable', 'the controller is leaving; come again soon');
    return await this.#needs.identities.authenticate(call);
  }

  async #identify(call: AnyCall): Promise<string> {
    return (await this.#authenticate(call)).agentId;
  }

  async #control(call: ControlCall): Promise<void> {
    this.#admit();
    const agent = await this.#authenticate(call);
    await using _input = await this.#inputs.hold(agent.agentId);
    const session = new ControlSession(this.#needs, call, agent);
    this.#wheel.add(session);
    try {
      await session.done;
    } finally {
      this.#wheel.remove(session);
    }
  }

  async #logs(call: LogsCall): Promise<void> {
    const agentId = await this.#identify(call);
    await using input = await this.#inputs.hold(agentId);
    const session = new LogsSession(this.#needs, call, agentId, input.relay);
    this.#logStreams.add(session);
    try {
      await session.run();
    } finally {
      this.#logStreams.delete(session);
    }
  }

  async #telemetry(call: TelemetryCall): Promise<void> {
    const agentId = await this.#identify(call);
    const { meter, options, onTelemetry } = this.#needs;
    call.write(create(TelemetryResponseSchema, { interval: durationFromMs(options.telemetryIntervalMs) }));
    await this.#whileOpen(call, (request: TelemetryRequest) => {
      meter.measured(request.dropped);
      onTelemetry?.(agentId, request);
    });
  }

  async #tunnel(call: TunnelCall): Promise<void> {
    const agentId = await this.#identify(call);
    const { clock, options } = this.#needs;
    const over = new AbortController();
    const first = Promise.withResolvers<TunnelRequest | undefined>();
    const end = () => first.resolve(undefined);
    const take = (request: TunnelRequest) => {
      call.pause();
      call.off('data', take);
      first.resolve(request);
    };
    call.on('data', take);
    for (const event of ['end', 'cancelled', 'error']) call.on(event, end);
    this.#otherCalls.add(end);
    void clock.sleep(options.helloTimeoutMs, over.signal).then(end, () => undefined);
    try {
      const message = (await first.promise)?.message;
      if (message === undefined) throw new LonglineError('late', 'the tunnel was not opened in time');
      if (message.case !== 'open') throw new LonglineError('wrong_state', 'the first message of a tunnel must be open');
      await this.tunnels.handOver(call, agentId, message.value);
    } finally {
      over.abort();
      this.#otherCalls.delete(end);
    }
  }

  async #fetchArtifact(call: ArtifactCall): Promise<void> {
    const agentId = await this.#identify(call);
    const leaving = new AbortController();
    const end = () => leaving.abort();
    this.#otherCalls.add(end);
    try {
      await sendArtifact(this.#needs, call, agentId, leaving.signal);
    } finally {
      this.#otherCalls.delete(end);
    }
  }

  async #whileOpen<T>(call: ServerDuplexStream<T, unknown>, take: (message: T) => void): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const end = () => resolve();
    this.#otherCalls.add(end);
    for (const event of ['end', 'cancelled', 'error']) call.on(event, end);
    call.on('data', take);
    if (call.cancelled) end();
    await promise;
    this.#otherCalls.delete(end);
  }

  async #saveSightings(signal: AbortSignal): Promise<void> {
    const { clock, options } = this.#needs;
    while (!signal.aborted) {
      await clock.sleep(options.sightingIntervalMs, signal).catch(() => undefined);
      await this.#saveSightingsOf([...this.#wheel.items()]);
    }
  }

  /** Failing costs nothing but freshness: the next heartbeats bring the same again. */
  async #saveSightingsOf(sessions: readonly ControlSession[]): Promise<void> {
    const taken = sessions.map((session) => session.takeSighting()).filter((sighting) => sighting !== undefined);
    if (taken.length === 0) return;
    try {
      await this.#needs.store.agents.sight(taken.map(({ sighting }) => sighting));
      for (const { sighting, loadChanged } of taken) {
        if (loadChanged) this.#needs.bus.publish(fleetTopic, { agentId: sighting.agentId });
      }
    } catch (error) {
      this.#needs.log.warn('signs of life could not be stored', { agents: taken.length, err: describeError(error) });
    }
  }

  /** Ends what is still open. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain(0, 'shutdown');
    await this.#tasks[Symbol.asyncDispose]();
  }
}
