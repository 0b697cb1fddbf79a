// What an idle agent costs its host: resident memory and processor time, with the controller there and with it gone.
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { runCommand } from '../../deploy/dev/command.ts';
import { startDocker } from '../fixtures/engines.ts';
import { startFleet } from '../fixtures/fleet.ts';
import type { Bench } from './bench.ts';
import { BENCH_AGENT, engineMissing } from './bench-fleet.ts';

interface Usage {
  readonly rssMiB: number;
  readonly cpuSeconds: number;
}

async function usageOf(pid: number, ticksPerSecond: number): Promise<Usage> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    rssMiB: Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024,
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond,
  };
}

async function observe(pid: number, seconds: number, ticksPerSecond: number) {
  const first = await usageOf(pid, ticksPerSecond);
  await delay(seconds * 1000);
  const last = await usageOf(pid, ticksPerSecond);
  return { rssMiB: last.rssMiB, cpuPercent: ((last.cpuSeconds - first.cpuSeconds) / seconds) * 100, first };
}

/** The bench. */
export const bench: Bench = {
  name: 'agent',
  description: 'what an idle agent costs, with and without its controller',
  missing: () => (process.platform === 'linux' ? engineMissing() : 'reads /proc: needs Linux'),
  run: async ({ quick, say }) => {
    await using engine = await startDocker();
    await using fleet = await startFleet({ dockerHost: engine.host, launcher: true });
    const agent = await fleet.enrolled(BENCH_AGENT);
    const pid = agent.command.process.pid!;
    const ticks = Number((await runCommand(['getconf', 'CLK_TCK'])).stdout);
    const seconds = quick ? 2 : 60;
    say(`${seconds} s to settle, then ${seconds} s idle and ${seconds} s without the controller`);
    await delay(seconds * 1000);
    const idle = await observe(pid, seconds, ticks);
    await fleet.controller.stop('SIGKILL');
    const alone = await observe(pid, seconds, ticks);
    return [
      { metric: 'idle, resident', unit: 'MiB', ours: idle.rssMiB, goal: { kind: 'at most', value: 80 } },
      { metric: 'idle, processor', unit: '% of a core', ours: idle.cpuPercent, goal: { kind: 'at most', value: 0.2 } },
      { metric: 'controller away, resident', unit: 'MiB', ours: alone.rssMiB },
      { metric: 'controller away, growth', unit: 'MiB', ours: alone.rssMiB - idle.rssMiB },
      { metric: 'controller away, processor', unit: '% of a core', ours: alone.cpuPercent },
    ];
  },
};
