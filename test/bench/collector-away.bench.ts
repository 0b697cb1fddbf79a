// What becomes of the memory of agent and controller, which send traces, figures and log lines, while their collector refuses, never
// answers, or answers after ten seconds: what they hold after thousands of commands more than after the first, which have filled every
// queue. Beside it the same with a collector that takes all at once. An agent remembers each command for as long as it could come
// again, so that it grows by some 500 bytes each in any case.
import { OtlpReceiver } from '../fixtures/otlp-receiver.ts';
import type { Bench, BenchRow } from './bench.ts';
import { HeldMemory } from './held-memory.ts';
import { type CommandSide, commandsPerSecond, startSide } from './traced-commands.ts';

const MIB = 1024 * 1024;
/** Less than a queue of spans or log lines would take each minute. */
const GOAL_MIB = 5;
const COLLECTORS = [
  { what: 'takes all', behaviour: 'takes', delayMs: 0 },
  { what: 'refuses', behaviour: 'refuses', delayMs: 0 },
  { what: 'never answers', behaviour: 'hangs', delayMs: 0 },
  { what: 'answers after 10 s', behaviour: 'takes', delayMs: 10_000 },
] as const;

interface Growth {
  readonly agent: number;
  readonly controller: number;
}

/** Held, in MiB. */
async function heldBy({ agent, fleet }: CommandSide, memory: HeldMemory): Promise<Growth> {
  const of = async (pid: number | undefined) => (await memory.of(pid!)) / MIB;
  return { agent: await of(agent.command.process.pid), controller: await of(fleet.controller.process.pid) };
}

/** What a process said of losses, for whoever looks on. */
function lossesOf(stderr: string): readonly string[] {
  const lines = stderr.split('\n').filter((line) => line.startsWith('{'));
  return lines
    .map((line) => JSON.parse(line) as { msg: string })
    .flatMap((line) => (/are lost|did not get/.test(line.msg) ? [JSON.stringify(line)] : []));
}

async function growthWith(
  { behaviour, delayMs, what }: (typeof COLLECTORS)[number],
  [first, more]: readonly [number, number],
  say: (text: string) => void,
): Promise<Growth> {
  await using stack = new AsyncDisposableStack();
  const receiver = stack.use(await OtlpReceiver.start());
  Object.assign(receiver, { behaviour, delayMs });
  const memory = stack.use(await HeldMemory.open());
  const environment = {
    ...memory.environment,
    ...receiver.environment(),
    OTEL_LOGS_EXPORTER: 'otlp',
    OTEL_BSP_SCHEDULE_DELAY: '1000',
    OTEL_METRIC_EXPORT_INTERVAL: '1000',
  };
  const side = await startSide(environment, stack);
  await commandsPerSecond(side, first);
  const early = await heldBy(side, memory);
  const perSecond = await commandsPerSecond(side, more);
  const late = await heldBy(side, memory);
  const figures = (['agent', 'controller'] as const).map(
    (one) => `${one} ${early[one].toFixed(1)} → ${late[one].toFixed(1)} MiB`,
  );
  say(`collector ${what}: ${figures.join(', ')}; ${perSecond.toFixed(0)} commands/s; ${receiver.requests} requests`);
  const told = [side.agent.command.stderr, side.fleet.controller.stderr].flatMap(lossesOf);
  for (const line of told) say(line);
  if (behaviour !== 'takes' && told.length === 0) throw new Error('nobody said that anything was lost');
  return { agent: late.agent - early.agent, controller: late.controller - early.controller };
}

export const bench: Bench = {
  name: 'collector-away',
  description: 'memory held by agent and controller while their collector is away or slow',
  missing: () => (process.platform === 'linux' ? undefined : 'reads /proc: needs Linux'),
  run: async ({ quick, say }) => {
    const counts = quick ? ([400, 200] as const) : ([1000, 3000] as const);
    const [taking, ...away] = COLLECTORS;
    const usual = await growthWith(taking, counts, say);
    const rows: BenchRow[] = [];
    for (const collector of away) {
      const grown = await growthWith(collector, counts, say);
      for (const one of ['agent', 'controller'] as const) {
        const metric = `growth of the ${one} over ${counts[1]} commands, collector ${collector.what}`;
        const peer = { name: 'collector takes all', value: usual[one] };
        rows.push({ metric, unit: 'MiB', ours: grown[one], peer, goal: { kind: 'at most', value: GOAL_MIB } });
      }
    }
    return rows;
  },
};
