// Commands that need no engine, for benches of what tracing costs: each is stored, sent, verified, journalled, refused by the jobs of a
// host without one, journalled again and acknowledged.
import { create } from '@bufbuild/protobuf';
import { RunJobRequestSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import { Fleet as ApiClient } from '../../src/cli/fleet-connection.ts';
import { readContext } from '../../src/cli/operator-context.ts';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';

const AGENT = 'bench-host';
const REQUEST = create(RunJobRequestSchema, {
  job: {
    target: { target: { case: 'agentId', value: AGENT } },
    spec: { argv: ['true'], image: 'busybox' },
  },
});

/** How many are on their way at one time where it says "at once". */
export const AT_ONCE = 16;

/** A controller and an agent, each a process of its own, and a caller. */
export interface CommandSide {
  readonly fleet: Fleet;
  readonly agent: TestAgent;
  readonly api: ApiClient;
}

/** Starts one whose processes have these variables. The stack owns it. */
export async function startSide(
  environment: Record<string, string>,
  stack: AsyncDisposableStack,
): Promise<CommandSide> {
  const fleet = stack.use(await startFleet({ environment }));
  const agent = await fleet.enrolled(AGENT);
  const api = stack.use(new ApiClient(await readContext(fleet.context), 60_000));
  await api.bringUp();
  return { fleet, agent, api };
}

/** How long one takes, from the call to its finished result. */
export async function commandMs({ api }: CommandSide): Promise<number> {
  const startedMs = performance.now();
  let finished = false;
  for await (const { event } of api.streams.jobs.runJob(REQUEST)) finished ||= event.case === 'finished';
  if (!finished) throw new Error('the command did not finish');
  return performance.now() - startedMs;
}

/** How many a second go through, so many at once. */
export async function commandsPerSecond(side: CommandSide, count: number): Promise<number> {
  const startedMs = performance.now();
  let left = count;
  const one = async () => {
    while (left-- > 0) await commandMs(side);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return (count * 1000) / (performance.now() - startedMs);
}
