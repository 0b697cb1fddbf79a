// Sessions as the controller knows them: what was asked for, by whom and where, what the agent last said, and the latest
// action. What an agent says wins over what was concluded here; of what it says, the newest by generation and revision.
import type { SessionState, SessionStatus, SessionVerb } from '#gen/longline/v1/session_pb.js';
import type { AgentSelector, Labels } from './agent.ts';
import type { Page, PageQuery } from './page.ts';

/** A session as stored. Times are milliseconds since the epoch. */
export interface SessionRecord {
  readonly id: string;
  /** Counts the lives of this id from 1. */
  readonly generation: number;
  readonly agentId: string;
  /** Serialised SessionSpec without passwords. */
  readonly spec: Uint8Array;
  readonly specHash: Uint8Array;
  /** Empty if it was made from none. */
  readonly template: string;
  readonly templateVersion: number;
  readonly owner: string;
  readonly labels: Labels;
  readonly creator: string;
  readonly requestId: string;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly state: SessionState;
  /** Serialised SessionStatus; undefined before the first. */
  readonly status: Uint8Array | undefined;
  /** Id of the latest command; empty for a session that this controller didn't start. */
  readonly operationId: string;
  /** Grows with every change here. */
  readonly revision: number;
}

/** Log id of a session's output: one per generation, with an attempt for each start. */
export function sessionLogId(sessionId: string, generation: number): string {
  return `${sessionId}.${generation}`;
}

/** What a session takes up on its host. */
export interface SessionNeeds {
  readonly cpus: number;
  readonly memoryBytes: number;
}

/** A command for one session. */
export interface SessionCommand {
  /** UUIDv7. */
  readonly id: string;
  readonly verb: SessionVerb;
  /** Serialised SignedPayload. */
  readonly statement: Uint8Array;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly creator: string;
  /** The client's idempotency key; empty if none. */
  readonly requestId: string;
  /** SHA-256 of the request's content: tells a repetition from another request. */
  readonly contentHash: Uint8Array;
  readonly traceparent: string;
  readonly tracestate: string;
}

/** A session to be started: stored with its command or not at all. */
export interface SessionStart extends SessionNeeds {
  readonly session: Pick<
    SessionRecord,
    'id' | 'generation' | 'agentId' | 'spec' | 'specHash' | 'template' | 'templateVersion' | 'owner' | 'labels'
  >;
  readonly command: SessionCommand;
}

/** An action on a session that is there. */
export interface SessionAct {
  readonly sessionId: string;
  /** Life that is meant; another one refuses the action. */
  readonly generation: number;
  readonly command: SessionCommand;
  /** True to send it even if the session has ended: to remove what it left. */
  readonly afterEnd: boolean;
}

/** What became of a start or an action. */
export type SessionOutcome =
  /** The command is stored. `superseded` was asked to stop. */
  | { readonly kind: 'stored' }
  /** The request id was used before. Nothing was stored. */
  | { readonly kind: 'repeated'; readonly sessionId: string; readonly sameContent: boolean }
  /** For a start: the id lives. Nothing was stored. */
  | { readonly kind: 'alive'; readonly session: SessionRecord }
  /** The generation isn't the one that was meant: something happened in between. Nothing was stored. */
  | { readonly kind: 'moved'; readonly session: SessionRecord | undefined }
  /** The same action is under way already, or the session has ended as asked. Nothing was stored. */
  | { readonly kind: 'unchanged' }
  /** It has ended: there is nothing to act on. */
  | { readonly kind: 'ended'; readonly session: SessionRecord }
  /** Another action is under way. Nothing was stored. */
  | { readonly kind: 'busy'; readonly session: SessionRecord; readonly verb: SessionVerb }
  /** The agent takes no commands (any more). Nothing was stored. */
  | { readonly kind: 'refused'; readonly agentId: string; readonly why: 'missing' | 'revoked' | 'drained' };

/** Which sessions to list. */
export interface SessionQuery extends PageQuery {
  /** Empty for all. */
  readonly agentId: string;
  readonly states: readonly SessionState[];
  readonly matchLabels: Labels;
  readonly owner: string;
  readonly template: string;
  readonly sessionIds: readonly string[];
  /** True to leave out those that have ended or failed. */
  readonly live: boolean;
}

/** What an agent said of its sessions. */
export interface SessionReport {
  readonly agentId: string;
  readonly statuses: readonly SessionStatus[];
  /** True if these are all that it knows. */
  readonly full: boolean;
  readonly nowMs: number;
}

/** What placement needs to know of an agent. */
export interface SessionCandidate {
  readonly id: string;
  readonly online: boolean;
  readonly drained: boolean;
  readonly revoked: boolean;
  /** True if the sessions capability is on; undefined before the first facts. */
  readonly offersSessions: boolean | undefined;
  /** What it may hold; 0 where it isn't known. */
  readonly max: SessionNeeds & { readonly sessions: number };
  /** What its sessions take up, as far as this controller knows. */
  readonly held: SessionNeeds & { readonly sessions: number };
}

/** A session that was forgotten. */
export interface ForgottenSession {
  readonly id: string;
  readonly generation: number;
}

/** Sessions, newest first. */
export interface SessionRepository {
  start(start: SessionStart): Promise<SessionOutcome>;
  act(act: SessionAct): Promise<SessionOutcome>;
  get(sessionId: string): Promise<SessionRecord | undefined>;
  list(query: SessionQuery): Promise<Page<SessionRecord>>;
  /** Session for which a request id was used. */
  findRequest(requestId: string): Promise<{ readonly sessionId: string; readonly hash: Uint8Array } | undefined>;
  /**
   * Stores what is newer than what is known. A live session that is unknown here is taken in. With a full report, live
   * sessions of the agent that are missing have failed as lost, unless their start is under way. Ids that changed.
   */
  report(report: SessionReport): Promise<readonly string[]>;
  /** Every agent that matches, in whatever state. */
  candidates(selector: AgentSelector): Promise<readonly SessionCandidate[]>;
  /** Deletes up to `limit` sessions that ended before `beforeMs`, with their commands. */
  deleteEnded(beforeMs: number, limit: number): Promise<readonly ForgottenSession[]>;
  /** Forgets request ids used before `beforeMs`. */
  forgetRequests(beforeMs: number): Promise<void>;
}
