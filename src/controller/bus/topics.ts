// The topics of the controller and who speaks on them.
import type { Topic } from './bus.ts';

/** To whoever holds an agent's control stream. */
export type AgentSignal =
  /** New commands are stored. */
  | { readonly kind: 'commands' }
  /** Cancels are stored, and perhaps new commands. */
  | { readonly kind: 'cancels' }
  /** Desired states are stored. */
  | { readonly kind: 'desired_states' }
  /** A tunnel is wanted: send this serialised OpenTunnel. */
  | { readonly kind: 'open_tunnel'; readonly message: Uint8Array }
  /** The agent was revoked, or one replica of it (empty for all): end its streams. */
  | { readonly kind: 'revoked'; readonly instanceId: string }
  /** There is a newer stream of this agent, of a leader with this epoch, in decimal digits; streams of earlier epochs are over. */
  | { readonly kind: 'replaced'; readonly connectionId: string; readonly leaderEpoch: string };

/** To whoever holds an agent's log stream: standard input of an execution. May be repeated. */
export type InputSignal = {
  readonly executionId: string;
  readonly offset: number;
  readonly data: Uint8Array;
  readonly end: boolean;
};

/** How far standard input of an execution got. */
export type InputState = {
  /** Bytes accepted in all. */
  readonly accepted: number;
  /** True once the end was accepted too. */
  readonly ended: boolean;
  /** True if no more is wanted. */
  readonly closed: boolean;
};

/** Something of an agent changed: record, labels, connection or load. */
export type AgentChange = {
  readonly agentId: string;
};

/** An agent told an event, and it is stored. */
export type EventStored = {
  readonly agentId: string;
};

/** An execution of a job changed. */
export type JobChange = {
  /** Empty if it may be any of them. */
  readonly commandId: string;
};

/** A session or its latest command changed. */
export type SessionChange = {
  readonly sessionId: string;
};

/** What is wanted of an agent changed, or what it said of that. */
export type DesiredStateChange = {
  readonly agentId: string;
  /** Number of longline.link.v1.DesiredStateKind. */
  readonly stateKind: number;
};

/** A network of an agent changed, or what is known of it. */
export type NetworkChange = {
  readonly agentId: string;
  /** Empty if it may be any of them. */
  readonly name: string;
};

/** A program of an agent changed, or what is known of it, figures included. */
export type ProgramChange = {
  readonly agentId: string;
  /** Empty if it may be any of them. */
  readonly name: string;
};

/** A mesh changed, or how far its members are. */
export type MeshChanged = {
  readonly mesh: string;
};

/** An assignment of a program changed, or its rollout. */
export type AssignmentChanged = {
  readonly assignment: string;
};

/** A log grew or was closed. */
export type LogChange = {
  readonly closed: boolean;
};

export const agentTopic = (agentId: string): Topic<AgentSignal> => ({ name: `agent/${agentId}` });
export const agentInputTopic = (agentId: string): Topic<InputSignal> => ({ name: `agent-input/${agentId}` });
export const inputStateTopic = (executionId: string): Topic<InputState> => ({ name: `input-state/${executionId}` });
export const fleetTopic: Topic<AgentChange> = { name: 'fleet' };
export const eventsTopic: Topic<EventStored> = { name: 'events' };
export const jobTopic = (jobId: string): Topic<JobChange> => ({ name: `job/${jobId}` });
export const sessionsTopic: Topic<SessionChange> = { name: 'sessions' };
export const sessionTopic = (sessionId: string): Topic<SessionChange> => ({ name: `session/${sessionId}` });
export const desiredStatesTopic: Topic<DesiredStateChange> = { name: 'desired-states' };
export const logTopic = (logId: string): Topic<LogChange> => ({ name: `log/${logId}` });
export const networksTopic: Topic<NetworkChange> = { name: 'networks' };
export const programsTopic: Topic<ProgramChange> = { name: 'programs' };
export const assignmentsTopic: Topic<AssignmentChanged> = { name: 'assignments' };
export const meshesTopic: Topic<MeshChanged> = { name: 'meshes' };
