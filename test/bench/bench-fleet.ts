// A private engine, controller and agent for benches, and a client of the public API in this process: what a program that
// calls the API sees, without the start of a command line in the figures.
import { Fleet as ApiClient } from '../../src/cli/fleet-connection.ts';
import { readContext } from '../../src/cli/operator-context.ts';
import { dockerMissing, startDocker, type TestEngine } from '../fixtures/engines.ts';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { loadTestImages, TEST_IMAGE, testImageMissing } from '../fixtures/test-image.ts';

/** Agent of the bench. */
export const BENCH_AGENT = 'bench-host';

/** What a machine lacks for benches with an engine. */
export function engineMissing(): string | undefined {
  return dockerMissing() ?? testImageMissing();
}

/** Engine, controller, agent and client. Dispose ends all. */
export interface BenchFleet extends AsyncDisposable {
  readonly engine: TestEngine;
  readonly fleet: Fleet;
  readonly agent: TestAgent;
  readonly api: ApiClient;
}

/** Starts everything; the agent is online when it resolves. */
export async function startBenchFleet(agentArgs: readonly string[] = []): Promise<BenchFleet> {
  await using stack = new AsyncDisposableStack();
  const engine = stack.use(await startDocker());
  await loadTestImages(engine);
  const fleet = stack.use(await startFleet({ dockerHost: engine.host, launcher: true }));
  const agent = await fleet.enrolled(BENCH_AGENT, ['--allowed-image', TEST_IMAGE, ...agentArgs]);
  const api = stack.use(new ApiClient(await readContext(fleet.context), 60_000));
  await api.bringUp();
  const owned = stack.move();
  return { engine, fleet, agent, api, [Symbol.asyncDispose]: async () => await owned.disposeAsync() };
}
