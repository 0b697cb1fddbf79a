// What tracing costs a command, from the call to its finished result: two fleets beside each other, each a controller and an agent as
// processes of their own; one sends every trace to a collector, the other none. The command needs no engine: it is stored, sent,
// verified, journalled, refused by the jobs of a host without one, journalled again and acknowledged.
import { create } from '@bufbuild/protobuf';
import { RunJobRequestSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import { Fleet as ApiClient } from '../../src/cli/fleet-connection.ts';
import { readContext } from '../../src/cli/operator-context.ts';
import { startFleet } from '../fixtures/fleet.ts';
import { OtlpReceiver } from '../fixtures/otlp-receiver.ts';
import { type Bench, median, percentile } from './bench.ts';

const AGENT = 'bench-host';
const AT_ONCE = 16;
const REQUEST = create(RunJobRequestSchema, {
  job: {
    target: { target: { case: 'agentId', value: AGENT } },
    spec: { argv: ['true'], image: 'busybox' },
  },
});

async function startSide(environment: Record<string, string>, stack: AsyncDisposableStack): Promise<ApiClient> {
  const fleet = stack.use(await startFleet({ environment }));
  await fleet.enrolled(AGENT);
  const api = stack.use(new ApiClient(await readContext(fleet.context), 60_000));
  await api.bringUp();
  return api;
}

async function commandMs(api: ApiClient): Promise<number> {
  const startedMs = performance.now();
  let finished = false;
  for await (const { event } of api.streams.jobs.runJob(REQUEST)) finished ||= event.case === 'finished';
  if (!finished) throw new Error('the command did not finish');
  return performance.now() - startedMs;
}

async function commandsPerSecond(api: ApiClient, count: number): Promise<number> {
  const startedMs = performance.now();
  let left = count;
  const one = async () => {
    while (left-- > 0) await commandMs(api);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return (count * 1000) / (performance.now() - startedMs);
}

export const bench: Bench = {
  name: 'tracing',
  description: 'a command with every trace recorded and sent, beside one without tracing',
  missing: () => undefined,
  run: async ({ quick, say }) => {
    const [warmUp, single, many, rounds] = quick ? [5, 10, 32, 1] : [50, 100, 400, 5];
    await using stack = new AsyncDisposableStack();
    const receiver = stack.use(await OtlpReceiver.start());
    const off = { api: await startSide({}, stack), ms: [] as number[], perSecond: [] as number[] };
    // As a collector is usually reached: batches each second.
    const environment = { ...receiver.environment(), OTEL_BSP_SCHEDULE_DELAY: '1000' };
    const on = { api: await startSide(environment, stack), ms: [] as number[], perSecond: [] as number[] };
    for (const { api } of [off, on]) for (let i = 0; i < warmUp; i++) await commandMs(api);
    for (let round = 0; round < rounds; round++) {
      // In turns, so that whatever else the machine does meets both.
      for (let i = 0; i < single; i++) for (const side of [off, on]) side.ms.push(await commandMs(side.api));
      for (const side of [off, on]) side.perSecond.push(await commandsPerSecond(side.api, many));
    }
    if (receiver.spans.length === 0) throw new Error('no span came: nothing was traced');
    say(`${receiver.spans.length} spans came`);
    const peer = (value: number) => ({ name: 'without tracing', value });
    return [
      { metric: 'command, p50', unit: 'ms', ours: median(on.ms), peer: peer(median(off.ms)) },
      { metric: 'command, p99', unit: 'ms', ours: percentile(on.ms, 0.99), peer: peer(percentile(off.ms, 0.99)) },
      {
        metric: `commands, ${AT_ONCE} at once`,
        unit: '1/s',
        ours: median(on.perSecond),
        peer: peer(median(off.perSecond)),
      },
    ];
  },
};
