// GET /metrics: figures in the format that the scraper asks for.
import type { MetricFamily } from '../../core/metrics/metric.ts';
import { expose, formatOf } from '../../telemetry/metrics/exposition.ts';
import type { HttpRoute } from '../http/http-server.ts';

/** The route; `collect` gives the families. `open` as in HttpRoute. */
export function metricsRoute(
  collect: () => Promise<Iterable<MetricFamily>>,
  { open }: Pick<HttpRoute, 'open'>,
): HttpRoute {
  return {
    path: '/metrics',
    open,
    answer: async ({ accept }) => ({ status: 200, ...expose(await collect(), formatOf(accept)) }),
  };
}
