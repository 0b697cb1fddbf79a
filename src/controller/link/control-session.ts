// One control stream, from Hello to its end. States: greeting (Hello is awaited or checked), serving (commands go out),
// replaced (a newer stream serves the agent; what comes in is still stored), ended. What goes out beyond `drain` waits in
// the store or as sets of ids, never as messages. Fails by ending the stream with a status; the agent comes again.
import { create, fromBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  type AgentHeartbeat,
  type AgentMessage,
  type ControllerMessage,
  ControllerMessageSchema,
  type DesiredState,
  DesiredStateKind,
  type Hello,
  OpenTunnelSchema,
  type StateReport,
} from '#gen/longline/link/v1/link_pb.js';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { noTracer } from '../../core/tracer.ts';
import type { BusEvent } from '../bus/bus.ts';
import { type AgentSignal, agentTopic, fleetTopic } from '../bus/topics.ts';
import { AgentDispatch, type CommandSink } from '../dispatch/agent-dispatch.ts';
import { StateDispatch, type StateSink } from '../dispatch/state-dispatch.ts';
import type { AuthenticatedAgent } from '../identity/agent-authentication.ts';
import type { ClaimedCommand } from '../store/command.ts';
import type { Beating } from './beat-wheel.ts';
import { ControlInbox, type InboxEffects } from './control-inbox.ts';
import { checkHello, greet, SILENT_PERIODS } from './greeting.ts';
import { LatestSighting, type TakenSighting } from './latest-sighting.ts';
import type { LinkDependencies } from './link-options.ts';
import { PendingAcks } from './pending-acks.ts';
import { commandMessage } from './wire.ts';

/** A control stream as grpc-js gives it. */
export type ControlCall = ServerDuplexStream<AgentMessage, ControllerMessage>;

type State = 'greeting' | 'serving' | 'replaced' | 'ended';

/** One control stream. `done` settles when it has ended and the store knows. */
export class ControlSession implements Beating, CommandSink, StateSink, InboxEffects {
  readonly connectionId = newId();
  readonly agentId: string;
  readonly done: Promise<void>;
  readonly #needs: LinkDependencies;
  readonly #call: ControlCall;
  readonly #dispatch: AgentDispatch;
  readonly #states: StateDispatch;
  readonly #inbox: ControlInbox;
  readonly #settle: PromiseWithResolvers<void>;
  readonly #acks = new PendingAcks();
  readonly #sighting: LatestSighting;
  #listening: Disposable | undefined;
  #state: State = 'greeting';
  #stateSinceMs: number;
  #heardMs: number;
  #beatSentMs = 0;
  #beatsSent = 0n;
  #heardBeat = 0n;
  #pendingWrites = 0;
  #missingIds: readonly string[] = [];
  /** The replica that the client certificate is of. */
  readonly #certified: string | undefined;
  #leaderEpoch = 0n;
  #flushScheduled = false;

  constructor(needs: LinkDependencies, call: ControlCall, agent: AuthenticatedAgent) {
    const { agentId } = agent;
    this.#needs = needs;
    this.#call = call;
    this.agentId = agentId;
    this.#certified = agent.via === 'certificate' ? agent.instanceId : undefined;
    this.#sighting = new LatestSighting(agentId, this.connectionId);
    this.#heardMs = needs.clock.monotonic();
    this.#stateSinceMs = this.#heardMs;
    const { store, signer, clock, log, options } = needs;
    this.#dispatch = new AgentDispatch({ commands: store.commands, clock, options }, agentId, this);
    this.#states = new StateDispatch({ states: store.desiredStates, signer, clock, log }, agentId, this);
    this.#inbox = new ControlInbox(needs, agentId, this);
    this.#settle = Promise.withResolvers<void>();
    this.done = this.#settle.promise.finally(() => this.#leave());
    call.on('data', (message: AgentMessage) => this.#heard(message));
    call.on('end', () => this.#end(undefined));
    call.on('cancelled', () => this.#end(undefined));
    call.on('error', (error: Error) => this.#end(error));
    call.on('drain', () => this.#roomAgain());
    if (call.cancelled) this.#end(undefined);
  }

  get writable(): boolean {
    return this.#state === 'serving' && !this.#call.writableNeedDrain && !this.#call.cancelled;
  }

  sendCommand(command: ClaimedCommand): void {
    const { clock, meter, tracer = noTracer } = this.#needs;
    const { id, seq, createdAtMs, traceparent: parent } = command;
    meter.dispatched(clock.now() - createdAtMs);
    const attributes = { [ATTRIBUTE.agentId]: this.agentId, [ATTRIBUTE.commandId]: id, [ATTRIBUTE.commandSeq]: seq };
    const span = tracer.start(SPAN.dispatch, { parent, kind: 'producer', startedAtMs: createdAtMs, attributes });
    // Where nothing is traced here, the caller's trace still reaches the agent.
    const traceparent = span.traceparent || parent;
    this.#write({ case: 'command', value: commandMessage({ ...command, traceparent }, this.#leaderEpoch) });
    span.end();
  }

  sendCancel(commandId: string, reason: string): void {
    this.#write({ case: 'cancel', value: { commandId, reason } });
  }

  sendDesiredState(state: DesiredState): void {
    const { kind, generation, traceparent: parent } = state;
    if (parent !== '') {
      const attributes = { [ATTRIBUTE.agentId]: this.agentId, [ATTRIBUTE.generation]: Number(generation) };
      const { tracer = noTracer } = this.#needs;
      const span = tracer.start(SPAN.dispatch, { parent, kind: 'producer', attributes });
      span.set({ [ATTRIBUTE.stateKind]: DesiredStateKind[kind]?.toLowerCase() });
      state.traceparent = span.traceparent || parent;
      span.end();
    }
    this.#write({ case: 'desiredState', value: state });
  }

  failed(error: unknown): void {
    this.#end(error);
  }

  confirmed(commandId: string): void {
    this.#dispatch.confirmed(commandId);
  }

  ended(commandId: string): void {
    this.#dispatch.ended(commandId);
  }

  acknowledgeResult(commandId: string): void {
    this.#acks.result(commandId);
    this.#scheduleFlush();
  }

  acknowledgeCheckpoint(chainId: string, sequence: bigint): void {
    this.#acks.checkpoint(chainId, sequence);
    this.#scheduleFlush();
  }

  stateReported(report: StateReport): void {
    if (this.#state === 'serving') this.#states.reported(report);
  }

  /** Asks the agent to connect anew within the window. */
  drain(windowMs: number, reason: string): void {
    if (this.#state === 'serving') this.#write({ case: 'drain', value: { window: durationFromMs(windowMs), reason } });
  }

  /** Ends the stream; with an error as its status, if one is given. */
  end(error?: LonglineError): void {
    this.#end(error);
  }

  /** The latest sign of life, once. */
  takeSighting(): TakenSighting | undefined {
    return this.#sighting.take();
  }

  beat(nowMs: number): void {
    const { heartbeatMs, helloTimeoutMs, replacedGraceMs } = this.#needs.options;
    if (this.#state === 'greeting' && nowMs - this.#stateSinceMs > helloTimeoutMs) {
      this.#end(new LonglineError('late', `Hello didn't come within ${helloTimeoutMs} ms`));
    } else if (this.#state === 'replaced' && nowMs - this.#stateSinceMs > replacedGraceMs) {
      this.#end(undefined);
    } else if (this.#state === 'serving' && nowMs - this.#heardMs > SILENT_PERIODS * heartbeatMs) {
      this.#end(
        new LonglineError('late', `nothing was heard for ${SILENT_PERIODS} heartbeat periods of ${heartbeatMs} ms`),
      );
    } else this.#sendBeat(nowMs);
  }

  #heard(message: AgentMessage): void {
    this.#heardMs = this.#needs.clock.monotonic();
    if (this.#state === 'ended') return;
    if (this.#state === 'greeting') {
      this.#call.pause();
      void this.#greet(message);
      return;
    }
    if (this.#missingIds.length > 0 && this.#state === 'serving') {
      this.#track(this.#inbox.lose(this.#missingIds));
      this.#missingIds = [];
    }
    if (message.message.case === 'heartbeat') {
      this.#heartbeat(message.message.value);
      return;
    }
    // What an agent says of its states on a stream that it left is older than what it says on the new one.
    if (this.#state === 'replaced' && message.message.case === 'stateReport') return;
    try {
      this.#track(this.#inbox.take(message));
    } catch (error) {
      this.#end(error);
    }
  }

  #track(storing: Promise<void> | undefined): void {
    if (storing === undefined) return;
    const { maxPendingWrites } = this.#needs.options;
    this.#pendingWrites += 1;
    if (this.#pendingWrites >= maxPendingWrites) this.#call.pause();
    storing.then(
      () => {
        this.#pendingWrites -= 1;
        this.#readOn();
      },
      (error: unknown) => this.#end(error),
    );
  }

  /** Reads on unless the store or the agent's own reading is behind. */
  #readOn(): void {
    const { maxPendingWrites } = this.#needs.options;
    const behind = this.#pendingWrites >= maxPendingWrites / 2 || this.#acks.results >= maxPendingWrites;
    if (this.#call.isPaused() && !behind && this.#state !== 'greeting') this.#call.resume();
  }

  async #greet({ message }: AgentMessage): Promise<void> {
    try {
      if (message.case !== 'hello') {
        throw new LonglineError(
          'wrong_state',
          `the first message must be Hello, it was ${message.case ?? 'of an unknown kind'}`,
        );
      }
      checkHello(message.value, this.agentId);
      await this.#serve(message.value);
    } catch (error) {
      this.#needs.meter.greeted(toLonglineError(error).reason);
      this.#end(error);
    }
  }

  async #serve(hello: Hello): Promise<void> {
    const { bus } = this.#needs;
    const listening = await bus.listen(agentTopic(this.agentId), (event) => this.#signalled(event));
    if (this.#state !== 'greeting') {
      listening[Symbol.dispose]();
      return;
    }
    this.#listening = listening;
    this.#leaderEpoch = hello.leaderEpoch;
    const { welcome, missingIds } = await greet(this.#needs, hello, this.connectionId);
    this.#needs.meter.greeted('connected');
    if (this.#state !== 'greeting') {
      // The stream ended meanwhile: its leaving may have been stored before its coming.
      await this.#leave();
      return;
    }
    this.#enter('serving');
    this.#missingIds = missingIds;
    this.#call.write(welcome);
    this.#call.resume();
    this.#dispatch.wake();
    this.#states.start(hello.desiredStates);
  }

  #signalled(event: BusEvent<AgentSignal>): void {
    const serving = this.#state === 'serving';
    if (serving && (event.kind === 'lagged' || event.message.kind === 'desired_states')) this.#states.wake();
    if (event.kind === 'lagged' || event.message.kind === 'cancels') {
      if (serving) this.#dispatch.wakeForCancels();
      return;
    }
    if (event.message.kind === 'commands') {
      if (serving) this.#dispatch.wake();
    } else if (event.message.kind === 'open_tunnel') {
      // Small, and few: whoever asks waits for each. One that is lost ends with their time limit.
      const { message } = event.message;
      if (serving) this.#write({ case: 'openTunnel', value: fromBinary(OpenTunnelSchema, message) });
    } else if (event.message.kind === 'revoked') this.#revoked(event.message.instanceId);
    else if (event.message.kind === 'replaced' && event.message.connectionId !== this.connectionId)
      this.#replaced(BigInt(event.message.leaderEpoch));
  }

  #revoked(instanceId: string): void {
    const who = instanceId === '' ? 'agent' : `replica ${instanceId} of agent`;
    if (instanceId === '' || instanceId === this.#certified) {
      this.#end(new LonglineError('identity', `${who} ${this.agentId} was revoked`));
    }
  }

  #replaced(leaderEpoch: bigint): void {
    // Of a replica that led before, nothing more is heard: what it says may be older than what the new leader does.
    if (leaderEpoch > this.#leaderEpoch && this.#state !== 'greeting') {
      const text = `leader epoch ${this.#leaderEpoch} is over: epoch ${leaderEpoch} is here`;
      this.#needs.meter.fenced();
      this.#end(new LonglineError('stale', text, { newestEpoch: leaderEpoch }));
      return;
    }
    if (this.#state !== 'serving') return;
    this.#dispatch.close();
    this.#states.close();
    this.#enter('replaced');
  }

  #heartbeat(beat: AgentHeartbeat): void {
    const { clock, meter } = this.#needs;
    meter.beat();
    this.#heardBeat = beat.number;
    this.#sighting.note(beat, clock.now());
    this.#sendBeat(clock.monotonic());
  }

  /** Not oftener than twice a period, so that two sides that answer each other's beats don't do so for ever. */
  #sendBeat(nowMs: number): void {
    if (!this.writable || (this.#beatsSent > 0n && nowMs - this.#beatSentMs < this.#needs.options.heartbeatMs / 2))
      return;
    this.#beatsSent += 1n;
    this.#beatSentMs = nowMs;
    const time = timestampFromMs(this.#needs.clock.now());
    this.#write({ case: 'heartbeat', value: { number: this.#beatsSent, time, answers: this.#heardBeat } });
  }

  #roomAgain(): void {
    this.#scheduleFlush();
    if (this.#state !== 'serving') return;
    this.#dispatch.roomAgain();
    this.#states.wake();
  }

  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    // After the store's group has settled all its writes, so that one message acknowledges them.
    setImmediate(() => {
      this.#flushScheduled = false;
      this.#flushAcks();
    });
  }

  #flushAcks(): void {
    if (this.#state === 'ended' || this.#call.writableNeedDrain) return;
    for (const message of this.#acks.take()) {
      this.#write(message);
      if (this.#call.writableNeedDrain) return;
    }
    this.#readOn();
  }

  #write(message: NonNullable<Parameters<typeof create<typeof ControllerMessageSchema>>[1]>['message']): void {
    if (this.#state === 'ended' || this.#call.cancelled) return;
    this.#call.write(create(ControllerMessageSchema, message === undefined ? {} : { message }));
  }

  #enter(state: State): void {
    this.#state = state;
    this.#stateSinceMs = this.#needs.clock.monotonic();
  }

  #end(error: unknown): void {
    if (this.#state === 'ended') return;
    this.#enter('ended');
    this.#dispatch.close();
    this.#states.close();
    this.#listening?.[Symbol.dispose]();
    if (error === undefined) this.#settle.resolve();
    else this.#settle.reject(error);
  }

  async #leave(): Promise<void> {
    const { store, bus, clock } = this.#needs;
    const left = await store.agents.disconnect(this.agentId, this.connectionId, clock.now());
    if (left) bus.publish(fleetTopic, { agentId: this.agentId });
  }
}
