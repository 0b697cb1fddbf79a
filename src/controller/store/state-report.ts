// What agents last said about the desired states they keep. Latest wins per agent and kind.

/** A report as stored. */
export interface StateReportRecord {
  readonly agentId: string;
  /** Number of longline.link.v1.DesiredStateKind. */
  readonly kind: number;
  readonly generation: bigint;
  /** Serialised StateReport. */
  readonly report: Uint8Array;
  readonly storedAtMs: number;
}

/** The latest report per agent and kind. */
export interface StateReportRepository {
  put(record: StateReportRecord): Promise<void>;
  get(agentId: string, kind: number): Promise<StateReportRecord | undefined>;
}
