// Figures of networks. Series by peer are as many as the views tell of, which is bounded, and bounded again over all networks. Pure.
import type { NetworkView, PeerView } from '../../capabilities/network/status.ts';
import { family, type MetricCollector, type MetricDefinition, type MetricFamily } from '../../core/metrics/metric.ts';
import { NETWORK_METRICS } from '../../telemetry/metrics/agent-names.ts';

const RUN_STATES = ['starting', 'up', 'degraded', 'failed', 'removing'] as const;

/** Figures of all networks of this host. */
export function networkCollector(look: () => Promise<readonly NetworkView[]>, now: () => number): MetricCollector {
  return { name: 'network', collect: async () => networkFigures(await look(), now()) };
}

/** All figures of networks. */
export function networkFigures(views: readonly NetworkView[], nowMs: number): readonly MetricFamily[] {
  const each = (
    definition: MetricDefinition,
    figures: (view: NetworkView) => Iterable<readonly [number | undefined, ...string[]]>,
  ) =>
    family(
      definition,
      views.flatMap((view) => [...figures(view)].map((one) => withNetwork(view, one))),
    );
  const one = (definition: MetricDefinition, figureOf: (view: NetworkView) => number | undefined) =>
    each(definition, (view) => [[figureOf(view)]]);
  return [
    each(NETWORK_METRICS.state, ({ state }) => RUN_STATES.map((name) => [Number(name === state), name])),
    each(NETWORK_METRICS.peers, ({ counts }) => Object.entries(counts).map(([health, count]) => [count, health])),
    each(NETWORK_METRICS.bytes, directions),
    one(NETWORK_METRICS.handshakes, ({ handshakes }) => handshakes),
    one(NETWORK_METRICS.recoveries, ({ recoveries }) => recoveries),
    one(NETWORK_METRICS.problems, ({ problems }) => problems.filter(({ harmless }) => !harmless).length),
    each(NETWORK_METRICS.reconciles, ({ passes }) => [
      [passes.succeeded, 'succeeded'],
      [passes.failed, 'failed'],
    ]),
    one(NETWORK_METRICS.reconcileSeconds, ({ passes }) => passes.tookMs / 1000),
    one(NETWORK_METRICS.lastReconcile, ({ reconciledAtMs: ms }) => (ms === undefined ? undefined : ms / 1000)),
    each(NETWORK_METRICS.peerBytes, ({ peers }) =>
      peers.flatMap((peer) =>
        directions(peer).map(([bytes, direction]) => [bytes, peer.name, peer.publicKey, direction] as const),
      ),
    ),
    each(NETWORK_METRICS.peerHandshakeAge, ({ peers }) =>
      peers.map((peer) => [handshakeAge(peer, nowMs), peer.name, peer.publicKey]),
    ),
  ];
}

function withNetwork(
  { name, interface: device }: NetworkView,
  [value, ...labels]: readonly [number | undefined, ...string[]],
): readonly [number | undefined, ...string[]] {
  return [value, name, device, ...labels];
}

function directions({ receivedBytes, sentBytes }: Pick<PeerView, 'receivedBytes' | 'sentBytes'>) {
  return [
    [receivedBytes, 'received'],
    [sentBytes, 'sent'],
  ] as const;
}

function handshakeAge({ lastHandshakeMs }: PeerView, nowMs: number): number | undefined {
  return lastHandshakeMs === undefined ? undefined : Math.max(0, nowMs - lastHandshakeMs) / 1000;
}
