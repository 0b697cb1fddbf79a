// Figures of programs, as they were measured last; asking for them measures nothing.
import type { ProgramsCapability } from '../../capabilities/programs/capability.ts';
import type { ProgramFigures } from '../../capabilities/programs/figures.ts';
import { family, figure, type MetricCollector, type MetricDefinition } from '../../core/metrics/metric.ts';
import { PROGRAM_STATES, ROLLBACK_TRIGGERS } from '../../core/programs/program-state.ts';
import { PROGRAM_METRICS } from '../../telemetry/metrics/agent-names.ts';

/** The part of the capability that is looked at. */
export type MeasuredPrograms = Pick<ProgramsCapability, 'look' | 'measured' | 'quarantined' | 'rollbackCounts'>;

/** Figures of programs. */
export function programsCollector(programs: MeasuredPrograms): MetricCollector {
  return {
    name: 'programs',
    collect: () => {
      const views = programs.look();
      const rollbacks = programs.rollbackCounts();
      const measured = [...programs.measured()];
      const each = (definition: MetricDefinition, figureOf: (figures: ProgramFigures) => number | bigint) =>
        family(
          definition,
          measured.map(([name, { figures }]) => [Number(figureOf(figures)), name]),
        );
      return [
        family(
          PROGRAM_METRICS.programs,
          PROGRAM_STATES.map((state) => [views.filter(({ life }) => life.kind === state).length, state]),
        ),
        figure(PROGRAM_METRICS.problems, views.filter(({ problems }) => problems.length > 0).length),
        figure(PROGRAM_METRICS.quarantined, programs.quarantined().length),
        family(
          PROGRAM_METRICS.rollbacks,
          ROLLBACK_TRIGGERS.flatMap((trigger) => {
            const { succeeded = 0, failed = 0 } = rollbacks.get(trigger) ?? {};
            return [[succeeded, trigger, 'succeeded'] as const, [failed, trigger, 'failed'] as const];
          }),
        ),
        each(PROGRAM_METRICS.packets, ({ packets }) => packets),
        each(PROGRAM_METRICS.violations, ({ violations }) => violations),
        each(PROGRAM_METRICS.errors, ({ errors }) => errors),
        each(PROGRAM_METRICS.events, ({ events }) => events),
        each(PROGRAM_METRICS.droppedEvents, ({ droppedEvents }) => droppedEvents),
        each(PROGRAM_METRICS.cpu, ({ cpuPercent }) => cpuPercent / 100),
        each(PROGRAM_METRICS.latency, ({ latencyMs }) => latencyMs / 1000),
        each(PROGRAM_METRICS.memory, ({ memoryKb }) => memoryKb * 1024),
      ];
    },
  };
}
