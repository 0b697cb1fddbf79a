// What agents are to bring about and keep, by agent and kind. The store counts generations and keeps bodies; what is in them it
// doesn't know.

/** What is wanted of one agent, without its body. */
export interface DesiredStateHead {
  readonly agentId: string;
  /** Number of longline.link.v1.DesiredStateKind. */
  readonly kind: number;
  /** From 1; grows with every change. */
  readonly generation: bigint;
  /** First 16 bytes of the SHA-256 of the body. */
  readonly digest: Uint8Array;
  /** Milliseconds since the epoch. */
  readonly changedAtMs: number;
  /** What the agent refused last, unless it has applied that generation or a later one since. */
  readonly refusal: StateRefusal | undefined;
}

/** What is wanted of one agent. */
export interface DesiredStateRecord extends DesiredStateHead {
  /** Full state, serialised in canonical form. */
  readonly body: Uint8Array;
  /** W3C trace context of the latest change; empty if none. */
  readonly traceparent: string;
}

/** A state by generation and digest. */
export interface StateId {
  readonly generation: bigint;
  readonly digest: Uint8Array;
}

/** A generation that an agent refused whole. */
export interface StateRefusal {
  readonly generation: bigint;
  /** Serialised longline.v1.Error. */
  readonly error: Uint8Array;
  readonly atMs: number;
}

/** A next generation. */
export interface DesiredStateUpdate {
  readonly agentId: string;
  readonly kind: number;
  /** Generation that it was made from; 0 if there was none. */
  readonly expected: bigint;
  readonly body: Uint8Array;
  readonly digest: Uint8Array;
  /** Delta that leads back to the generation before; undefined if it isn't worth keeping. */
  readonly undo: Uint8Array | undefined;
  readonly nowMs: number;
  /** W3C trace context of the change; undefined or empty if none. */
  readonly traceparent?: string;
}

/** What became of a next generation. */
export type PutStateOutcome =
  | { readonly kind: 'stored'; readonly generation: bigint }
  /** Somebody else was quicker. Nothing was stored. */
  | { readonly kind: 'moved' }
  /** There is no such agent. Nothing was stored. */
  | { readonly kind: 'missing' };

/** Which desired states to list: of one kind, ordered by agent. */
export interface DesiredStateQuery {
  readonly kind: number;
  /** Only agents whose ids come after this one. */
  readonly afterAgentId: string;
  readonly limit: number;
}

/** Desired states. They go with their agent. */
export interface DesiredStateRepository {
  get(agentId: string, kind: number): Promise<DesiredStateRecord | undefined>;
  /** All kinds of one agent. */
  heads(agentId: string): Promise<readonly DesiredStateHead[]>;
  list(query: DesiredStateQuery): Promise<readonly DesiredStateRecord[]>;
  put(update: DesiredStateUpdate): Promise<PutStateOutcome>;
  /**
   * Gives what is wanted a generation above `held`, which an agent has from elsewhere, and forgets what led to it; so do
   * the networks or programs in it get that generation. Nothing is done if it has one already, or is what is held.
   */
  raise(agentId: string, kind: number, held: StateId): Promise<void>;
  /** Deltas that lead back from the latest generation to `to`, in that order; undefined if not all are known. */
  undos(agentId: string, kind: number, to: bigint): Promise<readonly Uint8Array[] | undefined>;
  /** Notes that an agent refused a generation. Nothing is done if that was never wanted of it, or a later one was refused. */
  refused(agentId: string, kind: number, refusal: StateRefusal): Promise<void>;
  /** Notes that an agent has applied a generation: a refusal of it or an earlier one is forgotten. */
  applied(agentId: string, kind: number, generation: bigint): Promise<void>;
}
