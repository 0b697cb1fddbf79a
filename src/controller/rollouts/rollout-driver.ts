// Drives assignments and their rollouts: tells agents what is wanted of them, and takes rollouts on by what agents say and as time
// goes by. It holds nothing that matters: all it decides is stored before it is done, each time against the revision that was
// read, so it can be killed anywhere, and several may run beside each other. What fails is logged and tried again.
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { Progress } from '../../core/progress.ts';
import { Undertakings } from '../../core/undertakings.ts';
import type { BusEvent } from '../bus/bus.ts';
import { assignmentsTopic, desiredStatesTopic, fleetTopic, programsTopic } from '../bus/topics.ts';
import { PROGRAM_STATE } from '../states/program-state-body.ts';
import type { AssignedAgentRecord } from '../store/rollout.ts';
import type { Store } from '../store/store.ts';
import { type TellingParts, tellAgent } from './agent-telling.ts';
import { AgentWatch } from './agent-watch.ts';
import { factsOf, takenFrom, tellings } from './assigned-agents.ts';
import { outlookOf } from './progress.ts';
import { AssignmentPlan } from './target.ts';

/** Assignments that are driven side by side. */
const CONCURRENCY = 4;

/** Longer than a turn takes, with the largest fleets. */
const TURN_LIMIT_MS = 900_000;

/** Agents that are told side by side, so that they share commits of the store. */
const CHUNK = 32;

/** Changes that one assignment may make in a row before others have their turn. */
const MAX_ROUNDS = 16;

/** Least time between two turns of one assignment: a fleet that comes back at once is looked at as a whole. */
const LEAST_REST_MS = 100;

/** Rest by the time that the turn took: large fleets must not take all of the process. */
const REST_PART = 3;

/** How long rollouts that ended are listed. */
const KEEP_ROLLOUTS_MS = 30 * 86_400_000;

const PAGE = 1000;

/** Rollouts that are forgotten at once, each with its agents. */
const FORGOTTEN = 100;

/** What it is made from. */
export interface RolloutDriverParts extends TellingParts {
  readonly store: Store;
  readonly log: Logger;
  /** How often everything is looked at, should a wake-up have been lost. */
  readonly recheckMs: number;
}

/** Drives all assignments of a store. */
export class RolloutDriver {
  readonly #parts: RolloutDriverParts;
  readonly #turns: Undertakings;
  readonly #agents: AgentWatch;
  /** By the monotonic clock. */
  readonly #beganAtMs: number;
  readonly #dirty = new Set<string>();
  readonly #dirtyAgents = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  /** When the next turn of an assignment may begin, by the monotonic clock. */
  readonly #restUntil = new Map<string, number>();
  /** When time alone may bring a change, by the wall clock. */
  readonly #dueAtMs = new Map<string, number>();
  /** Agents that could not be told, and why, by assignment. */
  readonly #blocked = new Map<string, ReadonlyMap<string, string>>();
  #wake: (() => void) | undefined;

  constructor(parts: RolloutDriverParts) {
    this.#parts = parts;
    this.#turns = new Undertakings('assignments', parts.clock);
    this.#agents = new AgentWatch(parts.store);
    this.#beganAtMs = parts.clock.monotonic();
  }

  /** Whether what is under way gets on. */
  get progress(): readonly Progress[] {
    return this.#turns.progress;
  }

  /** Drives until the signal aborts, and resolves when nothing is under way any more. */
  async run(signal: AbortSignal): Promise<void> {
    const { bus, clock, recheckMs } = this.#parts;
    const agent = (event: BusEvent<{ readonly agentId: string }>): void => {
      if (event.kind === 'message') this.#dirtyAgents.add(event.message.agentId);
      this.#wake?.();
    };
    using _assignments = await bus.listen(assignmentsTopic, (event) => {
      if (event.kind === 'message') this.#dirty.add(event.message.assignment);
      this.#wake?.();
    });
    using _fleet = await bus.listen(fleetTopic, agent);
    const said = (event: BusEvent<{ readonly agentId: string }>): void => {
      if (event.kind === 'message') this.#agents.said(event.message.agentId);
      agent(event);
    };
    using _programs = await bus.listen(programsTopic, (event) => {
      // Figures of all of them say nothing of any.
      if (event.kind === 'lagged' || event.message.name !== '') said(event);
    });
    using _states = await bus.listen(desiredStatesTopic, (event) => {
      if (event.kind === 'lagged' || event.message.stateKind === PROGRAM_STATE.kind) said(event);
    });
    let recheckAtMs = clock.monotonic();
    while (!signal.aborted) {
      if (clock.monotonic() >= recheckAtMs) {
        recheckAtMs = clock.monotonic() + recheckMs;
        await this.#attempt('all assignments', () => this.#recheck());
      }
      await this.#attempt('agents of assignments', () => this.#lookAtAgents());
      this.#start(signal);
      await this.#pause(recheckAtMs, signal);
    }
    await Promise.all(this.#running.values());
  }

  /** One assignment, until there is nothing to do for now. Public for those who drive by hand. */
  async drive(name: string): Promise<void> {
    for (let round = 0; round < MAX_ROUNDS; round++) if (!(await this.#round(name))) return;
    this.#dirty.add(name);
  }

  async #recheck(): Promise<void> {
    const { clock, store } = this.#parts;
    for (let pageToken = ''; ; ) {
      const page = await store.assignments.list({ pageSize: PAGE, pageToken });
      for (const { name } of page.items) this.#dirty.add(name);
      pageToken = page.nextPageToken;
      if (pageToken === '') break;
    }
    while ((await store.assignments.deleteEndedRollouts(clock.now() - KEEP_ROLLOUTS_MS, FORGOTTEN)) === FORGOTTEN);
  }

  async #lookAtAgents(): Promise<void> {
    const agents = [...this.#dirtyAgents];
    this.#dirtyAgents.clear();
    for (const agentId of agents) for (const name of await this.#agents.concerned(agentId)) this.#dirty.add(name);
  }

  #start(signal: AbortSignal): void {
    const { clock } = this.#parts;
    for (const [name, atMs] of this.#dueAtMs) {
      if (atMs > clock.now()) continue;
      // From here on it waits for its turn as any other: one that stayed due would leave nobody else a turn until then.
      this.#dueAtMs.delete(name);
      this.#dirty.add(name);
    }
    for (const name of this.#dirty) {
      if (this.#running.size >= CONCURRENCY || signal.aborted) return;
      if (!this.#isReady(name)) continue;
      this.#dirty.delete(name);
      this.#dueAtMs.delete(name);
      const startedAtMs = clock.monotonic();
      const driving = this.#attempt(`assignment ${name}`, () => this.drive(name)).finally(() => {
        this.#running.delete(name);
        const nowMs = clock.monotonic();
        this.#restUntil.set(name, nowMs + Math.max(LEAST_REST_MS, REST_PART * (nowMs - startedAtMs)));
        this.#wake?.();
      });
      this.#running.set(name, driving);
    }
  }

  #isReady(name: string): boolean {
    // One that is being driven has its next turn after this one.
    if (this.#running.has(name) || (this.#restUntil.get(name) ?? 0) > this.#parts.clock.monotonic()) return false;
    this.#restUntil.delete(name);
    return true;
  }

  /** True if it changed something: then there may be more to do. */
  async #round(name: string): Promise<boolean> {
    const { store, clock } = this.#parts;
    const state = await store.assignments.get(name);
    if (state === undefined) {
      this.#forget(name);
      return false;
    }
    const plan = new AssignmentPlan(state);
    const selectors = [plan.asked.selector, ...(plan.settled === undefined ? [] : [plan.settled.selector])];
    this.#agents.know(name, selectors);
    const records = await store.assignments.agents(name, selectors);
    const { blocked, told } = await this.#tell(plan, records);
    if (told) return true;
    const taken = takenFrom(plan, records);
    if (taken.length > 0) {
      await store.assignments.forget(taken);
      return true;
    }
    const moment = { nowMs: clock.now(), heardForMs: clock.monotonic() - this.#beganAtMs };
    const { change, lookAgainAtMs } = outlookOf(plan, factsOf(plan, records, blocked), moment);
    if (change === undefined) {
      if (lookAgainAtMs !== undefined) this.#dueAtMs.set(name, lookAgainAtMs);
      return await this.#finish(plan, records);
    }
    const { revision: baseRevision } = state.assignment;
    await store.assignments.commit({ name, baseRevision, nowMs: moment.nowMs, ...change });
    this.#publish(name);
    return true;
  }

  async #tell(
    plan: AssignmentPlan,
    records: readonly AssignedAgentRecord[],
  ): Promise<{ readonly blocked: ReadonlyMap<string, string>; readonly told: boolean }> {
    const blocked = new Map<string, string>();
    const all = tellings(plan, records);
    let told = false;
    for (let at = 0; at < all.length; at += CHUNK) {
      const chunk = all.slice(at, at + CHUNK);
      const outcomes = await Promise.all(chunk.map((one) => tellAgent(this.#parts, plan.state.assignment, one)));
      for (const [place, outcome] of outcomes.entries()) {
        if (outcome.kind === 'blocked') blocked.set(chunk[place]!.record.agentId, outcome.reason);
        else told = true;
      }
      // What was decided is overtaken: the rest is too.
      if (outcomes.some(({ kind }) => kind === 'overtaken')) break;
    }
    this.#warn(plan.state.assignment.name, blocked);
    return { blocked, told };
  }

  /** Once for each agent and reason: they are tried with every turn. */
  #warn(name: string, blocked: ReadonlyMap<string, string>): void {
    const before = this.#blocked.get(name);
    for (const [agentId, reason] of blocked) {
      if (before?.get(agentId) === reason) continue;
      this.#parts.log.warn('agent of an assignment not told', { agentId, name, reason });
    }
    if (blocked.size > 0) this.#blocked.set(name, blocked);
    else this.#blocked.delete(name);
  }

  async #finish({ state: { assignment } }: AssignmentPlan, records: readonly AssignedAgentRecord[]): Promise<false> {
    const { name, removing, revision } = assignment;
    if (!removing || records.some(({ delivery }) => delivery !== undefined)) return false;
    if (await this.#parts.store.assignments.delete(name, revision)) {
      this.#forget(name);
      this.#publish(name);
    }
    return false;
  }

  #publish(assignment: string): void {
    this.#parts.bus.publish(assignmentsTopic, { assignment });
  }

  #forget(name: string): void {
    this.#agents.forget(name);
    this.#dueAtMs.delete(name);
    this.#restUntil.delete(name);
    this.#blocked.delete(name);
  }

  async #attempt(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await this.#turns.run(what, TURN_LIMIT_MS, work);
    } catch (error) {
      this.#parts.log.error(`${what}: failed; tried again`, { err: describeError(error) });
    }
  }

  /** Until something is noted, an assignment was driven or is due, or everything is to be looked at. */
  async #pause(recheckAtMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    let limitMs = recheckAtMs - clock.monotonic();
    for (const atMs of this.#dueAtMs.values()) limitMs = Math.min(limitMs, atMs - clock.now());
    if (this.#running.size < CONCURRENCY) {
      for (const name of this.#dirty) {
        if (this.#running.has(name)) continue;
        limitMs = Math.min(limitMs, (this.#restUntil.get(name) ?? 0) - clock.monotonic());
      }
    }
    if (this.#dirtyAgents.size > 0 || limitMs <= 0) return;
    const over = new AbortController();
    const wake = (): void => over.abort();
    this.#wake = wake;
    signal.addEventListener('abort', wake, { once: true });
    if (signal.aborted) wake();
    await clock.sleep(limitMs, over.signal).catch(() => undefined);
    signal.removeEventListener('abort', wake);
    this.#wake = undefined;
  }
}
