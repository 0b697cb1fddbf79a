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

interface Memory {
  readonly configuredMs: number;
  readonly sentBytes: number;
  readonly sentAtMs: number | undefined;
  readonly lastHandshakeMs: number | undefined;
  readonly health: PeerHealth;
}

/** One per interface. */
export class PeerWatch {
  /** Handshakes seen, of all peers. */
  handshakes = 0;
  /** Changes from trouble to health. */
  recoveries = 0;
  #peers = new Map<string, Memory>();

  /** Judges all peers as they are found, and tells whose health changed. */
  look(found: FoundDevice, nowMs: number): readonly HealthChange[] {
    const changes: HealthChange[] = [];
    const after = new Map<string, Memory>();
    for (const peer of found.peers.values()) {
      const before = this.#peers.get(peer.publicKey);
      const now = remember(peer, before, nowMs);
      after.set(peer.publicKey, now);
      if (before !== undefined && before.lastHandshakeMs !== now.lastHandshakeMs) this.handshakes += 1;
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

function remember(peer: FoundPeer, before: Memory | undefined, nowMs: number): Memory {
  const { endpoint, keepaliveSecs, lastHandshakeMs, sentBytes } = peer;
  const configuredMs = before?.configuredMs ?? nowMs;
  const grew = before !== undefined && sentBytes > before.sentBytes;
  const sentAtMs = grew ? nowMs : before?.sentAtMs;
  const sending = sentAtMs !== undefined && nowMs - sentAtMs < SENDING_MS;
  const signs = { lastHandshakeMs, configuredMs, keepaliveSecs, hasEndpoint: endpoint !== undefined, sending };
  return { configuredMs, sentBytes, sentAtMs, lastHandshakeMs, health: peerHealth(signs, nowMs) };
}
