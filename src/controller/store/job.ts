// Jobs: what was asked for, by whom, and how it stands over all executions. One job has one command per agent.
import type { JobState } from '#gen/longline/v1/job_pb.js';
import type { Labels } from './agent.ts';
import type { Page, PageQuery } from './page.ts';

/** A job as stored. Times are milliseconds since the epoch. */
export interface JobRecord {
  /** UUIDv7. */
  readonly id: string;
  /** Serialised JobSpec, for display: what is carried out is the statement of each command. */
  readonly spec: Uint8Array;
  /** Serialised JobTarget. */
  readonly target: Uint8Array;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly creator: string;
  readonly requestId: string;
  readonly labels: Labels;
  /** Rolled up over the executions, see job-state.ts. */
  readonly state: JobState;
}

/** A command to be stored with its job. */
export interface NewCommand {
  /** UUIDv7. */
  readonly id: string;
  readonly agentId: string;
  /** Index into `statements` of the submission. */
  readonly statement: number;
}

/** A job and its commands: stored together or not at all. */
export interface JobSubmission {
  readonly job: Omit<JobRecord, 'state'>;
  /** SHA-256 of the request's content, compared when the request id comes again. */
  readonly requestHash: Uint8Array;
  /** Serialised SignedPayloads. */
  readonly statements: readonly Uint8Array[];
  readonly commands: readonly NewCommand[];
  readonly traceparent: string;
  readonly tracestate: string;
}

/** What became of a submission. */
export type SubmitOutcome =
  /** Stored; every command has its seq. */
  | { readonly kind: 'stored' }
  /** The request id was used before. Nothing was stored. */
  | { readonly kind: 'repeated'; readonly jobId: string; readonly sameContent: boolean }
  /** An agent takes no commands (any more). Nothing was stored. */
  | { readonly kind: 'refused'; readonly agentId: string; readonly why: 'missing' | 'revoked' | 'drained' };

/** Which jobs to list. */
export interface JobQuery extends PageQuery {
  /** Empty for all. */
  readonly agentId: string;
  /** Empty for all. */
  readonly states: readonly JobState[];
  readonly matchLabels: Labels;
  readonly sinceMs: number | undefined;
}

/** What of a request was stored before. */
export interface StoredRequest {
  readonly jobId: string;
  readonly hash: Uint8Array;
}

/** Jobs, newest first. */
export interface JobRepository {
  submit(submission: JobSubmission): Promise<SubmitOutcome>;
  get(jobId: string): Promise<JobRecord | undefined>;
  list(query: JobQuery): Promise<Page<JobRecord>>;
  findRequest(requestId: string): Promise<StoredRequest | undefined>;
  /** Deletes up to `limit` ended jobs created before `beforeMs`, with commands and statements; their logs are doomed then. How many. */
  deleteEnded(beforeMs: number, limit: number): Promise<number>;
  /** As `deleteEnded`, for the oldest of the ended jobs as long as there are more than `most` jobs in all. How many. */
  deleteBeyond(most: number, limit: number): Promise<number>;
  /**
   * Ids of logs whose job or session is deleted and that nobody has said to be gone: written down in the transaction that
   * deletes, so that a crash between the two leaves no log behind.
   */
  doomedLogs(limit: number): Promise<readonly string[]>;
  /** These logs are gone. */
  logsGone(logIds: readonly string[]): Promise<void>;
  /** Forgets request ids used before `beforeMs`. */
  forgetRequests(beforeMs: number): Promise<void>;
}
