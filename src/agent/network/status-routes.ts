// Health and figures of one network over HTTP, for probes and scrapers: GET /healthz (200 while it works, else 503) and GET /metrics.
// They tell no secret, and so anybody who reaches the port.
import type { NetworkView } from '../../capabilities/network/status.ts';
import type { Clock } from '../../core/clock.ts';
import { type HttpRoute, jsonAnswer } from '../http/http-server.ts';
import { metricsRoute } from '../metrics/metrics-route.ts';
import { networkFigures } from '../metrics/network-figures.ts';
import { networkJson } from './status-view.ts';

/** Routes of a network; `look` gives it as it is now, undefined if it isn't there. */
export function statusRoutes(look: () => Promise<NetworkView | undefined>, clock: Clock): readonly HttpRoute[] {
  return [
    {
      path: '/healthz',
      open: true,
      answer: async () => {
        const view = await look();
        const works = view?.state === 'up' || view?.state === 'degraded';
        const status = view === undefined ? { state: 'down' } : networkJson(view, clock.now());
        return jsonAnswer(works ? 200 : 503, { status: works ? 'ok' : 'unavailable', ...status });
      },
    },
    metricsRoute(
      async () => {
        const view = await look();
        return networkFigures(view === undefined ? [] : [view], clock.now());
      },
      { open: true },
    ),
  ];
}
