// From a call to the first byte of output at the caller: a signed, hardened, audited job through controller and agent, warm
// and cold, beside `docker run --rm` with the same image and the same flags on the same engine.
import { create } from '@bufbuild/protobuf';
import { RunJobRequestSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import { runCommand } from '../../deploy/dev/command.ts';
import { listContainers } from '../fixtures/engine-query.ts';
import { TEST_IMAGE } from '../fixtures/test-image.ts';
import { type Bench, median, percentile } from './bench.ts';
import { BENCH_AGENT, type BenchFleet, engineMissing, startBenchFleet } from './bench-fleet.ts';

const HARDENED_FLAGS = [
  ...['--network=none', '--cap-drop=ALL', '--security-opt=no-new-privileges', '--read-only', '--user=65534:65534'],
  ...['--pids-limit=64', '--memory=256m', '--memory-swap=256m', '--cpus=0.5', '--ipc=none'],
  ...['--tmpfs=/tmp:rw,noexec,nosuid,size=64m'],
];

async function jobMs({ api }: BenchFleet, warm: boolean): Promise<number> {
  const startedMs = performance.now();
  let firstByteMs: number | undefined;
  let wasWarm: boolean | undefined;
  const request = create(RunJobRequestSchema, {
    job: {
      target: { target: { case: 'agentId', value: BENCH_AGENT } },
      spec: { argv: ['echo', 'x'], image: TEST_IMAGE },
    },
  });
  for await (const { event } of api.streams.jobs.runJob(request)) {
    if (event.case === 'output' && event.value.part.case === 'chunk') firstByteMs ??= performance.now() - startedMs;
    if (event.case === 'finished') wasWarm = event.value.executions[0]?.result?.warm;
  }
  if (firstByteMs === undefined) throw new Error('the job ended without output');
  if (wasWarm !== warm) throw new Error(`the job was ${wasWarm ? 'warm' : 'cold'}`);
  return firstByteMs;
}

async function dockerMs(host: string): Promise<number> {
  const startedMs = performance.now();
  let firstByteMs = Number.NaN;
  const argv = ['docker', '-H', host, 'run', '--rm', ...HARDENED_FLAGS, TEST_IMAGE, 'echo', 'x'] as const;
  const onStdout = () => {
    if (Number.isNaN(firstByteMs)) firstByteMs = performance.now() - startedMs;
  };
  const result = await runCommand([...argv], { onStdout });
  if (result.code !== 0) throw new Error(`docker run gave ${result.code}: ${result.stderr}`);
  return firstByteMs;
}

async function poolFull({ engine }: BenchFleet, size: number): Promise<void> {
  const endsAt = performance.now() + 30_000;
  for (;;) {
    const running = (await listContainers(engine.socketPath)).filter(({ State }) => State === 'running');
    if (running.length >= size) return;
    if (performance.now() > endsAt) throw new Error(`the warm pool has ${running.length} of ${size} after 30 s`);
    // Asking without a pause would keep the engine from what is waited for.
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function sample(count: number, one: () => Promise<number>): Promise<number[]> {
  await one();
  const samples: number[] = [];
  for (let index = 0; index < count; index++) samples.push(await one());
  return samples;
}

/** The bench. */
export const bench: Bench = {
  name: 'jobs',
  description: 'API call → first output byte at the caller, beside docker run --rm',
  missing: engineMissing,
  run: async ({ quick, say }) => {
    const count = quick ? 3 : 30;
    const warmCount = quick ? 3 : 100;
    let cold: number[];
    let peer: number[];
    {
      await using setup = await startBenchFleet();
      say(`${count} cold jobs and docker runs in turn`);
      peer = [];
      cold = await sample(count, async () => {
        peer.push(await dockerMs(setup.engine.host));
        return await jobMs(setup, false);
      });
    }
    await using setup = await startBenchFleet(['--warm-pool', `${TEST_IMAGE}=2`]);
    say(`${warmCount} warm jobs`);
    const warm = await sample(warmCount, async () => {
      await poolFull(setup, 2);
      return await jobMs(setup, true);
    });
    const docker = { name: 'docker run --rm', value: median(peer) };
    return [
      {
        metric: 'warm, p50',
        unit: 'ms',
        ours: median(warm),
        peer: docker,
        goal: { kind: 'ratio at most', value: 1 / 30 },
      },
      { metric: 'warm, p99', unit: 'ms', ours: percentile(warm, 0.99) },
      { metric: 'cold, p50', unit: 'ms', ours: median(cold), peer: docker, goal: { kind: 'ratio at most', value: 1 } },
      { metric: 'cold, p99', unit: 'ms', ours: percentile(cold, 0.99) },
    ];
  },
};
