// Figures of one network in the text format of Prometheus. Series by peer are as many as the view tells of, which is bounded. Pure.
import type { NetworkView, PeerView } from '../../capabilities/network/status.ts';

interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const RUN_STATES = ['starting', 'up', 'degraded', 'failed', 'removing'] as const;

/** Media type of the text. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** All figures of a network. */
export function metricsText(view: NetworkView, nowMs: number): string {
  const network = { network: view.name, interface: view.interface };
  const byPeer = (figureOf: (peer: PeerView) => number | undefined): Sample[] =>
    view.peers.flatMap((peer) => {
      const value = figureOf(peer);
      const labels = { ...network, peer: peer.name, public_key: peer.publicKey };
      return value === undefined ? [] : [{ labels, value }];
    });
  const states = RUN_STATES.map((state) => ({ labels: { ...network, state }, value: Number(state === view.state) }));
  const counts = Object.entries(view.counts).map(([health, value]) => ({ labels: { ...network, health }, value }));
  const traffic = [
    { labels: { ...network, direction: 'received' }, value: view.receivedBytes },
    { labels: { ...network, direction: 'sent' }, value: view.sentBytes },
  ];
  const peerTraffic = [
    ...byPeer(({ receivedBytes }) => receivedBytes).map((sample) => withLabel(sample, 'direction', 'received')),
    ...byPeer(({ sentBytes }) => sentBytes).map((sample) => withLabel(sample, 'direction', 'sent')),
  ];
  const ageOf = ({ lastHandshakeMs }: PeerView) =>
    lastHandshakeMs === undefined ? undefined : Math.max(0, nowMs - lastHandshakeMs) / 1000;
  return [
    metric('longline_network_state', 'gauge', '1 for the state that the network is in.', states),
    metric('longline_network_peers', 'gauge', 'Peers by health.', counts),
    metric('longline_network_bytes_total', 'counter', 'Bytes over all peers.', traffic),
    metric('longline_network_handshakes_total', 'counter', 'Handshakes that were seen.', [
      { labels: network, value: view.handshakes },
    ]),
    metric('longline_network_recoveries_total', 'counter', 'Times that a peer answered again after it had not.', [
      { labels: network, value: view.recoveries },
    ]),
    metric('longline_network_problems', 'gauge', 'What is not as wanted.', [
      { labels: network, value: view.problems.filter(({ harmless }) => !harmless).length },
    ]),
    metric('longline_network_peer_bytes_total', 'counter', 'Bytes of one peer.', peerTraffic),
    metric('longline_network_peer_handshake_age_seconds', 'gauge', 'Age of the latest handshake.', byPeer(ageOf)),
  ].join('');
}

function withLabel({ labels, value }: Sample, name: string, text: string): Sample {
  return { labels: { ...labels, [name]: text }, value };
}

function metric(name: string, type: 'counter' | 'gauge', help: string, samples: readonly Sample[]): string {
  if (samples.length === 0) return '';
  const lines = samples.map(({ labels, value }) => `${name}{${labelText(labels)}} ${value}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines, ''].join('\n');
}

function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, text]) => `${name}="${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`)
    .join(',');
}
