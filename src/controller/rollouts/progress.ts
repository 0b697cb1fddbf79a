// What becomes of a rollout by what agents say and as time goes by: agents become current or fail, waves begin, it is halted,
// goes back, ends. Looks at one moment of it and gives the change to store, or none, and when to look again; what agents are told
// follows from what is stored. Pure.
import { durationMs } from '@bufbuild/protobuf/wkt';
import type { RolloutStrategy } from '#gen/longline/fleet/v1/program_service_pb.js';
import type {
  AskedAssignment,
  AssignedAgentRecord,
  AssignmentChange,
  RolloutAgentRecord,
  RolloutPhase,
  RolloutRecord,
} from '../store/rollout.ts';
import type { Standing } from './agent-standing.ts';
import { type AssignmentPlan, isForward } from './target.ts';

/** What is known of one agent. */
export interface AgentFacts extends Pick<AssignedAgentRecord, 'valid' | 'online' | 'connectedAtMs'> {
  /** With what is wanted of it now. */
  readonly standing: Standing;
  /** The last rollback of the program that it told of; empty for none. */
  readonly rollbackId: string;
}

/** What of a change is decided here. */
export type RolloutProgress = Pick<AssignmentChange, 'settled' | 'putRollouts' | 'putAgents' | 'removedAgents'>;

/** What there is to do. */
export interface Outlook {
  /** The next change; undefined if there is none to make now. */
  readonly change: RolloutProgress | undefined;
  /** When time alone may bring another one; undefined if it doesn't. */
  readonly lookAgainAtMs: number | undefined;
}

/** Characters of a reason that are kept. */
const MAX_REASON = 1024;

/** When it is looked at. Milliseconds since the epoch. */
export interface Moment {
  readonly nowMs: number;
  /** For how long agents could come and be heard without a gap: what went by before is no time that anybody had. */
  readonly heardForMs: number;
}

/** Looks at a rollout that is under way. Facts are of all its agents that are known. */
export function outlookOf(plan: AssignmentPlan, facts: ReadonlyMap<string, AgentFacts>, moment: Moment): Outlook {
  const { rollout } = plan.state;
  if (rollout === undefined) return { change: undefined, lookAgainAtMs: undefined };
  return new Pass(plan, rollout, facts, moment).result();
}

/** A rollout that goes back from here on: who was told the change is told what it had before. */
export function goingBack(
  rollout: RolloutRecord,
  agents: readonly RolloutAgentRecord[],
  reason: string,
  nowMs: number,
): { readonly rollout: RolloutRecord; readonly agents: readonly RolloutAgentRecord[] } {
  return {
    rollout: { ...rollout, phase: 'rolling_back', paused: false, reason: cut(reason), phaseAtMs: nowMs },
    agents: agents.map((agent) => {
      return { ...agent, step: agent.wave <= rollout.wave ? 'updating' : 'reverted', sinceMs: nowMs };
    }),
  };
}

/** A rollout whose wave of this number begins. */
export function beginWave(
  rollout: RolloutRecord,
  agents: readonly RolloutAgentRecord[],
  wave: number,
  rollbackOf: (agentId: string) => string,
  nowMs: number,
): { readonly rollout: RolloutRecord; readonly agents: readonly RolloutAgentRecord[] } {
  return {
    rollout: { ...rollout, phase: 'running', paused: false, reason: '', wave, phaseAtMs: nowMs },
    agents: agents
      .filter((agent) => agent.wave === wave)
      .map((agent) => ({ ...agent, step: 'updating', sinceMs: nowMs, rollbackId: rollbackOf(agent.agentId) })),
  };
}

/** An ended rollout. */
export function ended(rollout: RolloutRecord, phase: RolloutPhase, reason: string, nowMs: number): RolloutRecord {
  return { ...rollout, phase, paused: false, reason: cut(reason), phaseAtMs: nowMs, endedAtMs: nowMs };
}

function cut(text: string): string {
  return text.length <= MAX_REASON ? text : `${text.slice(0, MAX_REASON - 1)}…`;
}

class Pass {
  readonly #plan: AssignmentPlan;
  readonly #facts: ReadonlyMap<string, AgentFacts>;
  readonly #nowMs: number;
  readonly #heardSinceMs: number;
  readonly #strategy: RolloutStrategy;
  readonly #timeoutMs: number;
  readonly #agents: Map<string, RolloutAgentRecord>;
  readonly #changed = new Map<string, RolloutAgentRecord>();
  readonly #removed: string[] = [];
  #rollout: RolloutRecord;
  #settled: AskedAssignment | undefined;
  #againAtMs: number | undefined;

  constructor(
    plan: AssignmentPlan,
    rollout: RolloutRecord,
    facts: ReadonlyMap<string, AgentFacts>,
    { heardForMs, nowMs }: Moment,
  ) {
    this.#plan = plan;
    this.#facts = facts;
    this.#nowMs = nowMs;
    this.#heardSinceMs = nowMs - heardForMs;
    this.#strategy = plan.asked.asked.strategy!;
    this.#timeoutMs = durationMs(this.#strategy.waveTimeout!);
    this.#agents = new Map(plan.state.agents.map((agent) => [agent.agentId, agent]));
    // A clock that was put back must not have everybody wait until it is there again.
    this.#rollout = rollout.phaseAtMs > nowMs ? { ...rollout, phaseAtMs: nowMs } : rollout;
  }

  result(): Outlook {
    for (const agent of [...this.#agents.values()]) this.#look(agent);
    if (isForward(this.#rollout.phase)) this.#goOn();
    else this.#goBack();
    const putAgents = [...this.#changed.values()];
    const some =
      this.#rollout !== this.#plan.state.rollout || putAgents.length + this.#removed.length > 0
        ? {
            putRollouts: [this.#rollout],
            putAgents,
            removedAgents: this.#removed,
            ...(this.#settled === undefined ? {} : { settled: this.#settled }),
          }
        : undefined;
    return { change: some, lookAgainAtMs: some === undefined ? this.#againAtMs : this.#nowMs };
  }

  /** How one agent fares. */
  #look(before: RolloutAgentRecord): void {
    const facts = this.#facts.get(before.agentId);
    if (facts === undefined || !facts.valid) {
      // One that failed counts also when it is gone.
      if (before.step === 'failed') return;
      this.#agents.delete(before.agentId);
      this.#removed.push(before.agentId);
      return;
    }
    const { phase, wave } = this.#rollout;
    if (before.wave > wave || before.step === 'reverted') return;
    const agent = before.sinceMs > this.#nowMs ? { ...before, sinceMs: this.#nowMs } : before;
    const after = isForward(phase) ? this.#forward(agent, facts) : this.#back(agent, facts);
    if (after !== before) this.#put(after);
  }

  #forward(agent: RolloutAgentRecord, facts: AgentFacts): RolloutAgentRecord {
    const { standing } = facts;
    switch (standing.kind) {
      case 'current':
        return agent.step === 'current' ? agent : { ...agent, step: 'current', reason: '' };
      case 'failed':
        return failedWith(agent, standing.reason);
      case 'pending':
        return this.#overdue(agent, facts, 'it did not become active');
    }
  }

  #back(agent: RolloutAgentRecord, facts: AgentFacts): RolloutAgentRecord {
    if (agent.step !== 'updating') return agent;
    const { standing } = facts;
    if (standing.kind === 'current') return { ...agent, step: 'reverted' };
    if (standing.kind === 'failed') return failedWith(agent, `what it had before is not back: ${standing.reason}`);
    return this.#overdue(agent, facts, 'what it had before is not back');
  }

  /** One that says nothing: it is waited for as long as it may take, and not at all if it isn't there. */
  #overdue(agent: RolloutAgentRecord, facts: AgentFacts, what: string): RolloutAgentRecord {
    if (agent.step !== 'updating' && agent.step !== 'offline') return agent;
    const dueAtMs = Math.max(agent.sinceMs, this.#heardSinceMs) + this.#timeoutMs;
    // Who came late has its full time from then on, but nobody waits for that.
    const { connectedAtMs = 0 } = facts;
    const ownAtMs = connectedAtMs > this.#nowMs ? dueAtMs : Math.max(dueAtMs, connectedAtMs + this.#timeoutMs);
    if (facts.online && this.#nowMs >= ownAtMs) {
      return failedWith(agent, `${what} within ${this.#timeoutMs / 1000} s`);
    }
    if (agent.step === 'updating' && this.#nowMs >= dueAtMs) return { ...agent, step: 'offline' };
    if (agent.step === 'updating') this.#again(dueAtMs);
    else if (facts.online) this.#again(ownAtMs);
    return agent;
  }

  #goOn(): void {
    const begun = [...this.#agents.values()].filter(({ wave }) => wave <= this.#rollout.wave);
    if (this.#rollout.phase === 'halted') return;
    const halt = this.#tooMany(begun);
    if (halt !== undefined) this.#halt(halt);
    else if (this.#rollout.phase === 'running') {
      if (begun.some(({ step }) => step === 'updating')) return;
      this.#enter('watching');
    } else if (this.#rollout.phase === 'watching') this.#watched();
  }

  #tooMany(begun: readonly RolloutAgentRecord[]): string | undefined {
    const reached = begun.filter(({ step }) => step !== 'offline').length;
    const failed = begun.filter(({ step }) => step === 'failed');
    const most = this.#strategy.maxFailedPercent;
    const [first] = failed;
    if (first === undefined || failed.length * 100 <= most * reached) return undefined;
    const allowed = most === 0 ? 'none may' : `at most ${most} % may`;
    const count = `${failed.length} of ${reached} agents reached so far failed, and ${allowed}`;
    return `${count}; ${first.agentId}: ${first.reason}`;
  }

  #halt(reason: string): void {
    if (this.#strategy.keepOnHalt) {
      this.#enter('halted');
      this.#rollout = { ...this.#rollout, paused: false, reason: cut(reason) };
      return;
    }
    const back = goingBack(this.#rollout, [...this.#agents.values()], reason, this.#nowMs);
    this.#rollout = back.rollout;
    for (const agent of back.agents) this.#put(agent);
  }

  #watched(): void {
    const { paused, phaseAtMs, wave, waves } = this.#rollout;
    const watchedMs = this.#agents.size === 0 ? 0 : durationMs(this.#strategy.pause!);
    const overAtMs = Math.max(phaseAtMs, watchedMs === 0 ? 0 : this.#heardSinceMs) + watchedMs;
    if (paused) return;
    if (this.#nowMs < overAtMs) this.#again(overAtMs);
    else if (wave >= waves) {
      this.#rollout = ended(this.#rollout, 'done', '', this.#nowMs);
      const { asked, state } = this.#plan;
      this.#settled = { bytes: state.assignment.asked, artifact: asked.wanted.spec.artifact };
    } else if (this.#strategy.manual) this.#enter('waiting');
    else {
      const rollbackOf = (agentId: string) => this.#facts.get(agentId)?.rollbackId ?? '';
      const next = beginWave(this.#rollout, [...this.#agents.values()], wave + 1, rollbackOf, this.#nowMs);
      this.#rollout = next.rollout;
      for (const agent of next.agents) this.#put(agent);
    }
  }

  #goBack(): void {
    const agents = [...this.#agents.values()];
    if (agents.some(({ step }) => step === 'updating')) return;
    this.#rollout = ended(this.#rollout, 'rolled_back', this.#rollout.reason, this.#nowMs);
  }

  #enter(phase: RolloutPhase): void {
    this.#rollout = { ...this.#rollout, phase, phaseAtMs: this.#nowMs };
  }

  #again(atMs: number): void {
    this.#againAtMs = Math.min(this.#againAtMs ?? Number.POSITIVE_INFINITY, atMs);
  }

  #put(agent: RolloutAgentRecord): void {
    this.#agents.set(agent.agentId, agent);
    this.#changed.set(agent.agentId, agent);
  }
}

function failedWith(agent: RolloutAgentRecord, reason: string): RolloutAgentRecord {
  if (agent.step === 'failed' && agent.reason !== '') return agent;
  return { ...agent, step: 'failed', reason: cut(agent.reason === '' ? reason : `${agent.reason}; ${reason}`) };
}
