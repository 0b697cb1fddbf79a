// Bounds of tunnels on a controller.

/** How many tunnels, and how long they may take. */
export interface TunnelLimits {
  /** Open or being opened to one agent: its connection takes so many streams. */
  readonly perAgent: number;
  readonly perSession: number;
  readonly perCaller: number;
  /** From asking the agent until the tunnel is open, for a session that runs. */
  readonly openMs: number;
  /** The same for a session that has to be woken first. */
  readonly wakeMs: number;
  /** From the begin of a call until its first message. */
  readonly firstMessageMs: number;
  /** How long a ticket is good for. */
  readonly ticketMs: number;
  /** Tickets that wait to be used. */
  readonly maxTickets: number;
  /** Between pings over a WebSocket, two of which without an answer end it; also between looks at the tokens of callers. */
  readonly pingMs: number;
}

/** Bounds that hold unless told otherwise. */
export const DEFAULT_TUNNEL_LIMITS: TunnelLimits = {
  perAgent: 200,
  perSession: 128,
  perCaller: 200,
  openMs: 20_000,
  wakeMs: 150_000,
  firstMessageMs: 10_000,
  ticketMs: 60_000,
  maxTickets: 10_000,
  pingMs: 30_000,
};
