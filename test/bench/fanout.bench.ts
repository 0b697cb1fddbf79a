// One job to all of ten thousand attached agents: from the call until every agent has the command, until every receipt is in
// the controller's store, and until every result is stored and acknowledged. The raw server sends a command of the same
// size to the same clients and counts their receipts; it stores nothing.

import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { JobRequestSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import { Fleet as ApiClient } from '../../src/cli/fleet-connection.ts';
import { readContext } from '../../src/cli/operator-context.ts';
import { newId } from '../../src/core/ids.ts';
import { type Bench, median } from './bench.ts';
import { FleetGround, fleetMissing, GroundController, LightFleet, RawPeer } from './fleet/light-fleet.ts';

const LIMIT_MS = 60_000;

const request = () =>
  create(JobRequestSchema, {
    target: { target: { case: 'allOf', value: { matchLabels: { fleet: 'light' } } } },
    spec: { argv: ['true'] },
    requestId: newId(),
  });

/** Milliseconds from the call until the store has a receipt of every agent. */
async function receiptsMs(
  api: ApiClient,
  database: DatabaseSync,
  count: number,
): Promise<{ reached: number; answered: number }> {
  const { seen } = database.prepare('SELECT coalesce(max(rowid), 0) AS seen FROM commands').get() as { seen: number };
  const received = database.prepare('SELECT count(*) AS count FROM commands WHERE rowid > ? AND state >= 3');
  const startMs = Date.now();
  const submitted = api.jobs.submitJob({ job: request() }).then(() => Date.now() - startMs);
  for (;;) {
    if ((received.get(seen) as { count: number }).count >= count) break;
    if (Date.now() - startMs > LIMIT_MS) throw new Error('not every agent had confirmed the job after a minute');
    await delay(10);
  }
  return { reached: Date.now() - startMs, answered: await submitted };
}

/** Milliseconds from the call until every result was acknowledged. */
async function resultsMs(api: ApiClient, fleet: LightFleet, count: number): Promise<number> {
  const before = fleet.counts.acknowledged;
  const startMs = Date.now();
  await api.jobs.submitJob({ job: request() });
  const all = `${count} results are acknowledged`;
  return (await fleet.until(all, ({ acknowledged }) => acknowledged - before >= count, LIMIT_MS)) - startMs;
}

async function times(rounds: number, measure: () => Promise<number>): Promise<number> {
  const taken: number[] = [];
  for (let round = 0; round < rounds; round++) {
    taken.push(await measure());
    await delay(500);
  }
  return median(taken);
}

/** The bench. */
export const bench: Bench = {
  name: 'fanout',
  description: 'one command to 10,000 agents and back',
  missing: fleetMissing,
  run: async ({ quick, say }) => {
    const count = quick ? 200 : 10_000;
    const rounds = quick ? 1 : 5;
    say(`enrolling and attaching ${count} agents`);
    await using ground = await FleetGround.make(count);
    await using controller = await GroundController.start(ground);
    const answers: number[] = [];
    let receipts: number;
    let results: number;
    {
      await using fleet = await LightFleet.attach(ground, controller.port);
      using api = new ApiClient(await readContext(controller.contextPath), LIMIT_MS);
      await api.bringUp();
      using database = new DatabaseSync(join(ground.dataDir, 'controller.db'), { readOnly: true });
      fleet.answer('receipt');
      await delay(1000);
      await receiptsMs(api, database, count);
      receipts = await times(rounds, async () => {
        const { reached, answered } = await receiptsMs(api, database, count);
        answers.push(answered);
        return reached;
      });
      fleet.answer('receipt and result');
      await delay(1000);
      results = await times(rounds, () => resultsMs(api, fleet, count));
    }
    await controller.command.stop('SIGKILL');
    say('the same with the raw server');
    await using raw = await RawPeer.start(ground);
    await using fleet = await LightFleet.attach(ground, raw.port);
    fleet.answer('receipt');
    await delay(1000);
    await raw.fanOutMs();
    const peer = { name: 'raw http2, nothing stored', value: await times(rounds, () => raw.fanOutMs()) };
    const goal = { kind: 'at most', value: 1000 } as const;
    return [
      { metric: `call → ${count} receipts stored, median`, unit: 'ms', ours: receipts, peer, goal },
      { metric: `call → ${count} results stored, acknowledged`, unit: 'ms', ours: results, peer },
      { metric: 'call → answer to the caller', unit: 'ms', ours: median(answers) },
    ];
  },
};
