// kill -9 of a controller with ten thousand attached agents, and its restart on the same address: how long until all are
// attached again, each having noticed, backed off, shaken hands and been welcomed. Beside it the same with the raw server.
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Bench } from './bench.ts';
import { FleetGround, fleetMissing, GroundController, LightFleet, processorMs, RawPeer } from './fleet/light-fleet.ts';

const LIMIT_MS = 180_000;

interface Storm {
  readonly seconds: number;
  readonly processorSeconds: number;
  readonly resumedShare: number;
}

async function storm(
  fleet: LightFleet,
  count: number,
  kill: () => void,
  restart: () => Promise<{ readonly pid: number }>,
): Promise<Storm> {
  const resumedBefore = fleet.counts.resumed;
  const startMs = Date.now();
  kill();
  const restarted = restart();
  await fleet.until('the agents have noticed', ({ attached }) => attached === 0, LIMIT_MS);
  const doneMs = await fleet.until('all are attached again', ({ attached }) => attached >= count, LIMIT_MS);
  const { pid } = await restarted;
  return {
    seconds: (doneMs - startMs) / 1000,
    processorSeconds: (await processorMs(pid)) / 1000,
    resumedShare: (100 * (fleet.counts.resumed - resumedBefore)) / count,
  };
}

/** The bench. */
export const bench: Bench = {
  name: 'storm',
  description: 'kill -9 of the controller, until 10,000 agents are attached again',
  missing: fleetMissing,
  run: async ({ quick, say }) => {
    const count = quick ? 200 : 10_000;
    say(`enrolling and attaching ${count} agents`);
    await using ground = await FleetGround.make(count);
    await using stack = new AsyncDisposableStack();
    const controller = stack.use(await GroundController.start(ground));
    let ours: Storm;
    {
      await using fleet = await LightFleet.attach(ground, controller.port);
      await delay(2000);
      say('killing the controller');
      const kill = () => void controller.command.process.kill('SIGKILL');
      ours = await storm(fleet, count, kill, async () => {
        await controller.command.outcome();
        return stack.use(await GroundController.start(ground, controller.port));
      });
    }
    await stack.disposeAsync();
    say('the same with the raw server');
    await using peers = new AsyncDisposableStack();
    const raw = peers.use(await RawPeer.start(ground));
    await using fleet = await LightFleet.attach(ground, raw.port);
    await delay(2000);
    const peer = await storm(
      fleet,
      count,
      () => void raw.process.kill('SIGKILL'),
      async () => {
        // A killed process holds its port until the kernel has closed its sockets.
        if (raw.process.exitCode === null && raw.process.signalCode === null) await once(raw.process, 'exit');
        const again = peers.use(await RawPeer.start(ground, raw.port));
        return { pid: again.process.pid! };
      },
    );
    const named = (value: number) => ({ name: 'raw http2', value });
    return [
      {
        metric: `kill -9 → ${count} attached`,
        unit: 's',
        ours: ours.seconds,
        peer: named(peer.seconds),
        goal: { kind: 'at most', value: 10 },
      },
      { metric: 'processor time of it', unit: 's', ours: ours.processorSeconds, peer: named(peer.processorSeconds) },
      { metric: 'TLS sessions resumed', unit: '%', ours: ours.resumedShare, peer: named(peer.resumedShare) },
    ];
  },
};
