// One incarnation of a controller: its real control sessions, dispatch, sweeper, bus and SQLite store. A kill leaves the
// bytes that the database files have at that moment: the next incarnation starts on a copy of them, while the dead one can
// do what it likes to the old ones.
import { copyFileSync, existsSync } from 'node:fs';
import { MemoryBus } from '../../src/controller/bus/memory/memory-bus.ts';
import { agentTopic } from '../../src/controller/bus/topics.ts';
import { DEFAULT_RETENTION, publishChanges, Sweeper } from '../../src/controller/dispatch/sweeper.ts';
import { ControlSession } from '../../src/controller/link/control-session.ts';
import { DEFAULT_LINK_OPTIONS, type LinkDependencies } from '../../src/controller/link/link-options.ts';
import { NO_LINK_METER } from '../../src/controller/metrics/link-meter.ts';
import type { CommandRecord } from '../../src/controller/store/command.ts';
import { openSqliteStore } from '../../src/controller/store/sqlite/sqlite-store.ts';
import type { Store } from '../../src/controller/store/store.ts';
import { silentLogger } from '../../src/core/logger.ts';
import type { Connection } from './network.ts';
import { Life, type Scheduler, VirtualClock } from './scheduler.ts';
import { type Order, statementOf, type World } from './world.ts';

/** What a controller's process lives in. */
export interface ControllerSurroundings {
  readonly scheduler: Scheduler;
  readonly world: World;
  /** Store operations under way, all incarnations together. */
  readonly busy: { count: number };
  /** Keeps what happened, for a run that is looked at. */
  note(what: () => string): void;
}

const HEARTBEAT_MS = 15_000;
const SWEEP_MS = 5000;
/** Nothing of a store may depend on real time. */
const UNHURRIED = { sliceMs: Number.POSITIVE_INFINITY, patienceMs: 0 };

/** Copies a database as a crash would leave it. */
export function copyDatabase(from: string, to: string): void {
  copyFileSync(from, to);
  if (existsSync(`${from}-wal`)) copyFileSync(`${from}-wal`, `${to}-wal`);
}

/** Makes an empty database to be copied. */
export async function makeDatabase(path: string): Promise<void> {
  await openSqliteStore(path)[Symbol.asyncDispose]();
}

/** A process. */
export class ControllerProcess {
  readonly life = new Life();
  readonly path: string;
  readonly clock: VirtualClock;
  readonly #around: ControllerSurroundings;
  readonly #real: Store;
  readonly #store: Store;
  readonly #bus = new MemoryBus(silentLogger);
  readonly #needs: LinkDependencies;
  readonly #sessions = new Map<ControlSession, Connection>();
  readonly #connections = new Set<Connection>();
  ready = false;

  /** Starts on the database at `path`. */
  constructor(path: string, around: ControllerSurroundings) {
    this.path = path;
    this.#around = around;
    this.clock = new VirtualClock(around.scheduler, this.life);
    this.#real = openSqliteStore(path, UNHURRIED);
    this.#store = this.#watched(this.#real);
    this.#needs = {
      store: this.#store,
      bus: this.#bus,
      logs: undefined as unknown as LinkDependencies['logs'],
      identities: undefined as unknown as LinkDependencies['identities'],
      controllerId: 'simulated',
      replicaId: 'only',
      signer: { sign: () => new Uint8Array() },
      clock: this.clock,
      log: silentLogger,
      meter: NO_LINK_METER,
      options: { ...DEFAULT_LINK_OPTIONS, heartbeatMs: HEARTBEAT_MS, windowCommands: 4, maxPendingWrites: 4 },
    };
    void this.#start();
  }

  /** Serves a control stream. */
  accept(connection: Connection, agentId: string): void {
    const session = new ControlSession(this.#needs, connection.controlCall, { agentId, via: 'api_key' });
    this.#sessions.set(session, connection);
    this.#connections.add(connection);
    const over = (status: string) => {
      this.#sessions.delete(session);
      if (this.life.alive) connection.ended(status);
    };
    session.done.then(
      () => over('OK'),
      (error: unknown) => over(String(error)),
    );
  }

  /** Stores an order as a command with this id; resolves once it is durable. */
  async submit(order: Order, commandId: string): Promise<void> {
    const nowMs = this.clock.now();
    this.#around.world.expiresAtMs.set(commandId, nowMs + order.ttlMs);
    const outcome = await this.#store.jobs.submit({
      job: {
        id: `job-${commandId}`,
        spec: new Uint8Array(),
        target: new Uint8Array(),
        createdAtMs: nowMs,
        expiresAtMs: nowMs + order.ttlMs,
        creator: 'simulation',
        requestId: `order-${order.number}`,
        labels: {},
      },
      requestHash: new Uint8Array(32),
      statements: [statementOf(order)],
      commands: [{ id: commandId, agentId: order.agentId, statement: 0 }],
      traceparent: '',
      tracestate: '',
    });
    if (outcome.kind === 'refused') throw new Error(`order ${order.number} was refused: ${outcome.why}`);
    this.#bus.publish(agentTopic(order.agentId), { kind: 'commands' });
  }

  async cancel(order: Order): Promise<void> {
    for (const id of order.attempts) {
      const outcome = await this.#store.commands.requestCancel(id, 'no longer wanted', this.clock.now());
      if (outcome.kind !== 'unchanged') publishChanges(this.#bus, [outcome.change]);
      if (outcome.kind === 'requested') this.#bus.publish(agentTopic(order.agentId), { kind: 'cancels' });
    }
  }

  /** Asks agents to come anew. */
  drain(): void {
    for (const session of this.#sessions.keys()) session.drain(2000, 'simulated');
  }

  async command(id: string): Promise<CommandRecord | undefined> {
    return await this.#real.commands.get(id);
  }

  async agentKnown(id: string): Promise<boolean> {
    return (await this.#real.agents.get(id)) !== undefined;
  }

  kill(): void {
    this.life.alive = false;
    for (const connection of this.#connections) connection.controllerKilled();
  }

  /** Lets go of the files. */
  async close(): Promise<void> {
    this.life.alive = false;
    await this.#real[Symbol.asyncDispose]();
  }

  async #start(): Promise<void> {
    await this.#store.agents.releaseReplica('only', this.clock.now());
    this.ready = true;
    const retention = DEFAULT_RETENTION;
    const { clock } = this;
    const logs = undefined as unknown as LinkDependencies['logs'];
    const sweeper = new Sweeper({ store: this.#store, logs, bus: this.#bus, clock, log: silentLogger, retention });
    const sweep = async (): Promise<void> => {
      await sweeper.expire();
      this.#around.scheduler.after(SWEEP_MS, this.life, () => void sweep());
    };
    const beat = (): void => {
      for (const session of this.#sessions.keys()) session.beat(clock.monotonic());
      this.#around.scheduler.after(HEARTBEAT_MS / 2, this.life, beat);
    };
    beat();
    await sweep();
  }

  /** The store, with what is under way counted, what a dead process does dropped, and what agents said noted. */
  #watched(store: Store): Store {
    const { busy, world } = this.#around;
    const counted = <T extends object>(repository: T, after: (name: string, value: unknown) => Promise<void>): T =>
      new Proxy(repository, {
        get: (target, name) => {
          const method = (target as Record<string, unknown>)[String(name)] as (...given: unknown[]) => Promise<unknown>;
          return (...given: unknown[]) => {
            if (!this.life.alive) return new Promise(() => undefined);
            busy.count += 1;
            const run = async () => {
              const value = await method.apply(target, given);
              this.#around.note(() => `controller: ${String(name)} ${describe(given)} → ${describe(value)}`);
              await after(String(name), name === 'result' ? given[0] : value);
              return value;
            };
            const { promise, resolve, reject } = Promise.withResolvers<unknown>();
            const settle = (act: () => void) => {
              busy.count -= 1;
              if (this.life.alive) act();
            };
            run().then(
              (value) => settle(() => resolve(value)),
              (error: unknown) => settle(() => reject(error)),
            );
            return promise;
          };
        },
      });
    const nothing = async () => undefined;
    const note = async (name: string, value: unknown): Promise<void> => {
      if (name === 'lose') await this.#checkDeclared(value as readonly { commandId: string }[]);
      if (name !== 'result' || !this.life.alive) return;
      const { commandId } = value as { commandId: string };
      const record = await store.commands.get(commandId);
      if (record?.result !== undefined && !world.finals.has(commandId)) world.finals.set(commandId, record.result);
    };
    return {
      ...store,
      agents: counted(store.agents, nothing),
      jobs: counted(store.jobs, nothing),
      commands: counted(store.commands, note),
      desiredStates: counted(store.desiredStates, nothing),
      stateReports: counted(store.stateReports, nothing),
    };
  }

  /** Journals here lose nothing that was promised, so nothing may be declared lost. */
  async #checkDeclared(changes: readonly { commandId: string }[]): Promise<void> {
    for (const { commandId } of changes) {
      const record = await this.#real.commands.get(commandId);
      if (record?.state === 'ended') this.#around.world.violated(`command ${commandId} was declared lost at a Hello`);
    }
  }
}

const NOT_THE_SAME_AGAIN = new Set(['connectionId', 'previous']);

function describe(value: unknown): string {
  return String(
    JSON.stringify(value, (key, inner) => {
      if (NOT_THE_SAME_AGAIN.has(key)) return undefined;
      if (inner instanceof Uint8Array || (inner as { type?: unknown } | null)?.type === 'Buffer') return '…';
      return typeof inner === 'bigint' ? String(inner) : inner;
    }),
  ).replaceAll(/[0-9a-f]{8}-(?!0000)[0-9a-f-]{27}/g, '…');
}
