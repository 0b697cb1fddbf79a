// `longline job ls|get|logs|cancel|wait`.
import { type Timestamp, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Command, InvalidArgumentError } from 'commander';
import { type Job, JobState } from '#gen/longline/v1/job_pb.js';
import { parseDuration } from '../../core/clock.ts';
import { withFleet } from '../fleet-connection.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, toJson } from '../io.ts';
import { executionColumns, jobColumns } from '../job/columns.ts';
import { jobExitCode } from '../job/exit.ts';
import { type LogsOptions, showLogs, startValue } from '../job/logs.ts';
import { waitForJob } from '../job/wait.ts';
import { countValue, durationValue, pairValue, wordValue } from '../option-values.ts';
import { readPages } from '../paging.ts';
import { renderTable } from '../table.ts';
import { jobView, stateName } from '../views.ts';

const STATES: Readonly<Record<string, JobState>> = Object.fromEntries(
  Object.values(JobState)
    .filter((state): state is JobState => typeof state === 'number' && state !== JobState.UNSPECIFIED)
    .map((state) => [stateName(state), state]),
);

interface ListOptions {
  readonly agent?: string;
  readonly state?: JobState;
  readonly label?: Record<string, string>;
  readonly since?: Timestamp;
  readonly limit: number;
}

/** Adds the subcommands of `job` that look at jobs that exist. */
export function registerJobReading(job: Command, io: CliIo): void {
  registerList(job, io);
  registerLogs(job, io);
  job
    .command('cancel <job>')
    .description('Cancel a job, or one of its executions by that id. Cancelling what has ended changes nothing.')
    .option('--reason <text>', 'why, for others to read', '')
    .action(async (jobId: string, { reason }: { reason: string }, command: Command) => {
      const answer = await withFleet(io, command, (fleet) => fleet.jobs.cancelJob({ jobId, reason }));
      await io.result(jobView(answer.job!), () => `${answer.job!.id} ${stateName(answer.job!.state)}`);
    });
  job
    .command('wait <job>')
    .description('Wait until a job has ended; exits like `job run`, or with 124 if the limit passes first.')
    .option('--limit <duration>', 'longest wait; without it as long as it takes', durationValue)
    .action(async (jobId: string, { limit }: { limit?: number }, command: Command) => {
      using interrupt = new InterruptGuard();
      const ended = await withFleet(io, command, (fleet) => waitForJob(fleet, jobId, limit, interrupt.signal));
      await showJob(io, ended);
      io.exitCode = jobExitCode(ended);
    });
}

function registerList(job: Command, io: CliIo): void {
  job
    .command('ls')
    .description('List jobs, newest first.')
    .option('--agent <id>', 'only with an execution on this agent')
    .option('--state <state>', 'only in this state', wordValue(STATES))
    .option('--label <key=value>', 'only with this label; repeatable', pairValue)
    .option(
      '--since <time>',
      'only submitted since: a duration like 2h, or a time like 2030-01-31T12:00:00Z',
      sinceValue,
    )
    .option('--limit <n>', 'most jobs; 0 for all', countValue(0, 1_000_000), 100)
    .addHelpText('after', '\nExample:\n  longline job ls --state failed --since 1d')
    .action(async ({ agent, state, label, since, limit }: ListOptions, command: Command) => {
      const filter = {
        agentId: agent ?? '',
        states: state === undefined ? [] : [state],
        matchLabels: label ?? {},
        ...(since === undefined ? {} : { since }),
      };
      const jobs = await withFleet(io, command, (fleet) =>
        readPages(limit, async (pageToken, pageSize) => {
          const page = await fleet.jobs.listJobs({ ...filter, pageToken, pageSize });
          return { items: page.jobs, nextPageToken: page.nextPageToken };
        }),
      );
      if (io.json) return await io.stdout.line(toJson(jobs.map(jobView)));
      await io.list(jobs, jobColumns(Date.now()), 'no jobs');
    });
  job
    .command('get <job>')
    .description('Show one job with its executions.')
    .action(async (jobId: string, _options: object, command: Command) => {
      const answer = await withFleet(io, command, (fleet) => fleet.jobs.getJob({ jobId }));
      await showJob(io, answer.job!);
    });
}

function registerLogs(job: Command, io: CliIo): void {
  job
    .command('logs <job>')
    .description('Show the output of a job; standard error of the job goes to standard error.')
    .option('-f, --follow', 'go on until the job’s output has ended')
    .option('--from <offset>', 'first byte, for every stream; or for each: stdout=10,stderr=0', startValue)
    .option('--stream <name>', 'stdout, stderr or all', wordValue({ stdout: ['stdout'], stderr: ['stderr'], all: [] }))
    .option('--agent <id>', 'of the execution on this agent, for a job with several')
    .option('--timestamps', 'put the time it was read from the container before each line')
    .addHelpText(
      'after',
      '\nWith --json: one object a line with stream, offset, captured_at and text, or base64 where it is no UTF-8.\n' +
        'Lost bytes are told on standard error.\n\nExamples:\n  longline job logs ID --follow\n  longline job logs ID --from 4096 --stream stdout',
    )
    .action(async (jobId: string, options: LogsOptions, command: Command) => {
      using interrupt = new InterruptGuard();
      await withFleet(io, command, (fleet) => showLogs(io, fleet, jobId, options, interrupt.signal));
    });
}

async function showJob(io: CliIo, job: Job): Promise<void> {
  if (io.json) return await io.stdout.line(toJson(jobView(job)));
  await io.stdout.write(renderTable([job], jobColumns(Date.now())));
  if (job.executions.length === 0) return;
  await io.stdout.write(`\n${renderTable(job.executions, executionColumns(Date.now()))}`);
}

/** "2h" ago, or an RFC 3339 time. */
function sinceValue(text: string): Timestamp {
  const ms = parseDuration(text);
  if (ms !== undefined) return timestampFromMs(Date.now() - ms);
  const at = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at))
    throw new InvalidArgumentError('Give a duration such as 2h, or a time such as 2030-01-31T12:00:00Z.');
  return timestampFromMs(at);
}
