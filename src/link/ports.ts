// What the link needs from the agent that owns it. The link moves and keeps commands, results and output; it decides
// nothing about identity, policy or meaning.
import type { Command, DesiredState, OpenTunnel } from '#gen/longline/link/v1/link_pb.js';
import type { AgentFacts, AgentUsage } from '#gen/longline/v1/agent_pb.js';
import type { SessionStatus } from '#gen/longline/v1/session_pb.js';
import type { CapabilityCommand, CapabilityEvent, CommandContext } from '../core/capability.ts';
import type { StateChange, StateContext, StateKind, StateObservation, StateRef } from '../core/desired-state.ts';
import type { LonglineError } from '../core/errors.ts';
import type { TunnelStream } from '../core/tunnel/tunnel-frame.ts';

/** A command that may be carried out. */
export interface AdmittedCommand {
  /** Name of the capability that is to carry it out. */
  readonly capability: string;
  /** Serialised action message of that capability. */
  readonly action: Uint8Array;
  /** Kept until `nonceExpiresAtMs` in the same journal record as the command, so that a replay is refused for good. */
  readonly nonce: Uint8Array;
  readonly nonceExpiresAtMs: number;
  /** Resolves once the audit record is durable, before which nothing may be done; rejects if it can't be kept. */
  readonly recorded: Promise<void>;
}

/** Decides whether a command may be carried out. */
export interface CommandAdmission {
  /**
   * Checks signature, audience, times, policy and spec. `nonceSeen` tells whether a nonce was used by another command.
   * Throws a LonglineError to refuse; the refusal travels as Rejected and is final, and is on the audit record by then.
   */
  admit(command: Command, nonceSeen: (nonce: Uint8Array) => boolean): Promise<AdmittedCommand>;
  /** The link itself refused a command (bad id, expired, other epoch, no room): for the audit record. Must not throw. */
  refused(command: Command, error: LonglineError): void;
}

/** Carries out admitted commands. */
export interface CommandExecutor {
  /** As Capability.handle; unknown capabilities end with a failed result, never a throw. */
  execute(capability: string, command: CapabilityCommand, context: CommandContext): AsyncIterable<CapabilityEvent>;
  /** Takes standard input for a running command. */
  writeInput(
    commandId: string,
    offset: number,
    data: Uint8Array,
    end: boolean,
  ): Promise<{ readonly taken: number; readonly closed: boolean }>;
}

/** A desired state as it came, with a body of its kind. */
export interface ReceivedState {
  readonly kind: StateKind;
  readonly state: DesiredState;
  /** Bytes of the body as they were sent. */
  readonly body: Uint8Array;
}

/** A desired state that may be brought about. */
export interface AdmittedState {
  /** Kept until `nonceExpiresAtMs`, before anything is done; empty for a state without a statement. */
  readonly nonce: Uint8Array;
  readonly nonceExpiresAtMs: number;
}

/** Decides whether a desired state may be brought about. */
export interface StateAdmission {
  /**
   * Checks the statement, if there is one, and policy. `nonceSeen` tells whether a nonce was used by anything else. The verdict
   * is on the audit record when it resolves, or throws a LonglineError to refuse.
   */
  admit(received: ReceivedState, nonceSeen: (nonce: Uint8Array) => boolean): Promise<AdmittedState>;
  /** It was refused by the link or by its capability: for the audit record. Must not throw. */
  refused(received: ReceivedState, error: LonglineError): void;
  /** It is durable here, and is being brought about: for the audit record. Must not throw. */
  taken(received: ReceivedState): void;
}

/** What keeps desired states on this host. */
export interface StateHost {
  /** Durable states by kind, also of a capability that can't be used now. */
  held(): ReadonlyMap<StateKind, StateRef>;
  /** Why a kind can't be brought about now, as `unsupported`; undefined if it can. */
  obstacle(kind: StateKind): LonglineError | undefined;
  /** As Reconciler.applyState. */
  apply(kind: StateKind, change: StateChange, context: StateContext): Promise<void>;
  /** Called once, before anything else. The observer is quick and doesn't throw. */
  observe(observer: (kind: StateKind, observation: StateObservation) => void): void;
}

/** What the link tells the controller about this host. */
export interface HostReport {
  facts(): AgentFacts;
  usage(): Promise<AgentUsage>;
  /** Every session that this host knows; undefined as long as it can't tell. Cheap: asked for each report. */
  sessions?(): readonly SessionStatus[] | undefined;
}

/** Where to dial and with which identity. Read anew for every connection, so that renewals take effect. */
export interface LinkTarget {
  /** "https://host:port"; http:// only with an API key. */
  readonly url: string;
  readonly agentId: string;
  readonly instanceId: string;
  readonly bootId: string;
  readonly leaderEpoch: bigint;
  readonly credentials:
    | {
        readonly kind: 'certificate';
        /** PEM. */
        readonly certificateChain: string;
        readonly privateKey: string;
        readonly trustedCertificates: string;
      }
    | { readonly kind: 'api_key'; readonly apiKey: string; readonly trustedCertificates: string | undefined };
}

/** Gives the target for the next connection and hears how it went. */
export interface TargetSource {
  current(): Promise<LinkTarget>;
  /** A connection with this target completed its handshake: candidate credentials are proven. */
  proven(target: LinkTarget): void;
}

/** Something that was reached for a tunnel. */
export interface TunnelTarget extends AsyncDisposable {
  /** True if a session was woken for it. */
  readonly woken: boolean;
  /** Moves bytes until both directions have ended; throws what broke. Called once. */
  run(tunnel: TunnelStream): Promise<void>;
}

/** What tunnels can reach on this host. */
export interface TunnelTargets {
  /** Judges, wakes and connects. Throws a LonglineError to refuse, or for what stands in the way; the controller hears it. */
  reach(ask: OpenTunnel, signal: AbortSignal): Promise<TunnelTarget>;
}
