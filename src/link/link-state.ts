// What can be said of the link at any moment.

/** Where the link stands. */
export type LinkState =
  /** A connection is being made: TCP, TLS, HTTP/2 settings. */
  | { readonly kind: 'connecting' }
  /** Hello is sent and Welcome awaited. */
  | { readonly kind: 'handshaking' }
  /** Welcome came; commands, results and output flow. */
  | { readonly kind: 'open'; readonly controllerId: string; readonly sinceMs: number }
  /** The controller wants this connection closed; it serves until a new one is open. */
  | { readonly kind: 'draining'; readonly reason: string }
  /** The last connection failed for `reason`; the next try is at `untilMs`. */
  | { readonly kind: 'backing_off'; readonly reason: string; readonly untilMs: number }
  /** Not connected, and not trying: not started yet, or stopped. */
  | { readonly kind: 'closed'; readonly reason: string };

/** The link's figures, for status pages and metrics. */
export interface LinkStatus {
  readonly state: LinkState;
  /** How long it has not been open, since it was started or lost; undefined while it is, or before. */
  readonly awayMs: number | undefined;
  /** Last measured round trip of a heartbeat; undefined before the first. */
  readonly roundTripMs: number | undefined;
  /** Controller's clock minus ours at the last Welcome. */
  readonly clockSkewMs: number | undefined;
  /** Handshakes completed. */
  readonly connects: number;
  /** Attempts and sessions that failed. */
  readonly failures: number;
  readonly resumedTlsSessions: number;
  readonly unfinishedCommands: number;
  readonly pendingReplies: number;
  /** Replies that the controller acknowledged since the start. */
  readonly acknowledgedReplies: number;
  /** Messages that wait to be sent. */
  readonly queued: { readonly commands: number; readonly reports: number; readonly events: number };
  readonly journalBytes: number;
  /** True while facts wait in memory for a disk that takes them. */
  readonly journalBacklog: boolean;
  readonly spoolBytes: number;
  readonly spoolLogs: number;
  /** Output that the controller has stored since the start. */
  readonly storedBytes: number;
  /** Output that was declared lost since the start, by why. */
  readonly lostBytes: ReadonlyMap<string, number>;
  /** Why the last write failed, as long as none succeeded since; undefined if all is well. */
  readonly journalFailure: string | undefined;
  readonly spoolFailure: string | undefined;
  readonly droppedEvents: number;
  readonly droppedSamples: number;
  /** Messages of the controller of a kind that this version doesn't know. */
  readonly unknownMessages: number;
}

/** A command on this host that is not over. Capability and time are known until it has ended. */
export interface LinkCommand {
  readonly id: string;
  readonly capability: string;
  readonly receivedAtMs: number | undefined;
  readonly state: 'running' | 'ended';
}
