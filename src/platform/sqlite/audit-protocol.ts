// What goes between the audit store and its worker thread.

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

/** Store to worker; answered in order, one by one. */
export type AuditRequest =
  /** Opens the file, making it if needed. Answered with the ChainHead. */
  | { readonly kind: 'open'; readonly path: string; readonly newChainId: string; readonly publicKey: Uint8Array }
  /** Appends all or none, durably. Answered with the new ChainHead. */
  | { readonly kind: 'append'; readonly rows: readonly AuditRow[] }
  /** Stores a checkpoint. Answered with null. */
  | { readonly kind: 'checkpoint'; readonly row: CheckpointRow }
  /** Marks checkpoints up to a sequence as held by the controller. Answered with null. */
  | { readonly kind: 'acknowledge'; readonly sequence: number }
  /** Answered with the newest checkpoints that aren't acknowledged, oldest first. */
  | { readonly kind: 'unacknowledged'; readonly limit: number }
  /** Answered with the last stored checkpoint's sequence; 0 for none. */
  | { readonly kind: 'last_checkpoint' }
  /** Closes the file and ends the thread. Answered with null. */
  | { readonly kind: 'close' };

/** Worker to store. */
export type AuditReply =
  | { readonly ok: true; readonly value: unknown }
  /** `code` is SQLite's primary result code; 0 if the fault isn't SQLite's. */
  | { readonly ok: false; readonly message: string; readonly code: number };
