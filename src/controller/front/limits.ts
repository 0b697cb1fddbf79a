// Every bound of the front, in one place. A peer can reach each of them and must not get past any.
import type { AdmissionLimits } from './admission.ts';

/** Bounds of connections, handshakes, requests and messages. */
export interface FrontLimits {
  /** Open connections in all, those in their handshake included. */
  readonly maxConnections: number;
  /** New TLS handshakes. */
  readonly handshakes: AdmissionLimits;
  /** From accept to the end of the TLS handshake. */
  readonly handshakeTimeoutMs: number;
  /** Largest message on either stack, in bytes. */
  readonly maxMessageBytes: number;
  /** Largest header block of a request, in bytes. */
  readonly maxHeaderBytes: number;
  /** Streams at once on one connection of an operator. */
  readonly maxOperatorStreams: number;
  /** Streams at once on one connection of an agent. */
  readonly maxAgentStreams: number;
  /** For the head of an HTTP/1.1 request. */
  readonly headersTimeoutMs: number;
  /** For the body of a request that isn't a stream. */
  readonly requestTimeoutMs: number;
  /** An operator's connection without a stream is closed after this. */
  readonly idleTimeoutMs: number;
  /** Failed authentications heard over one connection. */
  readonly failedAuthentications: AdmissionLimits;
  /** Between PINGs to agents, and for their answer. */
  readonly agentPingIntervalMs: number;
  readonly agentPingTimeoutMs: number;
  /** HTTP/2 receive window of a stream of an agent, in bytes: what may be under way before this side has read it. */
  readonly receiveWindowBytes: number;
}

/** Bounds that hold unless told otherwise. */
export const DEFAULT_FRONT_LIMITS: FrontLimits = {
  maxConnections: 25_000,
  handshakes: { perSecond: 2000, burst: 4000 },
  handshakeTimeoutMs: 10_000,
  maxMessageBytes: 4 * 1024 * 1024,
  maxHeaderBytes: 16 * 1024,
  maxOperatorStreams: 100,
  maxAgentStreams: 256,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  idleTimeoutMs: 300_000,
  failedAuthentications: { perSecond: 0.2, burst: 10 },
  agentPingIntervalMs: 30_000,
  agentPingTimeoutMs: 10_000,
  receiveWindowBytes: 1024 * 1024,
};
