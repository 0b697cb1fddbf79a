// Follows the peers of one interface from look to look: who fares how, and who fares otherwise than before. Remembers what a single
// look can't tell: since when a peer is there, and whether anything is sent to it. Pure but for its memory.
import type { FoundDevice, FoundPeer } from './device.ts';
import { type PeerHealth, peerHealth } from './health.ts';

/** A peer that fares otherwise than before. */
export interface HealthChange {
  readonly publicKey: string;
  /** Undefined at the first look. */
  readonly before: PeerHealth | undefined;
  readonly now: PeerHealth;
}

/** Bytes that were sent this long ago still count as sending: tries of a handshake are 5 s apart, and looks further. */
const SENDING_MS = 90_000;
/** boringtun tells ages, which never give quite the same time twice; handshakes are at least 5 s apart. */
const JITTER_MS = 2_000;

interface Memory {
  /** On the monotonic clock, as are the times below. */
  readonly configuredMs: number;
  readonly sentBytes: number;
  readonly sentAtMs: number | undefined;
  readonly handshakeMs: number | undefined;
  /** As WireGuard tells it, on the wall clock. */
  readonly toldMs: number | undefined;
  readonly health: PeerHealth;
}

/** One per interface. */
export class PeerWatch {
  /** Handshakes seen, of all peers. */
  handshakes = 0;
  /** Changes from trouble to health. */
  recoveries = 0;
  #peers = new Map<string, Memory>();

  /**
   * Judges all peers as they are found, and tells whose health changed. `nowMs` is on the wall clock, by which WireGuard tells
   * handshakes; ages grow by the monotonic one, `steadyMs`, since a host whose clock is set has no peer that fares otherwise for it.
   */
  look(found: FoundDevice, nowMs: number, steadyMs: number): readonly HealthChange[] {
    const changes: HealthChange[] = [];
    const after = new Map<string, Memory>();
    for (const peer of found.peers.values()) {
      const before = this.#peers.get(peer.publicKey);
      const now = remember(peer, before, nowMs, steadyMs);
      after.set(peer.publicKey, now);
      if (before !== undefined && isLater(now.handshakeMs, before.handshakeMs)) this.handshakes += 1;
      if (now.health === 'active' && isTrouble(before?.health)) this.recoveries += 1;
      if (now.health !== before?.health) {
        changes.push({ publicKey: peer.publicKey, before: before?.health, now: now.health });
      }
    }
    this.#peers = after;
    return changes;
  }

  /** As of the last look; a peer that wasn't there then is idle. */
  health(publicKey: string): PeerHealth {
    return this.#peers.get(publicKey)?.health ?? 'idle';
  }
}

/** True for a peer that doesn't answer though it should. */
export function isTrouble(health: PeerHealth | undefined): boolean {
  return health === 'suspect' || health === 'stale';
}

function isLater(handshakeMs: number | undefined, beforeMs = Number.NEGATIVE_INFINITY): boolean {
  return handshakeMs !== undefined && handshakeMs - beforeMs > JITTER_MS;
}

function remember(peer: FoundPeer, before: Memory | undefined, nowMs: number, steadyMs: number): Memory {
  const { endpoint, keepaliveSecs, lastHandshakeMs: toldMs, sentBytes } = peer;
  const configuredMs = before?.configuredMs ?? steadyMs;
  const grew = before !== undefined && sentBytes > before.sentBytes;
  const sentAtMs = grew ? steadyMs : before?.sentAtMs;
  const sending = sentAtMs !== undefined && steadyMs - sentAtMs < SENDING_MS;
  const isNew = before === undefined || before.toldMs !== toldMs;
  const seenMs = toldMs === undefined ? undefined : steadyMs - Math.max(0, nowMs - toldMs);
  const handshakeMs = isNew ? seenMs : before.handshakeMs;
  const hasEndpoint = endpoint !== undefined;
  const health = peerHealth(
    { lastHandshakeMs: handshakeMs, configuredMs, keepaliveSecs, hasEndpoint, sending },
    steadyMs,
  );
  return { configuredMs, sentBytes, sentAtMs, handshakeMs, toldMs, health };
}
