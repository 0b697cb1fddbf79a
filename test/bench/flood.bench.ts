// How long a command takes while the same agent floods logs: a job that the agent's policy refuses, from the API call to the
// refusal at the caller. That is every hop and every durable write of a command, and no container. The peer is the same agent
// before the flood. A follower of the flood, where there is one, is a process of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import {
  CancelJobRequestSchema,
  RunJobRequestSchema,
  SubmitJobRequestSchema,
} from '#gen/longline/fleet/v1/job_service_pb.js';
import { JobState } from '#gen/longline/v1/job_pb.js';
import { TEST_IMAGE } from '../fixtures/test-image.ts';
import { type Bench, type BenchRow, percentile } from './bench.ts';
import { BENCH_AGENT, type BenchFleet, engineMissing, startBenchFleet } from './bench-fleet.ts';

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts');
const LINE = 'x'.repeat(99);
/** Between two commands, so that they come at any moment of the flood. */
const PAUSE_MS = 30;
const GOAL_MS = 20;

const target = { target: { case: 'agentId', value: BENCH_AGENT } } as const;

async function refusedMs({ api }: BenchFleet): Promise<number> {
  const startedMs = performance.now();
  const spec = { argv: ['true'], image: 'not-allowed:latest' };
  let state: JobState | undefined;
  for await (const { event } of api.streams.jobs.runJob(create(RunJobRequestSchema, { job: { target, spec } }))) {
    if (event.case === 'execution') state = event.value.state;
  }
  if (state !== JobState.REJECTED) throw new Error(`the job was ${state === undefined ? 'lost' : JobState[state]}`);
  return performance.now() - startedMs;
}

async function sample(fleet: BenchFleet, count: number): Promise<number[]> {
  await refusedMs(fleet);
  const samples: number[] = [];
  for (let index = 0; index < count; index++) {
    samples.push(await refusedMs(fleet));
    await pause(PAUSE_MS);
  }
  return samples;
}

/** Begins a job that writes without end; resolves once its output arrives. Gives its id. */
async function flood({ api }: BenchFleet): Promise<string> {
  const spec = { argv: ['yes', LINE], image: TEST_IMAGE, maxOutputBytes: 2n ** 40n };
  const { job } = await api.jobs.submitJob(create(SubmitJobRequestSchema, { job: { target, spec } }));
  for await (const { output } of api.streams.jobs.tailLogs({ jobId: job!.id, follow: true })) {
    if (output?.part.case === 'chunk') break;
  }
  return job!.id;
}

async function storedBytes({ api }: BenchFleet, id: string): Promise<number> {
  await api.jobs.cancelJob(create(CancelJobRequestSchema, { jobId: id }));
  const { job } = await api.jobs.waitResult({ jobId: id });
  return Number(job?.executions[0]?.result?.stdoutBytes ?? 0n);
}

function rows(what: string, samples: readonly number[], idle: readonly number[], goal: boolean): BenchRow[] {
  const peer = (fraction: number) => ({ name: 'no flood', value: percentile(idle, fraction) });
  return [
    { metric: `${what}, p50`, unit: 'ms', ours: percentile(samples, 0.5), peer: peer(0.5) },
    {
      metric: `${what}, p99`,
      unit: 'ms',
      ours: percentile(samples, 0.99),
      peer: peer(0.99),
      ...(goal && { goal: { kind: 'at most', value: GOAL_MS } }),
    },
  ];
}

/** The bench. */
export const bench: Bench = {
  name: 'flood',
  description: 'a command while the same agent floods logs',
  missing: engineMissing,
  run: async ({ quick, say }) => {
    await using setup = await startBenchFleet(['--jobs-max-output', '1024GiB']);
    const count = quick ? 5 : 300;
    say(`${count} commands without a flood`);
    const idle = await sample(setup, count);
    const flooded: number[][] = [];
    let rate = 0;
    for (const followed of [false, true]) {
      say(`${count} commands beside a flood${followed ? ' that is followed' : ''}`);
      const startedMs = performance.now();
      const id = await flood(setup);
      const args = ['--', MAIN, 'job', 'logs', id, '--follow'];
      const follower = followed ? spawn(process.execPath, args, { env: setup.fleet.env, stdio: 'ignore' }) : undefined;
      const gone = follower === undefined ? undefined : once(follower, 'exit');
      flooded.push(await sample(setup, count));
      const bytes = await storedBytes(setup, id);
      rate = bytes / 1e3 / (performance.now() - startedMs);
      follower?.kill('SIGKILL');
      await gone;
    }
    return [
      ...rows('refused job', flooded[0]!, idle, true),
      ...rows('refused job, flood followed', flooded[1]!, idle, true),
      { metric: 'the followed flood', unit: 'MB/s', ours: rate },
    ];
  },
};
