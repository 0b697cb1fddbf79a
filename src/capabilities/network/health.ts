// How a peer fares, by the timers of the protocol: keys are renewed after 120 s of use, so a used tunnel whose last handshake
// is older is in trouble. WireGuard sends nothing while there is nothing to send: silence alone is no fault. Pure.

/** A renewal is due after 120 s, and its first tries take up to 15 s. */
export const SUSPECT_MS = 135_000;
/** A first handshake may take this long: tries are 5 s apart. */
const FIRST_MS = 15_000;
/** Keys older than this are refused by both sides. */
export const STALE_MS = 180_000;

/** What is known of a peer. */
export interface PeerSigns {
  /** On the clock of `nowMs`, as all times; undefined if there was none yet. */
  readonly lastHandshakeMs: number | undefined;
  /** When the peer was configured, from where on a first handshake is waited for. */
  readonly configuredMs: number;
  readonly keepaliveSecs: number;
  /** False for a peer that comes to us and hasn't yet: there is nowhere to send to. */
  readonly hasEndpoint: boolean;
  /** True if bytes were sent to it since the last look; tries of a handshake count. */
  readonly sending: boolean;
}

/**
 * `active`: keys are fresh. `idle`: nothing is sent, so nothing is wrong. `suspect`: a handshake is overdue, and the name of
 * its endpoint should be resolved again. `stale`: nothing can pass.
 */
export type PeerHealth = 'active' | 'idle' | 'suspect' | 'stale';

/** Judges a peer. */
export function peerHealth(signs: PeerSigns, nowMs: number): PeerHealth {
  const { configuredMs, hasEndpoint, keepaliveSecs, lastHandshakeMs, sending } = signs;
  const inUse = hasEndpoint && (keepaliveSecs > 0 || sending);
  const age = nowMs - (lastHandshakeMs ?? configuredMs);
  if (lastHandshakeMs !== undefined && age < SUSPECT_MS) return 'active';
  if (!inUse || (lastHandshakeMs === undefined && age < FIRST_MS)) return 'idle';
  return age < STALE_MS ? 'suspect' : 'stale';
}
