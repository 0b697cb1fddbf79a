// One incarnation of an agent: the agent's real journal, outbox, dispatcher and control stream, on a simulated disk and
// over simulated connections. The loop that dials, greets and replaces connections follows Link, without grpc-js.
import { create } from '@bufbuild/protobuf';
import type { AgentMessage, ControllerMessage } from '#gen/longline/link/v1/link_pb.js';
import { AgentFactsSchema, AgentUsageSchema } from '#gen/longline/v1/agent_pb.js';
import { LonglineError } from '../../src/core/errors.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { TaskGroup } from '../../src/core/task-group.ts';
import { CommandDispatcher } from '../../src/link/command-dispatcher.ts';
import { ControlStream } from '../../src/link/control-stream.ts';
import { DesiredStates } from '../../src/link/desired-states.ts';
import type { DuplexCall } from '../../src/link/grpc-client.ts';
import { helloMessage, readWelcome } from '../../src/link/hello.ts';
import { Journal } from '../../src/link/journal.ts';
import { Outbox } from '../../src/link/outbox.ts';
import type { HostReport, LinkTarget } from '../../src/link/ports.ts';
import { hex } from '../../src/link/wire.ts';
import type { SimulatedDisk } from './disk.ts';
import type { Connection, Route } from './network.ts';
import { Life, type Scheduler, VirtualClock } from './scheduler.ts';
import { type Recovery, SimulatedAdmission, SimulatedExecutor, type World } from './world.ts';

/** What stays when an agent's process ends. */
export interface AgentHost {
  readonly id: string;
  readonly instanceId: string;
  readonly disk: SimulatedDisk;
  readonly route: Route;
  readonly recovery: Recovery;
  readonly skewMs: number;
}

/** What an agent's process lives in. */
export interface AgentSurroundings {
  readonly scheduler: Scheduler;
  readonly world: World;
  /** Dials the controller; undefined if nobody answers. */
  dial(host: AgentHost, life: Life): Promise<Connection | undefined>;
  newUuid(): string;
  /** Keeps what happened, for a run that is looked at. */
  note(what: () => string): void;
}

const REPORT: HostReport = {
  facts: () => create(AgentFactsSchema, { capabilities: [{ name: 'jobs', available: true }] }),
  usage: async () => create(AgentUsageSchema, {}),
};
const BRING_UP_MS = 10_000;
const JOURNAL_FOLDER = '/journal';
/** Small, so that journals are compacted within a run. */
const COMPACT_FROM_BYTES = 3000;

type ControlCall = DuplexCall<AgentMessage, ControllerMessage>;
type Turn = 'ended' | 'drain';

/** A connection in use, as Session keeps one. */
class AgentSession {
  readonly connection: Connection;
  readonly #control: ControlStream;
  readonly #senders = new TaskGroup();
  readonly #stop = new AbortController();
  readonly #ended = Promise.withResolvers<Turn>();
  readonly #drain = Promise.withResolvers<Turn>();
  readonly #call: ControlCall;

  constructor(connection: Connection, call: ControlCall, control: (onDrain: () => void) => ControlStream) {
    this.connection = connection;
    this.#call = call;
    this.#control = control(() => this.#drain.resolve('drain'));
  }

  start(): void {
    const fail = () => this.#ended.resolve('ended');
    this.#control.read(this.#stop.signal).catch(fail);
    this.#senders.spawn((signal) => this.#control.write(signal));
    this.#senders.spawn((signal) => this.#control.beat(signal));
    this.#senders.wait().catch(fail);
  }

  turn(): Promise<Turn> {
    return Promise.race([this.#ended.promise, this.#drain.promise]);
  }

  async stopSending(): Promise<void> {
    await this.#senders[Symbol.asyncDispose]();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.stopSending();
    this.#call.end();
    this.#call.cancel();
  }
}

/** A process; `boot` starts it and it never ends by itself. */
export class AgentProcess {
  readonly life = new Life();
  readonly host: AgentHost;
  readonly #around: AgentSurroundings;
  readonly #clock: VirtualClock;
  readonly #bootId: string;
  readonly connections = new Set<Connection>();
  readonly #outbox = new Outbox({ maxEvents: 8 });
  #journal: Journal | undefined;
  #dispatcher: CommandDispatcher | undefined;

  private constructor(host: AgentHost, around: AgentSurroundings) {
    this.host = host;
    this.#around = around;
    this.#clock = new VirtualClock(around.scheduler, this.life, host.skewMs);
    this.#bootId = around.newUuid();
  }

  static boot(host: AgentHost, around: AgentSurroundings): AgentProcess {
    const agent = new AgentProcess(host, around);
    agent.#live().catch((error: unknown) => {
      if (agent.life.alive) around.world.violated(`${host.id} failed: ${String((error as Error).stack ?? error)}`);
    });
    return agent;
  }

  /** True once nothing is left to do and everything was told. */
  get idle(): boolean {
    const journal = this.#journal;
    return journal !== undefined && journal.unfinishedCount === 0 && journal.pendingReplyCount === 0;
  }

  /** Ends in good order; undefined while it hasn't started. Kill it afterwards. */
  async stop(): Promise<void> {
    await this.#dispatcher?.[Symbol.asyncDispose]();
    await this.#journal?.[Symbol.asyncDispose]();
  }

  /** Ends at once, with its host if that lost power. */
  kill(withHost: boolean): void {
    this.life.alive = false;
    for (const connection of this.connections) {
      if (withHost) connection.agentLostPower();
      else connection.agentKilled();
    }
    if (withHost) {
      this.host.disk.lostPower();
      this.#around.world.hostLost(this.host.id, this.#around.scheduler.nowMs);
    } else this.host.disk.killed();
  }

  async #live(): Promise<void> {
    const { scheduler, world } = this.#around;
    const clock = this.#clock;
    const journal = await this.#openJournal();
    this.#journal = journal;
    this.#checkMemory(journal);
    const dispatcher = new CommandDispatcher({
      journal,
      outbox: this.#outbox,
      admission: new SimulatedAdmission(world, clock, scheduler),
      executor: new SimulatedExecutor(world, clock, scheduler, this.host.recovery),
      clock,
      log: silentLogger,
      maxUnfinished: 100,
      maxReplies: 8192,
      maxReplyBytes: 2 ** 26,
      leaderEpoch: () => 0n,
    });
    this.#dispatcher = dispatcher;
    dispatcher.resume();
    await this.#run(journal, dispatcher);
  }

  /** A disk that refuses keeps an agent from starting; it is started again. */
  async #openJournal(): Promise<Journal> {
    const mounted = this.host.disk.mount(this.life);
    for (;;) {
      try {
        return await Journal.open({
          folder: JOURNAL_FOLDER,
          clock: this.#clock,
          log: silentLogger,
          compactFromBytes: COMPACT_FROM_BYTES,
          ...mounted,
        });
      } catch (error) {
        if (!(error instanceof LonglineError)) throw error;
        await this.#clock.sleep(1000);
      }
    }
  }

  #checkMemory(journal: Journal): void {
    const { world } = this.#around;
    for (const id of world.promised) {
      const own = world.orders.some((order) => order.agentId === this.host.id && order.attempts.includes(id));
      if (own && !world.settled.has(id) && journal.find(id) === undefined) {
        world.violated(`${this.host.id} forgot command ${id}, which it had said it has`);
      }
    }
  }

  async #run(journal: Journal, dispatcher: CommandDispatcher): Promise<void> {
    let current: AgentSession | undefined;
    for (;;) {
      const next = await this.#connect(journal, dispatcher).catch(() => undefined);
      if (next === undefined) {
        await this.#clock.sleep(this.#around.scheduler.between(10, 4000));
        continue;
      }
      await current?.stopSending();
      this.#outbox.startSession();
      dispatcher.repeat();
      next.start();
      const old = current;
      current = next;
      if (old !== undefined) void this.#retire(old);
      if ((await next.turn()) === 'drain') {
        await this.#clock.sleep(this.#around.scheduler.between(0, 2000));
        continue;
      }
      current = undefined;
      await this.#retire(next);
      await this.#clock.sleep(this.#around.scheduler.between(0, 2000));
    }
  }

  async #connect(journal: Journal, dispatcher: CommandDispatcher): Promise<AgentSession | undefined> {
    const connection = await this.#around.dial(this.host, this.life);
    if (connection === undefined) return undefined;
    this.connections.add(connection);
    const end = connection.agentEnd;
    try {
      const hello = helloMessage(this.#target(), REPORT.facts(), journal, dispatcher.settledSeq, []);
      this.#note(hello);
      await end.write(hello);
      const messages = end.messages[Symbol.asyncIterator]();
      const late = this.#clock.sleep(BRING_UP_MS).then(() => Promise.reject(new Error('no welcome in time')));
      const first = await Promise.race([messages.next(), late]);
      late.catch(() => undefined);
      if (first.done || first.value.message.case !== 'welcome') throw new Error('no welcome');
      const terms = readWelcome(first.value.message.value);
      const memory = {
        sessionToken: hex(terms.sessionToken),
        acknowledgedFactsDigest: '',
        controllerId: terms.controllerId,
      };
      await journal.putLinkMemory(memory).catch(() => undefined);
      const call: ControlCall = {
        write: (message) => {
          this.#note(message);
          return end.write(message);
        },
        messages: this.#watched({ [Symbol.asyncIterator]: () => messages }),
        end: () => end.end(),
        cancel: () => end.cancel(),
      };
      const clock = this.#clock;
      const outbox = this.#outbox;
      const states = new DesiredStates({ keeping: undefined, journal, outbox, clock, log: silentLogger });
      const options = { call, terms, outbox, dispatcher, states, report: REPORT, clock };
      const rest = { log: silentLogger, onCheckpointAck: () => undefined, onOpenTunnel: () => undefined };
      return new AgentSession(connection, call, (onDrain) => new ControlStream({ ...options, ...rest, onDrain }));
    } catch (error) {
      end.cancel();
      this.connections.delete(connection);
      throw error;
    }
  }

  async #retire(session: AgentSession): Promise<void> {
    await session.close();
    this.connections.delete(session.connection);
  }

  /** Remembers what this agent says it has. */
  #note({ message }: AgentMessage): void {
    const { promised } = this.#around.world;
    this.#around.note(() => `${this.host.id} says ${describeMessage(message)}`);
    if (message.case === 'received') promised.add(message.value.commandId);
    if (message.case === 'hello') for (const id of message.value.inFlightCommandIds) promised.add(id);
  }

  async *#watched(messages: AsyncIterable<ControllerMessage>): AsyncGenerator<ControllerMessage> {
    for await (const message of messages) {
      this.#around.note(() => `${this.host.id} hears ${describeMessage(message.message)}`);
      if (message.message.case === 'resultAck') {
        for (const id of message.message.value.commandIds) this.#around.world.settled.add(id);
      }
      yield message;
    }
  }

  #target(): LinkTarget {
    return {
      url: 'https://controller',
      agentId: this.host.id,
      instanceId: this.host.instanceId,
      bootId: this.#bootId,
      leaderEpoch: 0n,
      credentials: { kind: 'api_key', apiKey: '', trustedCertificates: undefined },
    };
  }
}

function describeMessage(message: { case: string | undefined; value?: unknown }): string {
  const { commandId, id, commandIds, inFlightCommandIds, pendingResultIds, lastCommandSeq } = message.value as Record<
    string,
    unknown
  >;
  const facts = [commandId, id, commandIds, inFlightCommandIds, pendingResultIds, lastCommandSeq];
  return `${message.case} ${facts.filter((fact) => fact !== undefined).join(' | ')}`;
}
