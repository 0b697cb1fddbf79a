// What is lost or doubled over many kill -9 of agent and controller, in turn, while jobs print numbered lines. When a kill
// comes is drawn from a seed: after so many more lines were seen. A line that isn't there has to lie in a declared gap.
import { create } from '@bufbuild/protobuf';
import { SubmitJobRequestSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import type { JobSpec } from '#gen/longline/v1/job_pb.js';
import { Fleet as ApiClient } from '../../src/cli/fleet-connection.ts';
import { readContext } from '../../src/cli/operator-context.ts';
import { seededRandom } from '../fixtures/seeded-random.ts';
import { TEST_IMAGE } from '../fixtures/test-image.ts';
import type { Bench } from './bench.ts';
import { BENCH_AGENT, type BenchFleet, engineMissing, startBenchFleet } from './bench-fleet.ts';

const KILLS_PER_JOB = 5;
const MOST_LINES_BETWEEN = 2000;
/** More than the kills of one job let pass. */
const LINES = (KILLS_PER_JOB + 1) * MOST_LINES_BETWEEN;
const DIGITS = 8;
const LINE_BYTES = DIGITS + 1;
const WHOLE_LINE = /(?<=^|\n)\d{8}(?=\n)/g;
const SCRIPT = `i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); printf '%0${DIGITS}d\\n' $i; [ $((i % 100)) -ne 0 ] || sleep 0.05; done`;
const SPEC = { argv: ['sh', '-c', SCRIPT], image: TEST_IMAGE } satisfies Partial<JobSpec>;

interface Tally {
  kills: number;
  jobs: number;
  lost: number;
  doubled: number;
  declared: number;
  wrongEnds: number;
}

/** Calls the controller on a connection of its own, since kills end those that are open. */
async function withApi<T>({ fleet }: BenchFleet, work: (api: ApiClient) => Promise<T>): Promise<T> {
  using api = new ApiClient(await readContext(fleet.context), 60_000);
  await api.bringUp();
  return await work(api);
}

async function submitted(setup: BenchFleet): Promise<string> {
  return await withApi(setup, async (api) => {
    const target = { target: { case: 'agentId', value: BENCH_AGENT } } as const;
    const { job } = await api.jobs.submitJob(create(SubmitJobRequestSchema, { job: { target, spec: SPEC } }));
    return job!.id;
  });
}

/** Resolves once that many bytes of the output, lost ones included, are stored; gives how many there are. */
async function reached(setup: BenchFleet, id: string, bytes: number): Promise<number> {
  return await withApi(setup, async (api) => {
    let at = 0;
    for await (const { output } of api.streams.jobs.tailLogs({ jobId: id, follow: true })) {
      if (output?.part.case === 'chunk') at = Number(output.part.value.offset) + output.part.value.data.length;
      else if (output?.part.case === 'gap') at = Number(output.part.value.to);
      if (at >= bytes) break;
    }
    return at;
  });
}

async function kill(setup: BenchFleet, what: 'agent' | 'controller'): Promise<void> {
  if (what === 'agent') {
    await setup.agent.kill9();
    setup.agent.start();
  } else {
    await setup.fleet.controller.stop('SIGKILL');
    await setup.fleet.startController();
  }
}

/** Reads a whole log and counts what is wrong with it. */
async function checked(setup: BenchFleet, id: string, tally: Tally): Promise<void> {
  let text = '';
  let at = 0;
  let declared = 0;
  await withApi(setup, async (api) => {
    const { done, job } = await api.jobs.waitResult({ jobId: id, timeout: { seconds: 120n } });
    if (!done || job?.executions[0]?.result?.exitCode !== 0) tally.wrongEnds += 1;
    for await (const { output } of api.streams.jobs.tailLogs({ jobId: id, follow: true })) {
      if (output?.part.case === 'chunk') {
        if (Number(output.part.value.offset) !== at)
          throw new Error(`a chunk at ${output.part.value.offset}, not ${at}`);
        text += Buffer.from(output.part.value.data).toString('latin1');
        at += output.part.value.data.length;
      } else if (output?.part.case === 'gap') {
        const bytes = Number(output.part.value.to - output.part.value.from);
        declared += bytes;
        at += bytes;
        // What stands around a gap is no line.
        text += '?';
      }
    }
  });
  const seen = new Map<string, number>();
  for (const [line] of text.matchAll(WHOLE_LINE)) seen.set(line, (seen.get(line) ?? 0) + 1);
  for (const count of seen.values()) tally.doubled += count - 1;
  tally.lost += Math.max(0, LINES - seen.size - Math.ceil(declared / LINE_BYTES));
  tally.declared += declared;
}

/** The bench. */
export const bench: Bench = {
  name: 'lost',
  description: 'lines lost or doubled over kill -9 of agent and controller',
  missing: engineMissing,
  run: async ({ quick, say }) => {
    await using setup = await startBenchFleet();
    const wanted = quick ? 4 : 100;
    const random = seededRandom(wanted);
    const tally: Tally = { kills: 0, jobs: 0, lost: 0, doubled: 0, declared: 0, wrongEnds: 0 };
    while (tally.kills < wanted) {
      const id = await submitted(setup);
      tally.jobs += 1;
      let at = 0;
      for (let count = 0; count < KILLS_PER_JOB && tally.kills < wanted; count++) {
        const next = at + (1 + Math.floor(random() * (MOST_LINES_BETWEEN - 1))) * LINE_BYTES;
        at = await reached(setup, id, Math.min(next, (LINES - 1) * LINE_BYTES));
        await kill(setup, tally.kills % 2 === 0 ? 'agent' : 'controller');
        tally.kills += 1;
      }
      await checked(setup, id, tally);
      say(`${tally.kills} kills, ${tally.lost} lines lost, ${tally.doubled} doubled, ${tally.declared} bytes declared`);
    }
    return [
      { metric: `kills over ${tally.jobs} jobs`, unit: '', ours: tally.kills },
      { metric: 'lost and not declared', unit: 'lines', ours: tally.lost, goal: { kind: 'at most', value: 0 } },
      { metric: 'doubled', unit: 'lines', ours: tally.doubled, goal: { kind: 'at most', value: 0 } },
      { metric: 'declared as gaps', unit: 'B', ours: tally.declared },
      { metric: 'jobs that did not end well', unit: '', ours: tally.wrongEnds, goal: { kind: 'at most', value: 0 } },
    ];
  },
};
