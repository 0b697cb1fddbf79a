// `longline job`: running jobs and looking at them. Following and showing are in ../job/; this file is the command line.
import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Job } from '#gen/longline/v1/job_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { type Fleet, withFleet } from '../fleet-connection.ts';
import { globalOptions } from '../global-options.ts';
import { InterruptGuard } from '../interrupt.ts';
import { type CliIo, toJson } from '../io.ts';
import { executionColumns, jobSummary } from '../job/columns.ts';
import { JOB_EXIT_CODES } from '../job/exit.ts';
import {
  addRequestOptions,
  controllerIdOf,
  DEFAULT_SIGNED_TTL_MS,
  type RequestOptions,
  requestOf,
} from '../job/request.ts';
import { runJob, wantsStream } from '../job/run-session.ts';
import { readSigningKey, signedJobJson, signJob } from '../job/signing.ts';
import { addSpecOptions, specOf, targetOf } from '../job/spec-options.ts';
import { defaultContextPath, readContext } from '../operator-context.ts';
import { renderTable } from '../table.ts';
import { jobView } from '../views.ts';
import { registerJobExplain } from './job-explain.ts';
import { registerJobReading } from './job-reading.ts';

interface RunOptions extends RequestOptions {
  readonly detach?: boolean;
  readonly output?: boolean;
}

const RUN_EXAMPLES = `
Examples:
  longline job run --agent web-1 --image alpine:latest -- uname -a
  longline job run --any zone=eu --shell 'echo "$GREETING"' -e GREETING=hello
  longline job run --all role=db --json -- df -h /
  tar c . | longline job run -i --agent build-1 -- tar x -C /tmp

${JOB_EXIT_CODES}
Ctrl-C, or a reader of the output that leaves, cancels the job; a second Ctrl-C leaves at once.`;

/** Adds `job`. */
export function registerJobCommands(program: Command, io: CliIo): void {
  const job = program
    .command('job')
    .description('Run, follow and list jobs: one-off commands in sandboxed containers.')
    .enablePositionalOptions()
    .addHelpText('after', '\nExamples:\n  longline job run --agent web-1 -- uptime\n  longline job logs ID --follow');
  const run = job
    .command('run [command...]')
    .description('Run a job and follow it: output passes through unchanged, the exit code is the job’s.')
    .passThroughOptions()
    .option('-d, --detach', 'submit only, and print the id of the job')
    .option('--output', "with --json: print the job's output too, before the result")
    .action(async (argv: string[], options: RunOptions, command: Command) => {
      if (options.detach) await submit(io, command, argv, options);
      else await runAndFollow(io, command, argv, options);
    });
  addRequestOptions(addSpecOptions(run)).addHelpText('after', RUN_EXAMPLES);
  const submitted = job
    .command('submit [command...]')
    .description('Store a job for delivery and print its id.')
    .passThroughOptions()
    .action(async (argv: string[], options: RunOptions, command: Command) => await submit(io, command, argv, options));
  addRequestOptions(addSpecOptions(submitted)).addHelpText(
    'after',
    '\nExample:\n  longline job submit --any "*" -- sleep 60',
  );
  registerSign(job, io);
  registerJobReading(job, io);
  registerJobExplain(job, io);
}

async function runAndFollow(io: CliIo, command: Command, argv: readonly string[], options: RunOptions): Promise<void> {
  using interrupt = new InterruptGuard();
  await withFleet(io, command, async (fleet) => {
    const request = await requestOf(options, argv, fleet.context.controllerId);
    const streamInput = wantsStream(request);
    if (streamInput && request.target?.target.case === 'allOf') {
      throw new LonglineError(
        'invalid',
        '--stdin goes to one agent, but --all was given; use --stdin-file to give all the same',
      );
    }
    const display = { output: !io.json || options.output === true, streamInput };
    const job = await runJob(io, fleet, request, display, interrupt);
    if (io.json) await io.stdout.line(toJson(jobView(job)));
    else await showEnd(io, job, request.target?.target.case === 'allOf');
  });
}

/** What a person needs to hear: nothing after a success on one agent. */
async function showEnd(io: CliIo, job: Job, several: boolean): Promise<void> {
  if (several) {
    if (job.executions.length === 0) return await io.note('no agent matches; nothing was run');
    const columns = executionColumns(Date.now());
    return await io.stderr.write(`\n${renderTable(job.executions, columns)}`);
  }
  const text = jobSummary(job);
  if (text !== '') await io.note(`[longline: ${text}]`);
}

async function submit(io: CliIo, command: Command, argv: readonly string[], options: RunOptions): Promise<void> {
  if (options.stdin)
    throw new LonglineError(
      'invalid',
      '--stdin needs a command that stays; use --stdin-file, or `job run` without --detach',
    );
  const job = await withFleet(io, command, async (fleet: Fleet) => {
    const request = await requestOf(options, argv, fleet.context.controllerId);
    return (await fleet.jobs.submitJob({ job: request })).job!;
  });
  await io.result(jobView(job), () => job.id);
}

function registerSign(job: Command, io: CliIo): void {
  const sign = job
    .command('sign [command...]')
    .description('Sign a job without sending it; `job run --signed FILE` submits it. Needs no controller.')
    .passThroughOptions()
    .option('-o, --out <path>', 'file to write; standard output if left out')
    .action(async (argv: string[], options: RequestOptions & { out?: string }, command: Command) => {
      if (options.signKey === undefined) throw new LonglineError('invalid', '--sign-key is needed to sign');
      if (options.stdin)
        throw new LonglineError('invalid', '--stdin is not known when a job is signed; use --stdin-file');
      const facts = {
        controllerId: options.controllerId ?? controllerIdOf(options, await contextControllerId(io, command)),
        target: targetOf(options),
        ttlMs: options.ttl ?? DEFAULT_SIGNED_TTL_MS,
      };
      const signed = signJob(await specOf(options, argv), facts, await readSigningKey(options.signKey), Date.now());
      const text = signedJobJson(signed);
      if (options.out === undefined) return await io.stdout.write(text);
      await writeFile(options.out, text, { mode: 0o600 });
      await io.result({ path: options.out, key_id: signed.signatures[0]!.keyId }, () => options.out!);
    });
  addRequestOptions(addSpecOptions(sign)).addHelpText(
    'after',
    '\nExample:\n  longline job sign --sign-key me.key --controller-id ID --agent web-1 -o job.json -- reboot-check\n  longline job run --signed job.json',
  );
}

async function contextControllerId(io: CliIo, command: Command): Promise<string> {
  const path = globalOptions(command, io).contextPath ?? defaultContextPath(io.env);
  return (await readContext(path)).controllerId;
}
