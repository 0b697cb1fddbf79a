// Health as figures: each check with its state, and readiness. Asking looks at all checks, as /healthz does, and so at most once a second.
import { family, figure, type MetricCollector } from '../../core/metrics/metric.ts';
import { HEALTH_METRICS } from '../../telemetry/metrics/agent-names.ts';
import type { AgentHealth } from '../health/agent-health.ts';
import { CHECK_STATES } from '../health/check.ts';

/** A check that hangs is found to after two seconds, and is worth being told of. */
const LIMIT_MS = 3_000;

/** Figures of health. */
export function healthCollector(health: Pick<AgentHealth, 'report'>): MetricCollector {
  return {
    name: 'health',
    limitMs: LIMIT_MS,
    collect: async () => {
      const { checks, unready } = await health.report();
      const states = checks.flatMap(({ name, state }) =>
        CHECK_STATES.map((one) => [Number(one === state), name, one] as const),
      );
      return [family(HEALTH_METRICS.status, states), figure(HEALTH_METRICS.ready, Number(unready === undefined))];
    },
  };
}
