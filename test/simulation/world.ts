// What is true in a simulation, whoever forgets it: which orders were given, which effects they had on the hosts, and what
// each side was told. Everything the delivery contract promises is judged against this.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { JobProgressSchema, JobResultSchema, JobState } from '#gen/longline/v1/job_pb.js';
import { SignedPayloadSchema } from '#gen/longline/v1/signature_pb.js';
import type { CapabilityCommand, CapabilityEvent, CommandContext } from '../../src/core/capability.ts';
import type { Clock } from '../../src/core/clock.ts';
import { LonglineError } from '../../src/core/errors.ts';
import type { AdmittedCommand, CommandAdmission, CommandExecutor } from '../../src/link/ports.ts';
import type { Scheduler } from './scheduler.ts';

/** Something to be done once on one host. */
export interface Order {
  readonly number: number;
  readonly agentId: string;
  readonly ttlMs: number;
  readonly effectMs: number;
  readonly succeeds: boolean;
  /** The host's admission refuses it. */
  readonly refused: boolean;
  /** Commands that were made for it: one for each attempt to submit it. */
  readonly attempts: string[];
}

/** What an order did to its host. */
interface Effect {
  starts: number;
  endsAtMs: number;
  stopped: boolean;
  interrupted: boolean;
}

/** The run broke a promise. */
export class Violation extends Error {}

/** Statement of an order, as it is stored. */
export function statementOf(order: Order): Uint8Array {
  const payload = Uint8Array.from(Buffer.from(String(order.number)));
  return toBinary(SignedPayloadSchema, create(SignedPayloadSchema, { payload }));
}

/** State and order number that a stored result tells. */
export function resultOf(bytes: Uint8Array): { readonly state: JobState; readonly order: number | undefined } {
  const { state, exitCode } = fromBinary(JobResultSchema, bytes);
  return { state, order: exitCode };
}

/** Facts of one simulation. */
export class World {
  readonly orders: Order[] = [];
  /** Commands whose receipt an agent put on a stream, and those of them whose end the controller acknowledged. */
  readonly promised = new Set<string>();
  readonly settled = new Set<string>();
  /** Results as the controller first stored them from an agent. */
  readonly finals = new Map<string, Uint8Array>();
  /** When commands expire, by id; milliseconds since the epoch. */
  readonly expiresAtMs = new Map<string, number>();
  readonly violations: string[] = [];
  readonly #effects = new Map<number, Effect>();

  violated(what: string): void {
    this.violations.push(what);
  }

  starts(order: Order): number {
    return this.#effects.get(order.number)?.starts ?? 0;
  }

  effect(order: Order): Effect | undefined {
    return this.#effects.get(order.number);
  }

  start(order: Order, nowMs: number): Effect {
    const before = this.#effects.get(order.number);
    const effect = {
      starts: (before?.starts ?? 0) + 1,
      endsAtMs: nowMs + order.effectMs,
      stopped: false,
      interrupted: false,
    };
    this.#effects.set(order.number, effect);
    if (effect.starts > 1) this.violated(`order ${order.number} had its effect ${effect.starts} times`);
    if (order.refused) this.violated(`order ${order.number} had its effect though admission refuses it`);
    return effect;
  }

  /** What ran on a host ends with it. */
  hostLost(agentId: string, nowMs: number): void {
    for (const order of this.orders) {
      const effect = this.#effects.get(order.number);
      if (order.agentId === agentId && effect !== undefined && effect.endsAtMs > nowMs) effect.interrupted = true;
    }
  }
}

/** Admits what its order allows, after a while. */
export class SimulatedAdmission implements CommandAdmission {
  readonly #world: World;
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;

  constructor(world: World, clock: Clock, scheduler: Scheduler) {
    this.#world = world;
    this.#clock = clock;
    this.#scheduler = scheduler;
  }

  async admit(command: Parameters<CommandAdmission['admit']>[0]): Promise<AdmittedCommand> {
    if (this.#scheduler.chance(0.5)) await this.#clock.sleep(this.#scheduler.between(0, 40));
    const action = command.statement!.payload;
    const order = this.#world.orders[Number(Buffer.from(action).toString())]!;
    if (order.refused) throw new LonglineError('policy', `order ${order.number} is not allowed here`);
    return {
      capability: 'jobs',
      action,
      nonce: Uint8Array.from(Buffer.from(command.id)),
      nonceExpiresAtMs: Number(command.expireTime!.seconds) * 1000 + 1000,
      recorded: this.#record(),
    };
  }

  refused(): void {
    // There is no audit record here.
  }

  /** The audit record has a disk of its own, which may refuse too. */
  async #record(): Promise<void> {
    await this.#clock.sleep(this.#scheduler.between(0, 10));
    if (this.#scheduler.chance(0.03)) throw new LonglineError('unavailable', 'the audit record cannot be kept');
  }
}

/** How a host finds out what had happened before a crash. */
export type Recovery =
  /** It looks: what runs is adopted, what never began is begun. */
  | 'looks'
  /** It can't tell, and says so. */
  | 'cannot tell';

/** Carries orders out on the world. */
export class SimulatedExecutor implements CommandExecutor {
  readonly #world: World;
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;
  readonly #recovery: Recovery;

  constructor(world: World, clock: Clock, scheduler: Scheduler, recovery: Recovery) {
    this.#world = world;
    this.#clock = clock;
    this.#scheduler = scheduler;
    this.#recovery = recovery;
  }

  async *execute(_: string, command: CapabilityCommand, context: CommandContext): AsyncGenerator<CapabilityEvent> {
    const order = this.#world.orders[Number(Buffer.from(command.action).toString())]!;
    const { signal } = context;
    let effect = context.resumed ? this.#world.effect(order) : undefined;
    if (context.resumed && this.#recovery === 'cannot tell') {
      yield ended(order, 'indeterminate', JobState.INDETERMINATE);
      return;
    }
    if (effect === undefined) {
      await this.#sleep(this.#scheduler.pick([0, 1, 200]), signal);
      await context.durable;
      if (signal.aborted) {
        yield ended(order, 'cancelled', JobState.CANCELLED);
        return;
      }
      effect = this.#world.start(order, this.#clock.monotonic());
    }
    const detail = toBinary(JobProgressSchema, create(JobProgressSchema, { step: { case: 'started', value: {} } }));
    yield { kind: 'progress', detail };
    if (!effect.stopped && !effect.interrupted) await this.#sleep(effect.endsAtMs - this.#clock.monotonic(), signal);
    if (signal.aborted && effect.endsAtMs > this.#clock.monotonic()) effect.stopped = true;
    if (effect.stopped) yield ended(order, 'cancelled', JobState.CANCELLED);
    else if (effect.interrupted || !order.succeeds) yield ended(order, 'failed', JobState.FAILED);
    else yield ended(order, 'succeeded', JobState.SUCCEEDED);
  }

  async writeInput(): Promise<{ readonly taken: number; readonly closed: boolean }> {
    return { taken: 0, closed: true };
  }

  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    await this.#clock.sleep(ms, signal).catch(() => undefined);
  }
}

function ended(
  order: Order,
  outcome: 'succeeded' | 'failed' | 'cancelled' | 'indeterminate',
  state: JobState,
): CapabilityEvent {
  const detail = toBinary(JobResultSchema, create(JobResultSchema, { state, exitCode: order.number }));
  return { kind: 'result', outcome, detail };
}
