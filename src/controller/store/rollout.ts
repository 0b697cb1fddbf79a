// Assignments of programs, rollouts of their changes, and what agents were told of them. An assignment changes as a whole:
// whoever changes it says which revision it read, and is refused if there is a newer one by now. Telling an agent is tied to
// the revision too, so that nobody tells what was decided before the last change.
import type { AgentSelector, Labels } from './agent.ts';
import type { Page, PageQuery } from './page.ts';
import type { ProgramCommit } from './program.ts';

/** An assignment. Times are milliseconds since the epoch. */
export interface AssignmentRecord {
  /** Also that of the program on each agent. */
  readonly name: string;
  /** Serialised ProgramAssignment as it is asked for, complete and canonical. */
  readonly asked: Uint8Array;
  /** What holds apart from a rollout that is under way, in the same form; undefined for nothing. */
  readonly settled: Uint8Array | undefined;
  /** Grows with every change of it or of its rollout. */
  readonly revision: number;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly removing: boolean;
  /** Its latest rollout. */
  readonly rolloutId: string;
}

/** Where a rollout is. */
export type RolloutPhase =
  /** Agents of a wave bring the change about. */
  | 'running'
  /** They have, and are watched. */
  | 'watching'
  /** Somebody has to say that the next wave begins. */
  | 'waiting'
  /** Too many failed, and everything stays as it is until somebody decides. */
  | 'halted'
  /** Agents get back what they had before. */
  | 'rolling_back'
  | RolloutEnd;

/** How a rollout ended. */
export type RolloutEnd = 'done' | 'rolled_back' | 'superseded';

/** A change of an assignment on its way over the fleet. */
export interface RolloutRecord {
  /** UUIDv7: the order of ids is that of beginning. */
  readonly id: string;
  readonly assignment: string;
  /** Serialised ProgramAssignment that it brings about. */
  readonly asked: Uint8Array;
  /** The one that held before; undefined for none. */
  readonly before: Uint8Array | undefined;
  readonly phase: RolloutPhase;
  /** No further wave begins, whatever the phase. */
  readonly paused: boolean;
  readonly reason: string;
  /** Under way, from 1. */
  readonly wave: number;
  readonly waves: number;
  /** When the phase began. */
  readonly phaseAtMs: number;
  readonly startedAtMs: number;
  /** Undefined while it goes on. */
  readonly endedAtMs: number | undefined;
}

/** How an agent fares in a rollout: as RolloutAgentState, in lower case. */
export type RolloutAgentStep = 'waiting' | 'updating' | 'current' | 'failed' | 'offline' | 'reverted';

/** An agent of a rollout. */
export interface RolloutAgentRecord {
  readonly agentId: string;
  /** From 1. */
  readonly wave: number;
  readonly step: RolloutAgentStep;
  /** Why it failed; kept when it is reverted. */
  readonly reason: string;
  /** When it was told last. */
  readonly sinceMs: number;
  /** Rollback of the program that was known then: another one came of what it was told. Empty for none. */
  readonly rollbackId: string;
}

/** How an agent comes to a program. */
export type Delivery = 'push' | 'poll';

/** What an agent was told of an assignment. */
export interface DeliveryRecord {
  readonly assignment: string;
  readonly agentId: string;
  /** Serialised ProgramSpec in canonical form; undefined if the program was taken away. */
  readonly spec: Uint8Array | undefined;
  /** Digest of its artifact; empty if the program was taken away. */
  readonly artifact: string;
  readonly delivery: Delivery;
  readonly atMs: number;
}

/** An assignment with its rollout under way: one moment of it. */
export interface AssignmentState {
  readonly assignment: AssignmentRecord;
  /** Undefined if none is under way. */
  readonly rollout: RolloutRecord | undefined;
  /** Of the rollout, ordered by id. */
  readonly agents: readonly RolloutAgentRecord[];
}

/** A ProgramAssignment to store. */
export interface AskedAssignment {
  /** Serialised, complete and canonical. */
  readonly bytes: Uint8Array;
  /** Digest of its artifact. */
  readonly artifact: string;
}

/** A change of an assignment. What is left out stays. */
export interface AssignmentChange {
  readonly name: string;
  /** Revision that was read; 0 if there must be no such assignment. */
  readonly baseRevision: number;
  readonly nowMs: number;
  readonly asked?: AskedAssignment;
  readonly settled?: AskedAssignment;
  readonly removing?: boolean;
  /** Makes a rollout, or changes one. The one with the greatest id is the latest. */
  readonly putRollouts?: readonly RolloutRecord[];
  /** Of the latest rollout. */
  readonly putAgents?: readonly RolloutAgentRecord[];
  readonly removedAgents?: readonly string[];
}

/** What became of a change. */
export type AssignmentOutcome =
  | { readonly kind: 'stored'; readonly revision: number }
  /** There is a newer revision than was read. Nothing was stored. */
  | { readonly kind: 'conflict' }
  /** The artifact that is asked for isn't stored. Nothing was stored. */
  | { readonly kind: 'no_artifact'; readonly digest: string };

/** Something to tell an agent: what is wanted of it, and that it was told, in one transaction. */
export interface DeliveryCommit {
  /** Revision of the assignment that it was decided by. */
  readonly baseRevision: number;
  readonly delivery: DeliveryRecord;
  /** Undefined if the agent's desired state stays. */
  readonly programs: ProgramCommit | undefined;
}

/** What became of it. */
export type DeliveryOutcome =
  | { readonly kind: 'stored' }
  /** Somebody else changed what is wanted of the agent. Nothing was stored. */
  | { readonly kind: 'moved' }
  /** There is no such agent. Nothing was stored. */
  | { readonly kind: 'missing' }
  /** The artifact isn't stored. Nothing was stored. */
  | { readonly kind: 'no_artifact'; readonly digest: string }
  /** The assignment has another revision. Nothing was stored. */
  | { readonly kind: 'conflict' };

/** What is known of an agent that an assignment has to do with. */
export interface AssignedAgentRecord {
  readonly agentId: string;
  /** False if there is no such agent any more, or it was revoked. */
  readonly valid: boolean;
  readonly online: boolean;
  /** When it came last; undefined if it never did. */
  readonly connectedAtMs: number | undefined;
  readonly labels: Labels;
  readonly delivery: DeliveryRecord | undefined;
  /** The program of this assignment in the agent's desired state, also while it is being removed. */
  readonly program: { readonly generation: bigint; readonly removing: boolean } | undefined;
  /** Latest report on its programs; undefined before the first. */
  readonly report: { readonly generation: bigint; readonly bytes: Uint8Array } | undefined;
  /** What it refused last, as in DesiredStateHead. */
  readonly refusal: { readonly generation: bigint; readonly error: Uint8Array } | undefined;
}

/** How many agents of a rollout are how. */
export interface RolloutCounts {
  readonly all: number;
  readonly current: number;
  /** Those included that were reverted since. */
  readonly failed: number;
  readonly offline: number;
}

/** A rollout and how its agents fare. */
export interface RolloutSummary {
  readonly rollout: RolloutRecord;
  readonly counts: RolloutCounts;
}

/** Assignments, ordered by name. */
export interface AssignmentRepository {
  get(name: string): Promise<AssignmentState | undefined>;
  list(page: PageQuery): Promise<Page<AssignmentRecord>>;
  commit(change: AssignmentChange): Promise<AssignmentOutcome>;
  /** Forgets an assignment that no agent was told anything of any more, with its rollouts. False if it has another revision. */
  delete(name: string, baseRevision: number): Promise<boolean>;
  /** Of agents that one of the selectors picks, that are in the rollout under way, or were told something. */
  agents(name: string, selectors: readonly AgentSelector[]): Promise<readonly AssignedAgentRecord[]>;

  tell(commit: DeliveryCommit): Promise<DeliveryOutcome>;
  /** Forgets that a program was taken from agents, unless they were told something since. */
  forget(taken: readonly DeliveryRecord[]): Promise<void>;
  /** What an agent was told, ordered by assignment. */
  ofAgent(agentId: string): Promise<readonly DeliveryRecord[]>;
  /** An agent that has a program of this name by itself; undefined if none has. */
  agentWithOwn(name: string): Promise<string | undefined>;

  rollout(id: string): Promise<RolloutSummary | undefined>;
  /** At most `limit`, failed ones first. */
  rolloutAgents(id: string, limit: number): Promise<readonly RolloutAgentRecord[]>;
  /** Newest first; of all assignments if the name is empty. */
  listRollouts(query: PageQuery & { readonly assignment: string }): Promise<Page<RolloutSummary>>;
  /** Forgets rollouts that ended before, but for the latest of each assignment. How many. */
  deleteEndedRollouts(beforeMs: number, limit: number): Promise<number>;
}
