// Networks of agents, as far as they are not in their desired states: whose they are, and since when they are as they are.
import type { DesiredStateUpdate, PutStateOutcome } from './desired-state.ts';
import type { Page, PageQuery } from './page.ts';

/** A network. Its spec is in the agent's desired state, unless it is being removed. Times are milliseconds since the epoch. */
export interface NetworkRecord {
  readonly agentId: string;
  readonly name: string;
  /** Empty if it was put by itself. */
  readonly mesh: string;
  readonly interface: string;
  /** SHA-256 of the spec, serialised in canonical form. */
  readonly specHash: Uint8Array;
  /** Generation of the agent's desired state that last changed it. */
  readonly generation: bigint;
  readonly updatedAtMs: number;
  /** It is no longer in the desired state. */
  readonly removing: boolean;
}

/** A change of an agent's networks: of its desired state, and of what is noted of those that changed, in one transaction. */
export interface NetworkCommit {
  readonly state: DesiredStateUpdate;
  /** Their generation is the one that is stored with them. */
  readonly networks: readonly Omit<NetworkRecord, 'agentId' | 'generation' | 'updatedAtMs'>[];
}

/** Which networks; empty texts for all. */
export interface NetworkConditions {
  readonly agentId: string;
  readonly mesh: string;
  readonly name: string;
}

/** What is known of the agent of one member of a mesh, and of its network there. */
export interface MemberFactsRecord {
  readonly agentId: string;
  /** False if there is no such agent any more, or it was revoked. */
  readonly valid: boolean;
  readonly online: boolean;
  /** Undefined if it has none, nor one that is being removed; one of its own with the same name is none. */
  readonly network: NetworkRecord | undefined;
  /** Latest report on its networks; undefined before the first. */
  readonly report: { readonly generation: bigint; readonly bytes: Uint8Array } | undefined;
  /** What it refused last, as in DesiredStateHead. */
  readonly refusal: { readonly generation: bigint; readonly error: Uint8Array } | undefined;
}

/** Networks, ordered by agent and name. They go with their agent. */
export interface NetworkRepository {
  get(agentId: string, name: string): Promise<NetworkRecord | undefined>;
  ofAgent(agentId: string): Promise<readonly NetworkRecord[]>;
  list(query: NetworkConditions & PageQuery): Promise<Page<NetworkRecord>>;
  commit(commit: NetworkCommit): Promise<PutStateOutcome>;
  /** Forgets networks that are being removed, of this generation or before; which. */
  forget(agentId: string, names: readonly string[], generation: bigint): Promise<readonly string[]>;
  /** Agents with networks that are being removed, or are of a mesh that the agent is no member of; at most `limit`. */
  agentsWithLeftovers(limit: number): Promise<readonly string[]>;
  /** Of each member of a mesh. */
  memberFacts(mesh: string): Promise<readonly MemberFactsRecord[]>;
}
