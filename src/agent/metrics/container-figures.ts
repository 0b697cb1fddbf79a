// Figures of jobs and sessions, and of which capabilities there are.
import type { JobsCapability } from '../../capabilities/jobs/capability.ts';
import type { SessionsCapability } from '../../capabilities/sessions/capability.ts';
import type { SessionMeter } from '../../capabilities/sessions/ports.ts';
import type { Availability } from '../../core/capability.ts';
import { family, figure, type MetricCollector } from '../../core/metrics/metric.ts';
import type { MetricRegistry } from '../../core/metrics/metric-registry.ts';
import { COMMAND_METRICS, JOB_METRICS, SESSION_METRICS } from '../../telemetry/metrics/agent-names.ts';

const SESSION_STATES = [
  'starting',
  'running',
  'unhealthy',
  'hibernating',
  'asleep',
  'waking',
  'restarting',
  'stopping',
  'ended',
  'failed',
] as const;

/** Which capabilities can be used. */
export function availabilityCollector(availability: () => ReadonlyMap<string, Availability>): MetricCollector {
  return {
    name: 'capabilities',
    collect: () => [
      family(
        COMMAND_METRICS.available,
        [...availability()].map(([name, { available }]) => [Number(available), name]),
      ),
    ],
  };
}

/** Figures of jobs. */
export function jobsCollector(jobs: Pick<JobsCapability, 'counts' | 'totals'>): MetricCollector {
  return {
    name: 'jobs',
    collect: () => {
      const { running, queued, max, warm } = jobs.counts();
      const { started, warmServed, warmMissed } = jobs.totals();
      return [
        figure(JOB_METRICS.running, running),
        figure(JOB_METRICS.queued, queued),
        figure(JOB_METRICS.limit, max),
        figure(JOB_METRICS.started, started),
        figure(JOB_METRICS.warm, warm),
        family(JOB_METRICS.warmTaken, [
          [warmServed, 'served'],
          [warmMissed, 'missed'],
        ]),
      ];
    },
  };
}

/** Figures of sessions. */
export function sessionsCollector(sessions: Pick<SessionsCapability, 'counts' | 'states'>): MetricCollector {
  return {
    name: 'sessions',
    collect: () => {
      const { reserved, limits } = sessions.counts();
      const states = sessions.states();
      return [
        family(
          SESSION_METRICS.sessions,
          SESSION_STATES.map((state) => [states.get(state) ?? 0, state]),
        ),
        figure(SESSION_METRICS.limit, limits.maxSessions),
        figure(SESSION_METRICS.cpusReserved, reserved.cpus),
        figure(SESSION_METRICS.cpusLimit, limits.maxCpus),
        figure(SESSION_METRICS.memoryReserved, reserved.memoryBytes),
        figure(SESSION_METRICS.memoryLimit, limits.maxMemoryBytes),
      ];
    },
  };
}

/** Counts what becomes of sessions. */
export function sessionMeter(registry: MetricRegistry): SessionMeter {
  const starts = registry.histogram(SESSION_METRICS.starts);
  const wakes = registry.histogram(SESSION_METRICS.wake);
  const hibernations = registry.counter(SESSION_METRICS.hibernations);
  const ends = registry.counter(SESSION_METRICS.crashes);
  const outcome = (succeeded: boolean) => (succeeded ? 'succeeded' : 'failed');
  return {
    started: (tookMs, succeeded) => starts.observe(tookMs / 1000, outcome(succeeded)),
    woken: (tier, tookMs, succeeded) => wakes.observe(tookMs / 1000, tier, outcome(succeeded)),
    slept: (tier, cause) => hibernations.add(1, tier, cause),
    ended: (cause) => ends.add(1, cause),
  };
}
