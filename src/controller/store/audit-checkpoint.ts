// Signed heads of the agents' audit chains, kept where the agent's host can't reach them.
import type { Page, PageQuery } from './page.ts';

/** A checkpoint as stored. Times are milliseconds since the epoch. */
export interface AuditCheckpointRecord {
  readonly agentId: string;
  readonly chainId: string;
  readonly sequence: number;
  /** SHA-256. */
  readonly head: Uint8Array;
  readonly signedAtMs: number;
  readonly storedAtMs: number;
  readonly publicKey: Uint8Array;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
}

/** Checkpoints are added, never changed. Two heads for one sequence are both kept: that is evidence. */
export interface AuditCheckpointRepository {
  /** `conflict` if another head is stored for the same chain and sequence; it is stored all the same. */
  add(record: AuditCheckpointRecord): Promise<'stored' | 'known' | 'conflict'>;
  /** Newest first, by time of storing. */
  list(agentId: string, page: PageQuery): Promise<Page<AuditCheckpointRecord>>;
  /**
   * Deletes up to `limit` checkpoints stored before `beforeMs`, but never the newest of a chain, nor one of two heads for
   * one sequence. How many.
   */
  deleteOld(beforeMs: number, limit: number): Promise<number>;
}
