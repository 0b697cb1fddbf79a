// Agents as the controller knows them: connection, facts, labels, drain and revocation. Credentials are identity's.
import type { AgentState } from '#gen/longline/v1/agent_pb.js';
import type { Page, PageQuery } from './page.ts';

/** Labels by key. */
export type Labels = Readonly<Record<string, string>>;

/** Picks agents; all conditions must hold, an empty one picks all. */
export interface AgentSelector {
  readonly matchLabels: Labels;
  readonly hasLabels: readonly string[];
  readonly agentIds: readonly string[];
}

/** Load of a host, as it was last reported. */
export interface AgentLoad {
  readonly runningJobs: number;
  readonly queuedJobs: number;
  /** 0 if it isn't known. */
  readonly maxJobs: number;
  /** Undefined if it says nothing of sessions. */
  readonly sessions?: SessionRoom | undefined;
}

/** Most that a host's sessions may take up; 0 where it isn't known. */
export interface SessionRoom {
  readonly maxSessions: number;
  readonly maxCpus: number;
  readonly maxMemoryBytes: number;
}

/** An agent as stored. Times are milliseconds since the epoch. */
export interface AgentRecord {
  readonly id: string;
  readonly state: AgentState;
  /** The agent's own labels overlaid with the assigned ones. */
  readonly labels: Labels;
  readonly assignedLabels: Labels;
  /** Serialised AgentFacts; undefined before the first connection. */
  readonly facts: Uint8Array | undefined;
  readonly factsDigest: Uint8Array | undefined;
  /** Serialised AgentUsage; undefined before the first heartbeat. */
  readonly usage: Uint8Array | undefined;
  readonly instanceId: string;
  readonly bootId: string;
  readonly leaderEpoch: bigint;
  /** Live control stream; empty if there is none. */
  readonly connectionId: string;
  /** Controller replica that holds the stream; empty if there is none. */
  readonly replicaId: string;
  readonly enrolledAtMs: number;
  readonly connectedAtMs: number | undefined;
  readonly seenAtMs: number | undefined;
  readonly certificateExpiresAtMs: number | undefined;
  readonly roundTripMs: number | undefined;
  /** Undefined if it isn't drained. */
  readonly drainReason: string | undefined;
  readonly revoked: boolean;
  readonly revokeReason: string;
}

/** What placement needs to know of an agent. */
export interface AgentCandidate extends Omit<AgentLoad, 'sessions'> {
  readonly id: string;
  readonly online: boolean;
  readonly drained: boolean;
  readonly revoked: boolean;
  /** True if the jobs capability is on; undefined before the first facts. */
  readonly offersJobs: boolean | undefined;
  /** Commands of any kind that haven't ended. */
  readonly openCommands: number;
}

/** A control stream that said Hello. */
export interface AgentConnection {
  readonly agentId: string;
  readonly connectionId: string;
  readonly replicaId: string;
  readonly instanceId: string;
  readonly bootId: string;
  readonly leaderEpoch: bigint;
  /** As the agent sent it; empty at the first connection. */
  readonly presentedToken: Uint8Array;
  /** To be presented next time. */
  readonly sessionToken: Uint8Array;
  readonly nowMs: number;
  /** A stream of another process counts as dead if nothing was heard from it since. */
  readonly aliveSinceMs: number;
}

/** Whether a control stream may be served. */
export type ConnectOutcome =
  /** It is now the agent's stream. `previous` is the record before; undefined if the agent was unknown. */
  | { readonly kind: 'connected'; readonly resumed: boolean; readonly previous: AgentRecord | undefined }
  /** Its credentials were revoked. */
  | { readonly kind: 'revoked' }
  /** A replica with this leader epoch was seen, and it is newer, or the same and another's. */
  | { readonly kind: 'fenced'; readonly newestEpoch: bigint }
  /** Another process of the same epoch holds a live stream: of another instance, or of a copy of this one's data folder. */
  | { readonly kind: 'occupied'; readonly instanceId: string };

/** Sign of life of a live stream. */
export interface AgentSighting {
  readonly agentId: string;
  readonly connectionId: string;
  readonly seenAtMs: number;
  readonly roundTripMs: number | undefined;
  /** Undefined leaves the stored usage. */
  readonly usage: { readonly bytes: Uint8Array; readonly load: AgentLoad } | undefined;
}

/** What an agent said about itself. */
export interface AgentFactsUpdate {
  readonly agentId: string;
  readonly facts: Uint8Array;
  readonly digest: Uint8Array;
  readonly labels: Labels;
  readonly offersJobs: boolean;
  /** Most jobs at once; 0 if it isn't told. */
  readonly maxJobs: number;
  readonly offersSessions: boolean;
  readonly sessions: SessionRoom;
}

/** What became of an agent that was to be forgotten. */
export type DeleteOutcome =
  /** It is gone; these jobs and sessions changed by it. */
  | { readonly kind: 'deleted'; readonly jobIds: readonly string[]; readonly sessionIds: readonly string[] }
  /** There is no such agent. */
  | { readonly kind: 'missing' }
  /** It has a live stream. Nothing was changed. */
  | { readonly kind: 'online' };

/** Which agents to list. */
export interface AgentQuery extends PageQuery {
  readonly selector: AgentSelector;
  /** Empty for all. */
  readonly states: readonly AgentState[];
}

/** Agents, ordered by id. */
export interface AgentRepository {
  get(agentId: string): Promise<AgentRecord | undefined>;
  list(query: AgentQuery): Promise<Page<AgentRecord>>;
  /** Every agent that matches, in whatever state. */
  candidates(selector: AgentSelector): Promise<readonly AgentCandidate[]>;
  /** Makes a stream the agent's own, or says why not. Creates an unknown agent. */
  connect(connection: AgentConnection): Promise<ConnectOutcome>;
  /** Ends a connection; false if the agent's stream is another one by now. */
  disconnect(agentId: string, connectionId: string, atMs: number): Promise<boolean>;
  /** Ends every connection that a replica left behind when it died. Ids of the agents. */
  releaseReplica(replicaId: string, atMs: number): Promise<readonly string[]>;
  /** Notes signs of life; those of streams that are no longer current are dropped. */
  sight(sightings: readonly AgentSighting[]): Promise<void>;
  putFacts(update: AgentFactsUpdate): Promise<void>;
  /** Sets and removes assigned labels. Undefined if there is no such agent. */
  assignLabels(agentId: string, set: Labels, remove: readonly string[]): Promise<AgentRecord | undefined>;
  /** Drains with a reason, or ends the drain with undefined. Undefined if there is no such agent. */
  setDrain(agentId: string, reason: string | undefined): Promise<AgentRecord | undefined>;
  /** Revokes record and identity for good. Undefined if there is no such agent. */
  revoke(agentId: string, reason: string): Promise<AgentRecord | undefined>;
  /**
   * Forgets an agent without a live stream, with its identity. Its commands that haven't ended end: cancelled if never
   * sent, indeterminate else.
   */
  delete(agentId: string, atMs: number): Promise<DeleteOutcome>;
}
