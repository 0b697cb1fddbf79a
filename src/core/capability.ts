// What a capability is: one noun that an agent can act on (jobs, sessions, network, programs, workloads).
// The agent owns the link, the journal, identity and policy; a capability sees only what stands here.
// A capability fails by ending its events with a result that carries an error, never by taking the agent down.
import type { Clock } from './clock.ts';
import type { LonglineError } from './errors.ts';
import type { Logger } from './logger.ts';

/** Small durable facts of one capability. A write is on disk when its promise resolves. */
export interface StateStore {
  get(key: string): Promise<Uint8Array | undefined>;
  put(key: string, value: Uint8Array): Promise<void>;
  delete(key: string): Promise<void>;
  /** All keys that start with `prefix`, in order. */
  list(prefix: string): Promise<readonly string[]>;
}

/** Something that happened outside any command; becomes a longline.v1.HostEvent. */
export interface HostEvent {
  readonly type: string;
  readonly message: string;
  readonly attributes?: Readonly<Record<string, string>>;
}

/** What the agent gives to a capability. */
export interface CapabilityHost {
  readonly log: Logger;
  readonly clock: Clock;
  readonly state: StateStore;
  /** Aborts when the agent shuts down. */
  readonly signal: AbortSignal;
  emit(event: HostEvent): void;
}

/** A command that was checked (identity, policy, expiry). */
export interface CapabilityCommand {
  /** Stable id; also the log id of its output. */
  readonly id: string;
  /** Serialised action message of the capability, for example longline.v1.JobAction. */
  readonly action: Uint8Array;
  /** When it was received, milliseconds since the epoch. */
  readonly receivedAtMs: number;
  /** Not started after this, milliseconds since the epoch. */
  readonly expiresAtMs: number;
  /** W3C trace context; empty if none. */
  readonly traceparent: string;
}

/** How a command is being carried out. */
export interface CommandContext {
  /** Aborts when the command is cancelled; its reason is a LonglineError with reason `cancelled`. */
  readonly signal: AbortSignal;
  /** True if an earlier process may have begun it: probe the world first, never do it twice. */
  readonly resumed: boolean;
  /**
   * Resolves once the command and its admission are durable, or the record that it is resumed; rejects if they can't be: then
   * it must not be begun, while what was begun before is seen through. Undefined means that they are. Only a capability that is
   * `Anticipating` is called before.
   */
  readonly durable?: Promise<void>;
}

/** How a command ended; the names are those of longline.link.v1.Outcome. */
export type Outcome = 'succeeded' | 'failed' | 'cancelled' | 'timed_out' | 'indeterminate';

/** What a capability says while it carries out a command. The last one is the result. */
export type CapabilityEvent =
  /** A step; may be coalesced with later ones. `detail` is the capability's serialised progress message. */
  | { readonly kind: 'progress'; readonly detail: Uint8Array }
  /** The end. `detail` is the capability's serialised result message. */
  | {
      readonly kind: 'result';
      readonly outcome: Outcome;
      readonly detail: Uint8Array;
      readonly error?: LonglineError;
    };

/** Whether a capability can be used on this host. */
export type Availability =
  /** Commands are accepted. */
  | {
      readonly available: true;
      readonly limits: Readonly<Record<string, number>>;
      readonly attributes: Readonly<Record<string, string>>;
    }
  /** Commands are refused with `reason`; `mend` tells an operator what to do. */
  | { readonly available: false; readonly reason: string; readonly mend: string };

/** One noun. Made by the composition root with its ports; opened once; disposed once or more. */
export interface Capability {
  /** "jobs", "sessions", …: the slot of longline.v1.Action, in the plural. */
  readonly name: string;
  /** Prepares and probes. May be called again after it said unavailable. Must not disturb what runs. */
  open(host: CapabilityHost): Promise<Availability>;
  /** Carries out a command. The iterable ends with exactly one result and does not throw. */
  handle(command: CapabilityCommand, context: CommandContext): AsyncIterable<CapabilityEvent>;
  /** Lets go of everything without disturbing what runs outside the process. May be called twice. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** A capability whose effects outlive the process. */
export interface Recoverable {
  /**
   * Called once after open and before any command, with the ids of all commands the journal holds as unfinished.
   * Removes what is ours and belongs to none of them. The unfinished ones then come to `handle` with resumed = true.
   */
  adopt(unfinishedIds: ReadonlySet<string>): Promise<void>;
}

/**
 * A capability that prepares for a command while that is still on its way to the disk. It waits for `context.durable`
 * before anything that could be seen outside of this process or that is not undone by itself.
 */
export interface Anticipating {
  readonly anticipates: true;
}

/** What a capability says of how it is. */
export interface CapabilityHealth {
  readonly ok: boolean;
  /** For people: what is wrong, or how it is. */
  readonly detail: string;
  /** If not ok: true if it works all the same, though less well. */
  readonly works?: boolean;
  /** If not ok, for people: what to do. */
  readonly mend?: string;
}

/** A capability that can say whether it works. */
export interface HealthChecked {
  health(): Promise<CapabilityHealth>;
}

/** A capability that streams input into a running command. */
export interface InputConsumer {
  /**
   * Takes input bytes of a command. Bytes below what was taken already are ignored. Resolves with the total taken once
   * they were handed to the process, and `closed` true if no more is wanted.
   */
  writeInput(
    commandId: string,
    offset: number,
    data: Uint8Array,
    end: boolean,
  ): Promise<{ readonly taken: number; readonly closed: boolean }>;
}
