// Jobs as people see them: tables and the closing line of a run.

import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type Job, type JobExecution, JobReason, JobState } from '#gen/longline/v1/job_pb.js';
import { formatDuration } from '../../core/clock.ts';
import { ageOf } from '../age.ts';
import type { TableColumn } from '../table.ts';
import { reasonName, stateName } from '../views.ts';

/** One row for each job. */
export function jobColumns(nowMs: number): readonly TableColumn<Job>[] {
  return [
    { heading: 'job', value: (job) => job.id },
    { heading: 'state', value: (job) => stateName(job.state) },
    { heading: 'agent', value: (job) => agentsOf(job) },
    { heading: 'exit', align: 'right', value: (job) => exitOf(job.executions) },
    { heading: 'submitted', value: (job) => ageOf(job.createTime, nowMs) },
    { heading: 'took', value: (job) => tookOf(job.executions[0]) },
    { heading: 'command', value: (job) => commandOf(job) },
  ];
}

/** One row for each execution of a job. */
export function executionColumns(nowMs: number): readonly TableColumn<JobExecution>[] {
  return [
    { heading: 'agent', value: (execution) => execution.agentId },
    { heading: 'state', value: (execution) => stateName(execution.state) },
    { heading: 'exit', align: 'right', value: (execution) => exitOf([execution]) },
    { heading: 'reason', value: ({ result }) => (result === undefined ? '-' : reasonName(result.reason)) },
    { heading: 'took', value: (execution) => tookOf(execution) },
    { heading: 'ended', value: (execution) => ageOf(execution.endTime ?? execution.result?.endTime, nowMs) },
    { heading: 'detail', value: ({ result }) => result?.error?.message ?? '' },
  ];
}

/** Why a job did not end with an exit code of its own; empty if it did. */
export function jobSummary(job: Job): string {
  const [execution] = job.executions;
  if (execution === undefined) return 'no agent matches; nothing was run';
  const { state, result } = execution;
  if (state === JobState.SUCCEEDED) return '';
  if (state === JobState.FAILED && result?.reason === JobReason.EXITED && !result.oomKilled) return '';
  const parts = [`job ${job.id} on ${execution.agentId} ${stateName(state).replaceAll('_', ' ')}`];
  const reason = reasonName(result?.reason ?? JobReason.UNSPECIFIED);
  if (reason !== '' && reason !== stateName(state)) parts.push(reason.replaceAll('_', ' '));
  if (result?.signal) parts.push(result.signal);
  if (result?.oomKilled && result.reason !== JobReason.OUT_OF_MEMORY) parts.push('a process was killed for memory');
  if (result?.error?.message) parts.push(result.error.message);
  for (const { field, description } of result?.error?.violations ?? []) parts.push(`${field}: ${description}`);
  return [...new Set(parts)].join('; ');
}

function agentsOf({ executions }: Job): string {
  return executions.length === 1 ? executions[0]!.agentId : `${executions.length} agents`;
}

function exitOf(executions: readonly JobExecution[]): string {
  const codes = executions.flatMap(({ result }) => (result?.exitCode === undefined ? [] : [result.exitCode]));
  return codes.length === 0 ? '-' : String(Math.max(...codes));
}

function tookOf(execution: JobExecution | undefined): string {
  const { startTime, endTime } = execution?.result ?? {};
  return startTime === undefined || endTime === undefined
    ? '-'
    : formatDuration(timestampMs(endTime) - timestampMs(startTime));
}

function commandOf({ spec }: Job): string {
  if (spec === undefined) return '(signed elsewhere)';
  return spec.shell !== '' ? spec.shell : spec.argv.join(' ');
}
