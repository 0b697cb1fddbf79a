// What services want of agents, by kind: stored as a next generation at once, brought about by whoever holds the agent's
// stream, and kept there. It knows neither streams nor what the kinds are about. A change fails as `not_found` for an unknown
// agent, as `limit` for a state that no message holds, and with whatever the change itself throws; then nothing is stored.
import { fromBinary } from '@bufbuild/protobuf';
import { type StateReport, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorSchema, type Error as WireError } from '#gen/longline/v1/error_pb.js';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { Bus, Subscription } from '../bus/bus.ts';
import { type DesiredStateChange, desiredStatesTopic } from '../bus/topics.ts';
import type { DesiredStateRecord } from '../store/desired-state.ts';
import type { Store } from '../store/store.ts';
import type { StateBody } from './state-body.ts';
import { announceState, MAX_ATTEMPTS, nextGeneration, tooManyChanges } from './state-update.ts';

/** What is wanted of one agent. */
export interface WantedState<T> {
  readonly agentId: string;
  /** 0 if nothing was ever wanted. */
  readonly generation: bigint;
  readonly state: T;
  /** Milliseconds since the epoch; 0 if nothing was ever wanted. */
  readonly changedAtMs: number;
  /** What the agent refused whole, and why, unless it has applied that or a later generation since. */
  readonly refusal: { readonly generation: bigint; readonly error: WireError; readonly atMs: number } | undefined;
}

/** What an agent last said of what it has applied. */
export interface ToldState {
  readonly report: StateReport;
  readonly storedAtMs: number;
}

/** What it is made from. */
export interface DesiredStatesParts {
  readonly store: Pick<Store, 'desiredStates' | 'stateReports'>;
  readonly bus: Bus;
  readonly clock: Clock;
}

/** The services' way to desired states. Stateless: every replica may have one. */
export class DesiredStates {
  readonly #parts: DesiredStatesParts;

  constructor(parts: DesiredStatesParts) {
    this.#parts = parts;
  }

  /** What is wanted of an agent. */
  async get<T>(agentId: string, body: StateBody<T>): Promise<WantedState<T>> {
    return wanted(agentId, body, await this.#parts.store.desiredStates.get(agentId, body.kind));
  }

  /** What is wanted of the agents after `afterAgentId`, in the order of their ids; at most `limit`. */
  async list<T>(body: StateBody<T>, afterAgentId: string, limit: number): Promise<readonly WantedState<T>[]> {
    const records = await this.#parts.store.desiredStates.list({ kind: body.kind, afterAgentId, limit });
    return records.map((record) => wanted(record.agentId, body, record));
  }

  /**
   * Changes what is wanted of an agent, and resolves once that is durable with what is wanted then. `change` gets the full
   * state and returns a full state; it must be pure, since it is called anew when somebody else was quicker. A state that is
   * the same as before makes no generation.
   */
  async put<T>(
    agentId: string,
    body: StateBody<T>,
    change: (current: T) => T,
  ): Promise<WantedState<T> & { readonly changed: boolean }> {
    const { desiredStates } = this.#parts.store;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const before = await desiredStates.get(agentId, body.kind);
      const current = before === undefined ? body.empty() : body.decode(before.body);
      const bytes = body.encode(change(current));
      const unchanged = Buffer.compare(bytes, before?.body ?? body.encode(body.empty())) === 0;
      if (unchanged) return { ...wanted(agentId, body, before), changed: false };
      if (await this.#store(agentId, body, before, bytes)) {
        announceState(this.#parts.bus, agentId, body.kind);
        return { ...(await this.get(agentId, body)), changed: true };
      }
    }
    throw tooManyChanges(agentId);
  }

  /** What an agent last said of what it has applied; undefined before it did. */
  async latestReport<T>(agentId: string, { kind }: StateBody<T>): Promise<ToldState | undefined> {
    const record = await this.#parts.store.stateReports.get(agentId, kind);
    return record && { report: fromBinary(StateReportSchema, record.report), storedAtMs: record.storedAtMs };
  }

  /** Changes of what is wanted and of what agents say, of all agents and kinds. Read what they say from here, and again if lagged. */
  async watch(capacity: number): Promise<Subscription<DesiredStateChange>> {
    return await this.#parts.bus.subscribe(desiredStatesTopic, capacity);
  }

  /** False if somebody else was quicker. */
  async #store<T>(
    agentId: string,
    body: StateBody<T>,
    before: DesiredStateRecord | undefined,
    bytes: Uint8Array,
  ): Promise<boolean> {
    const undo = before && body.encodeDelta(body.diff(body.decode(bytes), body.decode(before.body)));
    const { kind } = body;
    const { store, clock } = this.#parts;
    const expected = before?.generation ?? 0n;
    const update = nextGeneration({ agentId, kind, expected, body: bytes, undo, nowMs: clock.now() });
    const outcome = await store.desiredStates.put(update);
    if (outcome.kind === 'missing') throw new LonglineError('not_found', `there is no agent ${agentId}`);
    return outcome.kind === 'stored';
  }
}

function wanted<T>(agentId: string, body: StateBody<T>, record: DesiredStateRecord | undefined): WantedState<T> {
  if (record === undefined) {
    return { agentId, generation: 0n, state: body.empty(), changedAtMs: 0, refusal: undefined };
  }
  const { generation, changedAtMs, refusal } = record;
  return {
    agentId,
    generation,
    state: body.decode(record.body),
    changedAtMs,
    refusal: refusal && { ...refusal, error: fromBinary(ErrorSchema, refusal.error) },
  };
}
