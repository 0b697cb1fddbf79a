// 100 B lines all the way: container → spool → link → stored → follower, beside a bare `docker run` attached to the same
// container on the same engine with no log driver, and one with the log driver that our jobs have for their recovery.
import { create } from '@bufbuild/protobuf';
import { RunJobRequestSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import { runCommand } from '../../deploy/dev/command.ts';
import { TEST_IMAGE } from '../fixtures/test-image.ts';
import { type Bench, median } from './bench.ts';
import { BENCH_AGENT, type BenchFleet, engineMissing, startBenchFleet } from './bench-fleet.ts';

const LINE = 'x'.repeat(99);

/** Rates over the time from first to last byte, so that starting a container isn't in them. */
class RateMeter {
  #bytes = 0;
  #first: { readonly atMs: number; readonly bytes: number } | undefined;
  #lastMs = 0;

  add(sizeBytes: number): void {
    this.#lastMs = performance.now();
    this.#bytes += sizeBytes;
    this.#first ??= { atMs: this.#lastMs, bytes: sizeBytes };
  }

  get bytes(): number {
    return this.#bytes;
  }

  get megabytesPerSecond(): number {
    if (this.#first === undefined) throw new Error('nothing was received');
    return (this.#bytes - this.#first.bytes) / 1e3 / (this.#lastMs - this.#first.atMs);
  }
}

const command = (lines: number) => ['sh', '-c', `yes ${LINE} | head -n ${lines}`] as const;

async function followed({ api }: BenchFleet, lines: number): Promise<number> {
  const meter = new RateMeter();
  const request = create(RunJobRequestSchema, {
    job: {
      target: { target: { case: 'agentId', value: BENCH_AGENT } },
      spec: { argv: [...command(lines)], image: TEST_IMAGE, maxOutputBytes: 2n ** 32n, resources: { cpus: 2 } },
    },
  });
  for await (const { event } of api.streams.jobs.runJob(request)) {
    if (event.case !== 'output') continue;
    if (event.value.part.case === 'gap') throw new Error(`a gap: ${event.value.part.value.reason}`);
    if (event.value.part.case === 'chunk') meter.add(event.value.part.value.data.length);
  }
  if (meter.bytes !== lines * 100) throw new Error(`${meter.bytes} of ${lines * 100} bytes came`);
  return meter.megabytesPerSecond;
}

async function attached(host: string, logDriver: string, lines: number): Promise<number> {
  const meter = new RateMeter();
  const flags = ['--rm', `--log-driver=${logDriver}`, '--network=none', '--cpus=2'];
  const result = await runCommand(['docker', '-H', host, 'run', ...flags, TEST_IMAGE, ...command(lines)], {
    maxOutputBytes: 1024,
    timeoutMs: 300_000,
    onStdout: (data) => meter.add(data.length),
  });
  if (result.code !== 0 || meter.bytes !== lines * 100)
    throw new Error(`docker gave ${meter.bytes} bytes: ${result.stderr}`);
  return meter.megabytesPerSecond;
}

/** The bench. */
export const bench: Bench = {
  name: 'logs',
  description: '100 B lines from container to follower, durable on the way',
  missing: engineMissing,
  run: async ({ quick, say }) => {
    await using setup = await startBenchFleet(['--jobs-max-output', '8GiB', '--jobs-max-cpus', '2']);
    const lines = quick ? 20_000 : 1_000_000;
    const ours: number[] = [];
    const peer: number[] = [];
    const logged: number[] = [];
    for (let run = 0; run < (quick ? 1 : 3); run++) {
      say(`run ${run + 1}: ${(lines * 100) / 1e6} MB each`);
      peer.push(await attached(setup.engine.host, 'none', lines));
      logged.push(await attached(setup.engine.host, 'local', lines));
      ours.push(await followed(setup, lines));
    }
    return [
      {
        metric: 'followed output',
        unit: 'MB/s',
        ours: median(ours),
        peer: { name: 'docker run, attached', value: median(peer) },
        goal: { kind: 'ratio at least', value: 0.9 },
      },
      {
        metric: 'followed output',
        unit: 'MB/s',
        ours: median(ours),
        peer: { name: 'docker run, attached, with our log driver', value: median(logged) },
      },
    ];
  },
};
