// Bounds of the link, with the defaults that the design gives.
import type { ChannelLimits } from './grpc-client.ts';

/** All durations in milliseconds, all sizes in bytes. */
export interface LinkLimits {
  /** One limit over TCP, TLS, HTTP/2 settings and Welcome. */
  readonly bringUpMs: number;
  /** Longest time between two heartbeats; the controller may ask for a shorter one. */
  readonly heartbeatMostMs: number;
  readonly backoffBaseMs: number;
  readonly backoffCapMs: number;
  /** A controller may ask for a longer wait, but not for more than this. */
  readonly maxRetryAfterMs: number;
  readonly channel: ChannelLimits;
  /** Output sent and not acknowledged, all logs together. */
  readonly logWindowBytes: number;
  /** Output in one batch. Two batches at most wait for the socket. */
  readonly logBatchBytes: number;
  /** How long a Logs stream that has no log is kept. */
  readonly logIdleMs: number;
  readonly spoolBytes: number;
  readonly spoolLogBytes: number;
  readonly segmentBytes: number;
  readonly maxUnfinishedCommands: number;
  /** Replies without acknowledgement, in number and bytes; at either no new commands are taken. */
  readonly maxReplies: number;
  readonly maxReplyBytes: number;
  readonly maxEvents: number;
  /** How long a fetch of an artifact waits for a connection, and for its next piece. */
  readonly artifactWaitMs: number;
  readonly artifactStallMs: number;
}

/** What holds where the configuration says nothing. */
export const LINK_LIMITS: LinkLimits = {
  bringUpMs: 10_000,
  heartbeatMostMs: 300_000,
  backoffBaseMs: 500,
  backoffCapMs: 30_000,
  maxRetryAfterMs: 300_000,
  channel: {
    keepaliveMs: 30_000,
    keepaliveTimeoutMs: 10_000,
    // Room for a network of as many peers as WireGuard takes.
    maxReceiveBytes: 16 * 1024 * 1024,
    windowBytes: 1024 * 1024,
  },
  logWindowBytes: 4 * 1024 * 1024,
  logBatchBytes: 63 * 1024,
  logIdleMs: 60_000,
  spoolBytes: 1024 * 1024 * 1024,
  spoolLogBytes: 256 * 1024 * 1024,
  segmentBytes: 4 * 1024 * 1024,
  maxUnfinishedCommands: 1024,
  maxReplies: 8192,
  maxReplyBytes: 64 * 1024 * 1024,
  maxEvents: 256,
  artifactWaitMs: 30_000,
  artifactStallMs: 30_000,
};
