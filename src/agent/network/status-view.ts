// A network as JSON, for the control socket and /healthz.
import type { NetworkView, PeerView } from '../../capabilities/network/status.ts';

/** A network as applications read it. */
export function networkJson(view: NetworkView, nowMs: number): Record<string, unknown> {
  const { keyEpoch, passes: _, peers, reconciledAtMs, source, ...rest } = view;
  return {
    ...rest,
    source: source === 'controller' ? 'controller' : 'local',
    publicKey: view.keys.find(({ epoch }) => epoch === keyEpoch)?.publicKey ?? null,
    keyEpoch,
    reconcileTime: reconciledAtMs === undefined ? null : new Date(reconciledAtMs).toISOString(),
    handshakeAgeSecs: youngestHandshakeSecs(peers, nowMs),
    peers: peers.map((peer) => peerJson(peer, nowMs)),
  };
}

/** Age of the latest handshake with any peer; null if there was none. */
function youngestHandshakeSecs(peers: readonly PeerView[], nowMs: number): number | null {
  const latest = peers.reduce((most, { lastHandshakeMs = 0 }) => Math.max(most, lastHandshakeMs), 0);
  return latest === 0 ? null : ageSecs(latest, nowMs);
}

function peerJson({ lastHandshakeMs, prefixes, ...peer }: PeerView, nowMs: number): Record<string, unknown> {
  const age = lastHandshakeMs === undefined ? null : ageSecs(lastHandshakeMs, nowMs);
  return { ...peer, endpoint: peer.endpoint ?? null, allowedIps: prefixes, handshakeAgeSecs: age };
}

function ageSecs(sinceMs: number, nowMs: number): number {
  return Math.max(0, Math.round((nowMs - sinceMs) / 1000));
}
