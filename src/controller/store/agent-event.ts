// What happened on hosts outside any command. The newest of each agent are kept.
import type { Page, PageQuery } from './page.ts';

/** An event to store. */
export interface NewAgentEvent {
  readonly agentId: string;
  /** Serialised longline.v1.HostEvent. */
  readonly event: Uint8Array;
  /** Milliseconds since the epoch. */
  readonly storedAtMs: number;
}

/** An event as stored. */
export interface AgentEventRecord extends NewAgentEvent {
  /** Grows with every event; never given twice. */
  readonly number: number;
}

/** Events are added, never changed. */
export interface AgentEventRepository {
  /** Stores an event and forgets the oldest of its agent beyond `keep`. */
  add(event: NewAgentEvent, keep: number): Promise<void>;
  /** Newest first; of all agents if `agentId` is empty. */
  list(agentId: string, page: PageQuery): Promise<Page<AgentEventRecord>>;
  /** Those with a greater number, oldest first. */
  after(agentId: string, number: number, limit: number): Promise<readonly AgentEventRecord[]>;
  /** Number of the newest event of all agents; 0 if there is none. */
  last(): Promise<number>;
}
