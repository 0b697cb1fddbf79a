// One seeded run of a controller and its agents with faults at any step: kill of either side, loss of power, partition,
// reset, reordering over reconnects, repeated commands, torn, full and failing disks, drain, restart in good order. Once
// the faults are over everything has to come to its end; then `judge` compares what each side holds with what happened.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { ControllerMessageSchema } from '#gen/longline/link/v1/link_pb.js';
import { JobState } from '#gen/longline/v1/job_pb.js';
import { seededRandom } from '../fixtures/seeded-random.ts';
import { type AgentHost, AgentProcess, type AgentSurroundings } from './agent-process.ts';
import { ControllerProcess, copyDatabase } from './controller-process.ts';
import { SimulatedDisk } from './disk.ts';
import { Connection, Route } from './network.ts';
import { Life, Scheduler } from './scheduler.ts';
import { type Order, resultOf, Violation, World } from './world.ts';

/** Virtual time after the last fault in which everything has to be over: beyond three silent heartbeat periods. */
const SETTLE_MS = 900_000;
const LONG_TTL_MS = 3_600_000;

/** What happened in a run, to see that faults were among it. */
export interface Tally {
  orders: number;
  agentKills: number;
  powerLosses: number;
  controllerKills: number;
  cuts: number;
  partitions: number;
  diskFaults: number;
  indeterminate: number;
  /** Events of virtual time. */
  events: number;
}

/** How often each fault comes; drawn anew for each seed, so that each run has its own mix. */
interface Weather {
  readonly faultsForMs: number;
  readonly agentKill: number;
  readonly controllerKill: number;
  readonly powerLoss: number;
  readonly connectionMs: number;
  readonly diskMs: number;
}

/** A run. `run` it once. */
export class Simulation {
  readonly tally: Tally = {
    orders: 0,
    agentKills: 0,
    powerLosses: 0,
    controllerKills: 0,
    cuts: 0,
    partitions: 0,
    diskFaults: 0,
    indeterminate: 0,
    events: 0,
  };
  /** What happened, if it is to be kept. */
  readonly trace: string[] = [];
  readonly #folder: string;
  readonly #seed: number;
  readonly #scheduler: Scheduler;
  readonly #world = new World();
  readonly #busy = { count: 0 };
  readonly #outside = new Life();
  readonly #weather: Weather;
  readonly #hosts: AgentHost[];
  readonly #agents = new Map<string, AgentProcess>();
  readonly #controllers: ControllerProcess[] = [];
  readonly #keepTrace: boolean;
  #uuids = 0;
  #ids = 0;
  #stormy = true;
  #restarting = false;

  /** Works in `folder`, which holds an empty database `empty.db`. */
  constructor(seed: number, folder: string, keepTrace = false) {
    this.#seed = seed;
    this.#folder = folder;
    this.#keepTrace = keepTrace;
    this.#scheduler = new Scheduler(seededRandom(seed));
    const { between, pick } = this.#drawing();
    this.#weather = {
      faultsForMs: between(5000, 120_000),
      agentKill: pick([0, 0.001, 0.004, 0.02]),
      controllerKill: pick([0, 0.001, 0.004, 0.02]),
      powerLoss: pick([0, 0, 0.3, 1]),
      connectionMs: pick([500, 3000, 15_000, 1e9]),
      diskMs: pick([1000, 10_000, 1e9, 1e9]),
    };
    const agents = pick([1, 1, 2]);
    this.#hosts = Array.from({ length: agents }, (_, index) => ({
      id: `agent-${index}`,
      instanceId: this.#newUuid(),
      disk: new SimulatedDisk(this.#scheduler),
      route: new Route(),
      recovery: pick(['looks', 'cannot tell'] as const),
      skewMs: pick([0, 0, -20_000, 20_000]),
    }));
  }

  /** Throws a Violation that names the seed if a promise was broken. */
  async run(): Promise<void> {
    copyDatabase(join(this.#folder, 'empty.db'), this.#databasePath());
    try {
      this.#startController(this.#databasePath());
      for (const host of this.#hosts) this.#boot(host);
      this.#planOrders();
      this.#planFaults();
      await this.#play();
    } finally {
      for (const agent of this.#agents.values()) agent.life.alive = false;
      for (const controller of this.#controllers) {
        await controller.close();
        for (const end of ['', '-wal', '-shm']) rmSync(`${controller.path}${end}`, { force: true });
      }
    }
  }

  #drawing() {
    const scheduler = this.#scheduler;
    return {
      between: (from: number, to: number) => scheduler.between(from, to),
      pick: <T>(items: readonly T[]) => scheduler.pick(items),
    };
  }

  #newUuid(): string {
    this.#uuids += 1;
    return `00000000-0000-4000-8000-${String(this.#uuids).padStart(12, '0')}`;
  }

  #databasePath(): string {
    return join(this.#folder, `seed-${this.#seed}-${this.#controllers.length}.db`);
  }

  #note(what: string): void {
    if (this.#keepTrace) this.trace.push(`${this.#scheduler.nowMs.toFixed(1)} ${what}`);
  }

  readonly #noteLater = (what: () => string): void => {
    if (this.#keepTrace) this.#note(what());
  };

  get #controller(): ControllerProcess {
    return this.#controllers.at(-1)!;
  }

  #startController(path: string): void {
    this.#note('controller starts');
    this.#controllers.push(
      new ControllerProcess(path, {
        scheduler: this.#scheduler,
        world: this.#world,
        busy: this.#busy,
        note: this.#noteLater,
      }),
    );
  }

  #boot(host: AgentHost): void {
    this.#note(`${host.id} starts`);
    this.#agents.set(host.id, AgentProcess.boot(host, this.#surroundings()));
  }

  #surroundings(): AgentSurroundings {
    return {
      scheduler: this.#scheduler,
      world: this.#world,
      newUuid: () => this.#newUuid(),
      note: this.#noteLater,
      dial: async (host, life) => {
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#scheduler.after(this.#scheduler.between(1, 20), life, resolve);
        await promise;
        const unreachable = host.route.stalledUntilMs > this.#scheduler.nowMs;
        if (unreachable || !this.#controller.life.alive || !this.#controller.ready) return undefined;
        const connection = new Connection(this.#scheduler, host.route, life, this.#controller.life);
        this.#controller.accept(connection, host.id);
        return connection;
      },
    };
  }

  #planOrders(): void {
    const { between, pick } = this.#drawing();
    const count = Math.floor(between(2, 12));
    for (let number = 0; number < count; number++) {
      const order: Order = {
        number,
        agentId: pick(this.#hosts).id,
        ttlMs: pick([LONG_TTL_MS, LONG_TTL_MS, LONG_TTL_MS, 3000, 30_000]),
        effectMs: pick([0, 50, 1000, 20_000]),
        succeeds: pick([true, true, false]),
        refused: pick([false, false, false, false, false, false, true]),
        attempts: [],
      };
      this.#world.orders.push(order);
      this.tally.orders += 1;
      this.#scheduler.after(between(100, this.#weather.faultsForMs), this.#outside, () => this.#submit(order));
      if (!this.#scheduler.chance(0.25)) continue;
      const cancelAtMs = between(100, this.#weather.faultsForMs);
      this.#scheduler.after(cancelAtMs, this.#outside, () => this.#cancel(order));
    }
  }

  /** As a careful caller does: asks again with the same request id until it has an answer. */
  #submit(order: Order): void {
    const controller = this.#controller;
    if (!controller.life.alive || !controller.ready || !this.#agentsKnown) {
      this.#scheduler.after(500, this.#outside, () => this.#submit(order));
      return;
    }
    const id = `command-${order.number}-${this.#ids++}`;
    order.attempts.push(id);
    let answered = false;
    controller.submit(order, id).then(
      () => {
        answered = true;
      },
      (error: unknown) => this.#world.violated(`submit of order ${order.number} failed: ${String(error)}`),
    );
    this.#scheduler.after(2000, this.#outside, () => {
      if (!answered) this.#submit(order);
    });
  }

  #agentsKnown = false;

  #cancel(order: Order): void {
    const controller = this.#controller;
    if (!controller.life.alive || !controller.ready) return;
    this.#note(`order ${order.number} is cancelled`);
    void controller.cancel(order);
  }

  #planFaults(): void {
    const { faultsForMs, connectionMs, diskMs } = this.#weather;
    this.#repeat(connectionMs, () => this.#disturbConnection(this.#scheduler.pick(this.#hosts)));
    this.#repeat(diskMs, () => this.#disturbDisk(this.#scheduler.pick(this.#hosts)));
    this.#repeat(Math.max(connectionMs, 2000), () => this.#repeatCommand());
    this.#scheduler.after(faultsForMs, this.#outside, () => this.#calm());
  }

  #repeat(meanMs: number, fault: () => void): void {
    this.#scheduler.after(this.#scheduler.between(0, 2 * meanMs), this.#outside, () => {
      if (!this.#stormy) return;
      fault();
      this.#repeat(meanMs, fault);
    });
  }

  #disturbConnection(host: AgentHost): void {
    const { between, pick } = this.#drawing();
    const kind = pick(['cut', 'stall', 'partition', 'slow', 'drain'] as const);
    this.#note(`${kind} of ${host.id}`);
    if (kind === 'drain') {
      if (this.#controller.life.alive) this.#controller.drain();
    } else if (kind === 'slow') host.route.slowestMs = pick([1, 5, 300, 2000]);
    else if (kind === 'cut') {
      this.tally.cuts += 1;
      for (const connection of this.#agents.get(host.id)?.connections ?? []) connection.cut();
    } else {
      this.tally.partitions += 1;
      host.route.stalledUntilMs = this.#scheduler.nowMs + between(100, kind === 'stall' ? 5000 : 90_000);
    }
  }

  #disturbDisk(host: AgentHost): void {
    const { between, pick } = this.#drawing();
    this.tally.diskFaults += 1;
    const kind = pick(['full', 'failing', 'slow'] as const);
    this.#note(`disk of ${host.id} is ${kind}`);
    if (kind === 'slow') {
      host.disk.slowestMs = pick([1, 30, 500]);
      return;
    }
    host.disk[kind] = true;
    this.#scheduler.after(between(10, 10_000), this.#outside, () => {
      host.disk[kind] = false;
    });
  }

  /** A command comes again, as from a controller that forgot that it had sent it. */
  #repeatCommand(): void {
    const order = this.#scheduler.pick(this.#world.orders);
    const id = order.attempts.length === 0 ? undefined : this.#scheduler.pick(order.attempts);
    if (id === undefined || !this.#world.promised.has(id)) return;
    const message = create(ControllerMessageSchema, {
      message: {
        case: 'command',
        value: {
          id,
          seq: 1n,
          statement: { payload: Buffer.from(String(order.number)) },
          expireTime: timestampFromMs(this.#world.expiresAtMs.get(id)!),
        },
      },
    });
    for (const connection of this.#agents.get(order.agentId)?.connections ?? []) {
      connection.inject(toBinary(ControllerMessageSchema, message));
    }
  }

  /** No faults from here on. */
  #calm(): void {
    this.#note('faults are over');
    this.#stormy = false;
    for (const { disk, route } of this.#hosts) {
      disk.full = false;
      disk.failing = false;
      disk.slowestMs = 3;
      route.stalledUntilMs = 0;
      route.slowestMs = 5;
    }
  }

  async #play(): Promise<void> {
    const deadlineMs = this.#weather.faultsForMs + SETTLE_MS;
    let nextLookMs = 0;
    for (;;) {
      if (!this.#scheduler.step()) throw this.#violation('nothing is left to happen');
      this.tally.events += 1;
      await this.#settle();
      if (this.#world.violations.length > 0) throw this.#violation(this.#world.violations.join('; '));
      if (this.#scheduler.nowMs < nextLookMs) continue;
      nextLookMs = this.#scheduler.nowMs + 1000;
      if (!this.#agentsKnown) await this.#look();
      if (this.#stormy) continue;
      const open = await this.#open();
      if (open.length === 0) break;
      if (this.#scheduler.nowMs > deadlineMs) throw this.#violation(`not over in time: ${open.join(', ')}`);
    }
    await this.#judge();
  }

  async #look(): Promise<void> {
    if (!this.#controller.life.alive) return;
    const known = await Promise.all(this.#hosts.map(async ({ id }) => await this.#controller.agentKnown(id)));
    this.#agentsKnown = known.every(Boolean);
  }

  /** Lets everything happen that needs no time; the moments in between are where processes are killed. */
  async #settle(): Promise<void> {
    for (let quiet = 0; quiet < 2; ) {
      if (this.#stormy) this.#maybeKill();
      await new Promise((resolve) => setImmediate(resolve));
      quiet = this.#busy.count > 0 ? 0 : quiet + 1;
    }
  }

  #maybeKill(): void {
    const { agentKill, controllerKill, powerLoss } = this.#weather;
    if (this.#scheduler.chance(controllerKill) && this.#controller.life.alive) this.#killController();
    if (!this.#scheduler.chance(agentKill)) return;
    const agent = this.#scheduler.pick([...this.#agents.values()]);
    if (!agent.life.alive) return;
    if (this.#scheduler.chance(0.2)) this.#stopAgent(agent);
    else this.#killAgent(agent, this.#scheduler.chance(powerLoss));
  }

  #killController(): void {
    this.#note('controller is killed');
    this.tally.controllerKills += 1;
    const old = this.#controller;
    old.kill();
    const path = this.#databasePath();
    copyDatabase(old.path, path);
    this.#scheduler.after(this.#scheduler.between(50, 5000), this.#outside, () => this.#startController(path));
  }

  #killAgent(agent: AgentProcess, withHost: boolean): void {
    this.#note(`${agent.host.id} ${withHost ? 'loses power' : 'is killed'}`);
    if (withHost) this.tally.powerLosses += 1;
    else this.tally.agentKills += 1;
    agent.kill(withHost);
    this.#scheduler.after(this.#scheduler.between(20, 5000), this.#outside, () => this.#boot(agent.host));
  }

  #stopAgent(agent: AgentProcess): void {
    if (this.#restarting) return;
    this.#restarting = true;
    this.#note(`${agent.host.id} stops in good order`);
    const over = (): void => {
      this.#restarting = false;
      if (agent.life.alive) this.#killAgent(agent, false);
    };
    agent.stop().then(over, over);
    this.#scheduler.after(8000, this.#outside, () => {
      if (this.#restarting && !agent.life.alive) this.#restarting = false;
    });
  }

  async #open(): Promise<string[]> {
    if (!this.#controller.life.alive) return ['the controller is down'];
    const open: string[] = [];
    for (const order of this.#world.orders) {
      const record = await this.#recordOf(order);
      if (record === undefined) open.push(`order ${order.number} isn't stored`);
      else if (record.state !== 'ended' && record.state !== 'rejected') open.push(`${record.id} is ${record.state}`);
    }
    for (const [id, agent] of this.#agents) if (!agent.life.alive || !agent.idle) open.push(`${id} isn't done`);
    return open;
  }

  async #recordOf(order: Order) {
    for (const id of order.attempts) {
      const record = await this.#controller.command(id);
      if (record !== undefined) return record;
    }
    return undefined;
  }

  /** Whether what is stored in the end is what happened. */
  async #judge(): Promise<void> {
    for (const order of this.#world.orders) {
      const record = (await this.#recordOf(order))!;
      const starts = this.#world.starts(order);
      const effect = this.#world.effect(order);
      const { state, order: told } = resultOf(record.result!);
      const fact = `order ${order.number} (${record.id}) ended as ${JobState[state]}, its effect began ${starts} times`;
      if (state === JobState.INDETERMINATE) this.tally.indeterminate += 1;
      const first = this.#world.finals.get(record.id);
      if (first !== undefined && Buffer.compare(first, record.result!) !== 0)
        this.#world.violated(`${fact}; it was another end before`);
      if (this.#world.promised.has(record.id) && first === undefined) {
        this.#world.violated(`${fact}, in the controller's words, though the agent had it`);
      }
      if (told !== undefined && told !== order.number) this.#world.violated(`${fact} with the result of order ${told}`);
      const done = effect !== undefined && !effect.stopped && !effect.interrupted;
      if (state === JobState.SUCCEEDED && !(done && order.succeeds)) this.#world.violated(fact);
      if (state === JobState.REJECTED && starts > 0) this.#world.violated(fact);
      if (state === JobState.FAILED && !(effect?.interrupted || (done && !order.succeeds))) this.#world.violated(fact);
      if (state === JobState.CANCELLED && starts > 0 && !effect?.stopped) this.#world.violated(fact);
    }
    if (this.#world.violations.length > 0) throw this.#violation(this.#world.violations.join('; '));
  }

  #violation(what: string): Violation {
    return new Violation(`seed ${this.#seed}: ${what}`);
  }
}
