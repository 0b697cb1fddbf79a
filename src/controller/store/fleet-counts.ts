// How much there is of everything, for figures. Exact at the moment that it was counted.

/** A number by name. */
export type Counts = Readonly<Record<string, number>>;

/** How many of a desired state's kind stand where. */
export interface StateCounts {
  /** As DesiredStateKind. */
  readonly kind: number;
  readonly wanted: number;
  /** The agent has not reported the generation that is wanted. */
  readonly pending: number;
  /** The agent refused the generation that is wanted. */
  readonly refused: number;
}

/** How much there is. Times are milliseconds since the epoch. */
export interface FleetCounts {
  /** By the number of AgentState. */
  readonly agents: Counts;
  /** Those that are not over, by state. */
  readonly commands: Counts;
  /** Those that are not over, by the number of JobState. */
  readonly jobs: Counts;
  /** By the number of SessionState. */
  readonly sessions: Counts;
  readonly states: readonly StateCounts[];
  readonly programs: number;
  readonly assignments: number;
  readonly rollouts: readonly { readonly phase: string; readonly paused: boolean; readonly count: number }[];
  readonly meshes: number;
  readonly members: number;
  /** Those that go on, by step. */
  readonly rotations: Counts;
  readonly oldestRotationAtMs: number | undefined;
  readonly oldestUnsentAtMs: number | undefined;
}

/** Counts. */
export interface FleetCountRepository {
  /** Takes time in proportion to agents, sessions and what is under way: not for every request. */
  count(): Promise<FleetCounts>;
}
