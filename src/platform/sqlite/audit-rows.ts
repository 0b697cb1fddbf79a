// What the audit file takes and gives.

/** Values of one record in the order of INSERT_RECORD, without sequence and hash. */
export type AuditRow = readonly [
  timeMs: number,
  event: string,
  commandId: string,
  controllerId: string,
  keyId: string,
  capability: string,
  outcome: string,
  rule: string,
  summary: string,
];

/** A checkpoint as stored. */
export interface CheckpointRow {
  readonly sequence: number;
  readonly timeMs: number;
  readonly head: Uint8Array;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
}

/** The end of the chain. */
export interface ChainHead {
  readonly chainId: string;
  /** 0 for an empty chain. */
  readonly sequence: number;
  readonly hash: Uint8Array;
}
