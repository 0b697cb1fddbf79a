// Commands: what an agent is to do once. A command is stored with a seq that grows by one per agent and is then moved
// forward only: stored → sent → received → ended or rejected. A result that the controller had to guess (expired,
// agent replaced) gives way to what the agent says later; what an agent said is final.
import type { JobState } from '#gen/longline/v1/job_pb.js';
import type { SessionVerb } from '#gen/longline/v1/session_pb.js';
import type { Page, PageQuery } from './page.ts';

/** Where a command stands. */
export type CommandState =
  /** Never given to a stream: can be cancelled or expired here alone. */
  | 'stored'
  /** Given to a stream at least once: the agent may have it. */
  | 'sent'
  /** Durable on the agent. */
  | 'received'
  /** A result is stored. */
  | 'ended'
  /** The agent refused it; nothing was done. */
  | 'rejected';

/** A command as stored. Times are milliseconds since the epoch. */
export interface CommandRecord {
  readonly id: string;
  readonly agentId: string;
  readonly seq: number;
  /** The command's own id if it is one of a session or about programs. */
  readonly jobId: string;
  /** Empty if it is one of a job. */
  readonly sessionId: string;
  /** 0 for a job. */
  readonly verb: SessionVerb;
  /** Who asked for it; kept for those of sessions only. */
  readonly creator: string;
  readonly state: CommandState;
  /** How far it is; for one of a session in the same terms. */
  readonly jobState: JobState;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly receivedAtMs: number | undefined;
  readonly endedAtMs: number | undefined;
  /** Serialised JobProgress or SessionProgress, the latest; undefined before the first. */
  readonly progress: Uint8Array | undefined;
  /** Serialised JobResult, SessionResult, or link Result if it is one about programs; undefined until it ended. */
  readonly result: Uint8Array | undefined;
  /** Undefined if no cancel was asked for. */
  readonly cancelReason: string | undefined;
  /** Grows with every change of this command. */
  readonly version: number;
}

/** A command to be put on a stream. */
export interface ClaimedCommand {
  readonly id: string;
  readonly seq: number;
  /** Serialised SignedPayload. */
  readonly statement: Uint8Array;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly traceparent: string;
  readonly tracestate: string;
}

/** A change that others may wait for. */
export interface CommandChange {
  readonly commandId: string;
  readonly jobId: string;
  /** Empty if it is one of a job. */
  readonly sessionId: string;
  readonly agentId: string;
}

/** What an agent said in Hello about its commands. */
export interface AgentResume {
  readonly agentId: string;
  readonly lastCommandSeq: number;
  readonly inFlightIds: readonly string[];
  readonly pendingResultIds: readonly string[];
  /** False if instance or boot changed since the last connection: then the lists are the whole truth. */
  readonly sameBoot: boolean;
  readonly nowMs: number;
}

/** How the store and an agent differ. */
export interface ResumeOutcome {
  /** What changed in the store. */
  readonly changes: readonly CommandChange[];
  /** Commands the agent confirmed once and doesn't name any more. Nothing was changed: Hello may be an old one. */
  readonly missingIds: readonly string[];
}

/** A step of a command; latest wins. */
export interface ProgressUpdate {
  readonly commandId: string;
  readonly agentId: string;
  readonly number: number;
  /** Serialised JobProgress or SessionProgress. */
  readonly progress: Uint8Array;
  /** Undefined leaves the state as it is. */
  readonly jobState: JobState | undefined;
}

/** The end of a command, as its agent gave it. */
export interface ResultUpdate {
  readonly commandId: string;
  readonly agentId: string;
  readonly rejected: boolean;
  readonly jobState: JobState;
  /** Serialised JobResult, stored if it is a command of a job. */
  readonly result: Uint8Array;
  /** Serialised SessionResult, stored if it is a command of a session. */
  readonly sessionResult: Uint8Array;
  /** Serialised longline.link.v1.Result, stored if it is a command about programs. */
  readonly programResult: Uint8Array;
  readonly nowMs: number;
}

/** What became of a cancel request. */
export type CancelOutcome =
  /** It was never sent: ended here. */
  | { readonly kind: 'cancelled'; readonly change: CommandChange }
  /** The agent has to be told. */
  | { readonly kind: 'requested'; readonly change: CommandChange }
  /** It had ended, or was asked to before. */
  | { readonly kind: 'unchanged' };

/** A wish to stop a command that may be on the agent. */
export interface PendingCancel {
  readonly commandId: string;
  readonly seq: number;
  readonly received: boolean;
  readonly reason: string;
}

/** A range of one agent's commands to be put on a stream. */
export interface ClaimQuery {
  readonly agentId: string;
  /** Commands up to this seq are on the stream already. */
  readonly afterSeq: number;
  readonly limit: number;
  readonly nowMs: number;
}

/** Commands and their results. */
export interface CommandRepository {
  get(commandId: string): Promise<CommandRecord | undefined>;
  /** Executions of a job, oldest first. */
  listByJob(jobId: string, page: PageQuery): Promise<Page<CommandRecord>>;
  /** Number of executions. */
  countByJob(jobId: string): Promise<number>;
  /** Executions of a job changed after the version map was taken are found by comparing; this gives id and version only. */
  versions(jobId: string): Promise<ReadonlyMap<string, number>>;
  /**
   * Takes the next commands of an agent that it hasn't confirmed, by seq, and marks them as sent. Those that expired
   * are left to `expire`.
   */
  claim(query: ClaimQuery): Promise<readonly ClaimedCommand[]>;
  /** Takes over what an agent says it has, at connect. */
  resume(resume: AgentResume): Promise<ResumeOutcome>;
  /** Ends those of an agent's confirmed commands as lost that haven't ended: it may or may not have run them. What changed. */
  lose(commandIds: readonly string[], agentId: string, nowMs: number): Promise<readonly CommandChange[]>;
  /** The agent has it. Undefined if it isn't this agent's command, or nothing changed. */
  received(commandId: string, agentId: string, nowMs: number): Promise<CommandChange | undefined>;
  progress(update: ProgressUpdate): Promise<CommandChange | undefined>;
  /** Stores the agent's result. Undefined if it isn't this agent's command, or an agent's result is stored already. */
  result(update: ResultUpdate): Promise<CommandChange | undefined>;
  requestCancel(commandId: string, reason: string, nowMs: number): Promise<CancelOutcome>;
  /** Cancels that the agent has to hear of, by seq. */
  pendingCancels(agentId: string): Promise<readonly PendingCancel[]>;
  /** Ends up to `limit` commands that expired: unsent ones at `nowMs`, sent ones `graceMs` later. What changed. */
  expire(nowMs: number, graceMs: number, limit: number): Promise<readonly CommandChange[]>;
}
