// Programs of agents, as far as they are not in their desired states: whose they are, and since when they are as they are; what
// agents told of rollbacks; and commands about programs.
import type { DesiredStateUpdate, PutStateOutcome } from './desired-state.ts';
import type { Page, PageQuery } from './page.ts';

/** A program. Its spec is in the agent's desired state, unless it is being removed. Times are milliseconds since the epoch. */
export interface ProgramRecord {
  readonly agentId: string;
  readonly name: string;
  /** Empty if it was put by itself. */
  readonly assignment: string;
  /** Digest of the artifact that it wants. */
  readonly artifact: string;
  /** SHA-256 of the spec, serialised in canonical form. */
  readonly specHash: Uint8Array;
  /** Generation of the agent's desired state that last changed it. */
  readonly generation: bigint;
  readonly updatedAtMs: number;
  /** It is no longer in the desired state. */
  readonly removing: boolean;
}

/** A change of an agent's programs: of its desired state, and of what is noted of those that changed, in one transaction. */
export interface ProgramCommit {
  readonly state: DesiredStateUpdate;
  /** Their generation is the one that is stored with them. */
  readonly programs: readonly Omit<ProgramRecord, 'agentId' | 'generation' | 'updatedAtMs'>[];
}

/** What became of a change. */
export type ProgramCommitOutcome =
  | PutStateOutcome
  /** An artifact that is wanted isn't stored (any more). Nothing was stored. */
  | { readonly kind: 'no_artifact'; readonly digest: string };

/** Which programs; empty texts for all. */
export interface ProgramConditions {
  readonly agentId: string;
  readonly name: string;
  readonly assignment: string;
}

/** Programs, ordered by agent and name. They go with their agent. */
export interface ProgramRepository {
  get(agentId: string, name: string): Promise<ProgramRecord | undefined>;
  ofAgent(agentId: string): Promise<readonly ProgramRecord[]>;
  list(query: ProgramConditions & PageQuery): Promise<Page<ProgramRecord>>;
  commit(commit: ProgramCommit): Promise<ProgramCommitOutcome>;
  /** Forgets programs that are being removed, of this generation or before; which. */
  forget(agentId: string, names: readonly string[], generation: bigint): Promise<readonly string[]>;
  /** Agents that have programs, or told of any, from this id on, in order; at most `limit`. */
  agents(fromAgentId: string, limit: number): Promise<readonly string[]>;
  /** Agents with programs that are being removed, after this id, in order; at most `limit`. */
  agentsRemoving(afterAgentId: string, limit: number): Promise<readonly string[]>;
}

/** A rollback that an agent told of. */
export interface RollbackRecord {
  readonly agentId: string;
  /** As the agent gave it: unique for that agent. */
  readonly id: string;
  /** Name of the program. */
  readonly program: string;
  /** As the agent says; never later than when it was stored. Milliseconds since the epoch. */
  readonly atMs: number;
  /** Serialised longline.v1.ProgramRollback. */
  readonly rollback: Uint8Array;
}

/** Rollbacks. They go with their agent. */
export interface RollbackRepository {
  /** Stores those that aren't known by agent and id; how many. Beyond `keep` of one agent the oldest go. */
  add(rollbacks: readonly RollbackRecord[], keep: number): Promise<number>;
  /** Newest first. Empty texts give all. */
  list(query: { readonly agentId: string; readonly name: string } & PageQuery): Promise<Page<RollbackRecord>>;
}

/** A command about programs of one agent. */
export interface ProgramCommand {
  /** UUIDv7. */
  readonly id: string;
  readonly agentId: string;
  /** Serialised SignedPayload. */
  readonly statement: Uint8Array;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly creator: string;
  readonly traceparent: string;
  readonly tracestate: string;
}

/** What became of a command that was to be stored. */
export type ProgramCommandOutcome =
  | { readonly kind: 'stored' }
  /** The agent takes no commands (any more). Nothing was stored. */
  | { readonly kind: 'refused'; readonly agentId: string; readonly why: 'missing' | 'revoked' | 'drained' };

/** Commands about programs; how they end is in CommandRepository. */
export interface ProgramCommandRepository {
  /** Stores a command for delivery; of those of its agent that ended the latest few are kept. */
  submit(command: ProgramCommand): Promise<ProgramCommandOutcome>;
}
