// What ten thousand attached agents without output cost a controller: resident memory with a control stream each over mTLS,
// beside a raw HTTP/2 server that holds the same connections and streams and does nothing else.
import { setTimeout as delay } from 'node:timers/promises';
import type { Bench } from './bench.ts';
import { FleetGround, fleetMissing, GroundController, LightFleet, RawPeer, residentMiB } from './fleet/light-fleet.ts';

async function attachedMiB(ground: FleetGround, port: number, pid: number, settleMs: number): Promise<number> {
  await using _fleet = await LightFleet.attach(ground, port);
  await delay(settleMs);
  return await residentMiB(pid);
}

/** The bench. */
export const bench: Bench = {
  name: 'memory',
  description: 'memory of a controller with 10,000 attached agents',
  missing: fleetMissing,
  run: async ({ quick, say }) => {
    const count = quick ? 200 : 10_000;
    // Two heartbeat periods: what a stream allocates at its first heartbeats is part of it.
    const settleMs = quick ? 1000 : 30_000;
    say(`enrolling ${count} agents`);
    await using ground = await FleetGround.make(count);
    await using controller = await GroundController.start(ground);
    const emptyMiB = await residentMiB(controller.pid);
    say('attaching them');
    const ours = await attachedMiB(ground, controller.port, controller.pid, settleMs);
    await controller.command.stop('SIGKILL');
    say('the same with the raw server');
    await using raw = await RawPeer.start(ground);
    const rawEmptyMiB = await residentMiB(raw.process.pid!);
    const rawMiB = await attachedMiB(ground, raw.port, raw.process.pid!, settleMs);
    const kibEach = (fullMiB: number, baseMiB: number) => ((fullMiB - baseMiB) * 1024) / count;
    return [
      {
        metric: `${count} agents, resident`,
        unit: 'MiB',
        ours,
        peer: { name: 'raw http2', value: rawMiB },
        goal: { kind: 'at most', value: 1024 },
      },
      {
        metric: 'each agent',
        unit: 'KiB',
        ours: kibEach(ours, emptyMiB),
        peer: { name: 'raw http2', value: kibEach(rawMiB, rawEmptyMiB) },
      },
      { metric: 'controller without agents', unit: 'MiB', ours: emptyMiB },
    ];
  },
};
