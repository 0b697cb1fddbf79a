// Figures of what is stored. Counting a large fleet takes a while, so what was counted is told again for some seconds.
import { DesiredStateKind } from '#gen/longline/link/v1/link_pb.js';
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import { JobState } from '#gen/longline/v1/job_pb.js';
import { SessionState } from '#gen/longline/v1/session_pb.js';
import type { Clock } from '../../core/clock.ts';
import { family, figure, type MetricCollector, type MetricFamily } from '../../core/metrics/metric.ts';
import { STORE_METRICS } from '../../telemetry/metrics/controller-names.ts';
import type { Counts, FleetCountRepository, FleetCounts } from '../store/fleet-counts.ts';

const TOLD_AGAIN_MS = 5_000;
const OPEN_COMMANDS = ['stored', 'sent', 'received'];
const ROLLOUT_PHASES = [
  'running',
  'watching',
  'waiting',
  'halted',
  'rolling_back',
  'done',
  'rolled_back',
  'superseded',
];
const ROTATION_STEPS = ['queued', 'prepare', 'stage', 'switch', 'move', 'remove'];

/** Figures of what is stored. */
export function storeCollector(counting: FleetCountRepository, clock: Clock): MetricCollector {
  let last: { readonly atMs: number; readonly families: readonly MetricFamily[] } | undefined;
  return {
    name: 'store',
    collect: async () => {
      const nowMs = clock.monotonic();
      if (last === undefined || nowMs - last.atMs >= TOLD_AGAIN_MS) {
        last = { atMs: nowMs, families: storeFigures(await counting.count()) };
      }
      return last.families;
    },
  };
}

function storeFigures(counts: FleetCounts): readonly MetricFamily[] {
  return [
    family(STORE_METRICS.agents, byState(counts.agents, AgentState)),
    family(
      STORE_METRICS.commands,
      OPEN_COMMANDS.map((state) => [counts.commands[state] ?? 0, state]),
    ),
    family(
      STORE_METRICS.jobs,
      byState(counts.jobs, JobState).filter(([, state]) => !ENDED_JOBS.has(state)),
    ),
    family(STORE_METRICS.sessions, byState(counts.sessions, SessionState)),
    family(
      STORE_METRICS.states,
      counts.states.flatMap(({ kind, wanted, pending, refused }) => {
        const name = DesiredStateKind[kind]?.toLowerCase() ?? `${kind}`;
        return [
          [wanted, name, 'wanted'] as const,
          [pending, name, 'pending'] as const,
          [refused, name, 'refused'] as const,
        ];
      }),
    ),
    figure(STORE_METRICS.programs, counts.programs),
    figure(STORE_METRICS.assignments, counts.assignments),
    family(STORE_METRICS.rollouts, rolloutsOf(counts)),
    figure(STORE_METRICS.meshes, counts.meshes),
    figure(STORE_METRICS.members, counts.members),
    family(
      STORE_METRICS.rotations,
      ROTATION_STEPS.map((step) => [counts.rotations[step] ?? 0, step]),
    ),
    figure(STORE_METRICS.oldestRotation, seconds(counts.oldestRotationAtMs)),
    figure(STORE_METRICS.oldestCommand, seconds(counts.oldestUnsentAtMs)),
  ];
}

const ENDED_JOBS: ReadonlySet<string> = new Set([
  'succeeded',
  'failed',
  'cancelled',
  'timed_out',
  'rejected',
  'indeterminate',
]);

/** All states of an enum, also those that nothing is in. */
function byState(counts: Counts, states: object): (readonly [number, string])[] {
  return Object.entries(states)
    .filter(([, number]) => typeof number === 'number' && number !== 0)
    .map(([name, number]) => [counts[String(number)] ?? 0, name.toLowerCase()]);
}

function rolloutsOf({ rollouts }: FleetCounts): (readonly [number, string, string])[] {
  const countOf = (phase: string, paused: boolean) =>
    rollouts.find((one) => one.phase === phase && one.paused === paused)?.count ?? 0;
  return ROLLOUT_PHASES.flatMap((phase) => [
    [countOf(phase, false), phase, 'no'] as const,
    [countOf(phase, true), phase, 'yes'] as const,
  ]);
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}
