// What tracing costs a command, from the call to its finished result: two fleets beside each other, each a controller and an agent as
// processes of their own; one sends every trace to a collector, the other none.
import { OtlpReceiver } from '../fixtures/otlp-receiver.ts';
import { type Bench, median, percentile } from './bench.ts';
import { AT_ONCE, commandMs, commandsPerSecond, startSide } from './traced-commands.ts';

export const bench: Bench = {
  name: 'tracing',
  description: 'a command with every trace recorded and sent, beside one without tracing',
  missing: () => undefined,
  run: async ({ quick, say }) => {
    const [warmUp, single, many, rounds] = quick ? [5, 10, 32, 1] : [50, 100, 400, 5];
    await using stack = new AsyncDisposableStack();
    const receiver = stack.use(await OtlpReceiver.start());
    const off = { side: await startSide({}, stack), ms: [] as number[], perSecond: [] as number[] };
    // As a collector is usually reached: batches each second.
    const environment = { ...receiver.environment(), OTEL_BSP_SCHEDULE_DELAY: '1000' };
    const on = { side: await startSide(environment, stack), ms: [] as number[], perSecond: [] as number[] };
    for (const { side } of [off, on]) for (let i = 0; i < warmUp; i++) await commandMs(side);
    for (let round = 0; round < rounds; round++) {
      // In turns, so that whatever else the machine does meets both.
      for (let i = 0; i < single; i++) for (const { ms, side } of [off, on]) ms.push(await commandMs(side));
      for (const { perSecond, side } of [off, on]) perSecond.push(await commandsPerSecond(side, many));
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
