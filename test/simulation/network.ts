// The network between agents and controller: connections that are in order each way, as HTTP/2 is, but slow, stalled, cut
// with part of what was under way lost, and dead on one side before the other knows. Messages cross as bytes.
import { EventEmitter } from 'node:events';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type AgentMessage,
  AgentMessageSchema,
  type ControllerMessage,
  ControllerMessageSchema,
} from '#gen/longline/link/v1/link_pb.js';
import type { ControlCall } from '../../src/controller/link/control-session.ts';
import { LonglineError } from '../../src/core/errors.ts';
import type { DuplexCall } from '../../src/link/grpc-client.ts';
import { Life, type Scheduler } from './scheduler.ts';

type Item = { readonly bytes: Uint8Array } | { readonly end: string };

/** State that all connections of one agent share. */
export class Route {
  /** Nothing arrives before this time. */
  stalledUntilMs = 0;
  slowestMs = 5;
}

/** One direction of a connection. */
class Pipe {
  readonly #scheduler: Scheduler;
  readonly #route: Route;
  readonly #deliver: (item: Item) => void;
  readonly #life = new Life();
  #queue: Item[] = [];
  #moving = false;
  #closed = false;

  constructor(scheduler: Scheduler, route: Route, deliver: (item: Item) => void) {
    this.#scheduler = scheduler;
    this.#route = route;
    this.#deliver = deliver;
  }

  get underWay(): number {
    return this.#queue.length;
  }

  send(item: Item): void {
    if (this.#closed) return;
    if ('end' in item) this.#closed = true;
    this.#queue.push(item);
    this.#move();
  }

  /** Loses some of what is under way, the latest first, and then ends. */
  cut(reason: string): void {
    if (this.#closed && this.#queue.length === 0) return;
    this.#queue = this.#queue.slice(0, Math.floor(this.#scheduler.between(0, this.#queue.length + 1)));
    this.#queue = this.#queue.filter((item) => !('end' in item));
    this.#closed = false;
    this.send({ end: reason });
  }

  /** Nothing arrives any more, not even the end. */
  vanish(): void {
    this.#closed = true;
    this.#queue = [];
    this.#life.alive = false;
  }

  #move(): void {
    if (this.#moving || this.#queue.length === 0) return;
    this.#moving = true;
    this.#scheduler.after(this.#scheduler.between(0.1, this.#route.slowestMs), this.#life, () => this.#arrive());
  }

  #arrive(): void {
    const stalledMs = this.#route.stalledUntilMs - this.#scheduler.nowMs;
    if (stalledMs > 0) {
      this.#scheduler.after(stalledMs, this.#life, () => this.#arrive());
      return;
    }
    this.#moving = false;
    const item = this.#queue.shift();
    if (item === undefined) return;
    this.#move();
    this.#deliver(item);
  }
}

/** The controller's end, as much of a grpc-js call as a control session uses. */
class ControllerEnd extends EventEmitter {
  cancelled = false;
  readonly #down: Pipe;
  readonly #life: Life;
  readonly #highWater: number;
  readonly #waiting: AgentMessage[] = [];
  #paused = false;
  #needDrain = false;

  constructor(down: Pipe, life: Life, highWater: number) {
    super();
    this.#down = down;
    this.#life = life;
    this.#highWater = highWater;
  }

  get writableNeedDrain(): boolean {
    return this.#needDrain;
  }

  write(message: ControllerMessage): boolean {
    this.#down.send({ bytes: toBinary(ControllerMessageSchema, message) });
    if (this.#down.underWay >= this.#highWater) this.#needDrain = true;
    return !this.#needDrain;
  }

  /** The agent took a message. */
  taken(): void {
    if (!this.#needDrain || this.#down.underWay > 0 || !this.#life.alive) return;
    this.#needDrain = false;
    this.emit('drain');
  }

  pause(): this {
    this.#paused = true;
    return this;
  }

  resume(): this {
    this.#paused = false;
    queueMicrotask(() => {
      while (this.#waiting.length > 0 && !this.#paused) this.emit('data', this.#waiting.shift());
    });
    return this;
  }

  isPaused(): boolean {
    return this.#paused;
  }

  arrive(item: Item): void {
    if (!this.#life.alive || this.cancelled) return;
    if ('bytes' in item) {
      const message = fromBinary(AgentMessageSchema, item.bytes);
      if (this.#paused || this.#waiting.length > 0) this.#waiting.push(message);
      else this.emit('data', message);
      return;
    }
    this.cancelled = true;
    this.emit('cancelled');
  }
}

/** The agent's end. */
class AgentEnd implements DuplexCall<AgentMessage, ControllerMessage> {
  readonly #up: Pipe;
  readonly #scheduler: Scheduler;
  readonly #life: Life;
  readonly #inbox: ControllerMessage[] = [];
  readonly #writes = new Set<(error: LonglineError) => void>();
  #ended: LonglineError | undefined;
  #wake: (() => void) | undefined;

  constructor(up: Pipe, scheduler: Scheduler, life: Life) {
    this.#up = up;
    this.#scheduler = scheduler;
    this.#life = life;
  }

  get messages(): AsyncIterable<ControllerMessage> {
    return this.#read();
  }

  async write(message: AgentMessage): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended;
    this.#up.send({ bytes: toBinary(AgentMessageSchema, message) });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#writes.add(reject);
    this.#scheduler.after(this.#scheduler.between(0, 0.5), this.#life, resolve);
    await promise.finally(() => this.#writes.delete(reject));
  }

  end(): void {
    this.#up.send({ end: 'the agent ended the call' });
  }

  cancel(): void {
    this.#up.send({ end: 'the agent cancelled the call' });
    this.#fail('cancelled');
  }

  arrive(item: Item): void {
    if (!this.#life.alive || this.#ended !== undefined) return;
    if ('end' in item) this.#fail(item.end);
    else this.#inbox.push(fromBinary(ControllerMessageSchema, item.bytes));
    this.#wake?.();
  }

  #fail(reason: string): void {
    this.#ended ??= new LonglineError('unavailable', reason);
    for (const reject of this.#writes) reject(this.#ended);
    this.#wake?.();
  }

  async *#read(): AsyncGenerator<ControllerMessage> {
    for (;;) {
      const message = this.#inbox.shift();
      if (message !== undefined) {
        yield message;
        continue;
      }
      if (this.#ended !== undefined) throw this.#ended;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }
}

/** A connection with one control call. */
export class Connection {
  readonly agentEnd: AgentEnd;
  readonly controllerEnd: ControllerEnd;
  readonly #up: Pipe;
  readonly #down: Pipe;

  constructor(scheduler: Scheduler, route: Route, agent: Life, controller: Life) {
    this.#up = new Pipe(scheduler, route, (item) => this.controllerEnd.arrive(item));
    this.#down = new Pipe(scheduler, route, (item) => {
      this.agentEnd.arrive(item);
      this.controllerEnd.taken();
    });
    this.agentEnd = new AgentEnd(this.#up, scheduler, agent);
    this.controllerEnd = new ControllerEnd(this.#down, controller, Math.ceil(scheduler.between(1, 12)));
  }

  /** What the controller's session takes for a grpc-js call. */
  get controlCall(): ControlCall {
    return this.controllerEnd as unknown as ControlCall;
  }

  /** Both sides lose some of what is under way and learn of it, each in its own time. */
  cut(): void {
    this.#up.cut('the connection was reset');
    this.#down.cut('the connection was reset');
  }

  /** The agent's process is gone: its host tells the controller after what was sent. */
  agentKilled(): void {
    this.#up.send({ end: 'the agent went away' });
    this.#down.vanish();
  }

  /** The agent's host is gone and tells nobody. */
  agentLostPower(): void {
    this.#up.vanish();
    this.#down.vanish();
  }

  /** The controller's process is gone. */
  controllerKilled(): void {
    this.#down.send({ end: 'the controller went away' });
    this.#up.vanish();
  }

  /** The controller's session is over. */
  ended(status: string): void {
    this.#down.send({ end: status });
  }

  /** Puts bytes on the way to the agent as if the controller had sent them. */
  inject(bytes: Uint8Array): void {
    this.#down.send({ bytes });
  }
}
