// Meter, thresholds and events of programs that really run, on the real kernel.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EventRelay } from '../../../src/capabilities/programs/event-relay.ts';
import type { ProgramFigures } from '../../../src/capabilities/programs/figures.ts';
import { type MeterSubject, ProgramMeter } from '../../../src/capabilities/programs/meter.ts';
import { judge } from '../../../src/capabilities/programs/thresholds.ts';
import type { HostEvent } from '../../../src/core/capability.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { usualCounter } from '../../fixtures/bpf/objects.ts';
import { BpfHost, bpfHostMissing } from '../../fixtures/bpf-host.ts';

const PLACE = { program: 'watched', revision: 1 };
const COUNTERS = {
  packets: usualCounter('packets'),
  violations: undefined,
  errors: usualCounter('errors'),
  others: {},
};
const SUBJECT: MeterSubject = {
  place: PLACE,
  counters: COUNTERS,
  events: { events: 0, droppedEvents: 0 },
  closely: false,
};
const LOOK = { checkIntervalMs: 30_000, inProportion: false };
const OFF = { maxErrors: 0, maxViolations: 0, maxCpuPercent: 0, maxLatencyMs: 0, maxMemoryKb: 0, minRuns: 100 };
const { signal } = new AbortController();

function meterOf({ kernel }: BpfHost): ProgramMeter {
  return new ProgramMeter({ kernel, clock: systemClock, log: silentLogger, checkIntervalMs: 1_000 });
}

async function look(meter: ProgramMeter, subject = SUBJECT): Promise<ProgramFigures> {
  const [measurement] = await meter.look([subject], signal);
  assert.ok(measurement?.kind === 'measured', `it was ${measurement?.kind}`);
  return measurement.figures;
}

describe('watching programs on the kernel', { skip: bpfHostMissing() ?? false }, () => {
  it('finds one that takes its time by its CPU and latency', async () => {
    await using host = new BpfHost();
    await host.load('xdp-slow', PLACE);
    using meter = meterOf(host);
    await meter.begin(SUBJECT, signal);
    await host.run(PLACE, 'count_packets', 500);
    const figures = await look(meter);
    assert.deepEqual([figures.runs, figures.packets, figures.packetsDelta], [500n, 500n, 500n]);
    assert.ok(figures.latencyMs > 0 && figures.cpuPercent > 0 && figures.memoryKb > 0);
    // The time of all calls is both: runs × latency, and CPU × time.
    const spentMs = Number(figures.runs) * figures.latencyMs;
    assert.ok(Math.abs(spentMs - (figures.cpuPercent / 100) * figures.countedMs) < spentMs / 1000);
    const half = { maxCpuPercent: figures.cpuPercent / 2, maxLatencyMs: figures.latencyMs / 2 };
    assert.equal(judge(figures, { ...OFF, ...half }, LOOK)?.trigger, 'cpu');
    assert.equal(judge(figures, { ...OFF, ...half, maxCpuPercent: 0 }, LOOK)?.trigger, 'latency');
    assert.equal(judge(figures, { ...OFF, ...half, minRuns: 501 }, LOOK), undefined);
    assert.equal(judge(figures, { ...OFF, maxMemoryKb: figures.memoryKb }, LOOK), undefined);
    assert.equal(judge(figures, { ...OFF, maxMemoryKb: figures.memoryKb - 1 }, LOOK)?.trigger, 'memory');
  });

  it('finds one that errs by what came since the last look', async () => {
    await using host = new BpfHost();
    await host.load('xdp-counter-bad', PLACE);
    using meter = meterOf(host);
    await meter.begin(SUBJECT, signal);
    await host.run(PLACE, 'count_packets', 11);
    const figures = await look(meter);
    assert.deepEqual([figures.errors, figures.errorsDelta], [11n, 11n]);
    assert.equal(judge(figures, { ...OFF, maxErrors: 10 }, LOOK)?.value, 11);
    const quiet = await look(meter);
    assert.deepEqual([quiet.errors, quiet.errorsDelta, quiet.runs], [11n, 0n, 0n]);
    assert.equal(judge(quiet, { ...OFF, maxErrors: 10 }, LOOK), undefined);
  });

  it('has the kernel count a busy one in windows only, and is not led astray by others who have it count', async () => {
    await using host = new BpfHost();
    await host.load('xdp-counter', PLACE);
    // Others may have it count for themselves at the same time, so that what the kernel does is no sign of what the meter wants.
    let held = 0;
    const holdStatistics = (): Disposable => {
      const hold = host.kernel.holdStatistics();
      held += 1;
      return {
        [Symbol.dispose]: () => {
          held -= 1;
          hold[Symbol.dispose]();
        },
      };
    };
    const kernel = {
      holdStatistics,
      stats: host.kernel.stats.bind(host.kernel),
      readCounters: host.kernel.readCounters.bind(host.kernel),
    };
    using meter = new ProgramMeter({ kernel, clock: systemClock, log: silentLogger, checkIntervalMs: 1_000 });
    await meter.begin(SUBJECT, signal);
    await host.run(PLACE, 'count_packets', 1_000_000);
    assert.equal((await look(meter)).runs, 1_000_000n);
    assert.equal(held, 0, 'nobody pays between the windows');
    await host.run(PLACE, 'count_packets', 1_000);
    {
      using _ = host.kernel.holdStatistics();
      await host.run(PLACE, 'count_packets', 1_000);
    }
    const figures = await look(meter);
    assert.equal(figures.runs, 0n, 'of the window');
    assert.equal(figures.packetsDelta, 2_000n, 'of all the time');
    assert.ok(figures.countedMs < figures.elapsedMs);
    assert.equal(held, 1, 'all the time again, as it is calm');
    await host.run(PLACE, 'count_packets', 100);
    assert.equal((await look(meter)).runs, 100n);
  });

  it('tells events of a ring buffer, and drops and counts those that are too many', async () => {
    await using host = new BpfHost();
    await host.load('xdp-events', PLACE);
    const told: HostEvent[] = [];
    const emit = (event: HostEvent) => void told.push(event);
    using relay = new EventRelay({
      kernel: host.kernel,
      clock: systemClock,
      log: silentLogger,
      emit,
      eventsPerSecond: 20,
    });
    const fields = [
      { name: 'number', type: 'uint', offset: 0, size: 8 },
      { name: 'length', type: 'uint', offset: 12, size: 4 },
    ] as const;
    relay.follow(PLACE, [{ map: 'events', type: 'packet', fields, perSecond: 3 }]);
    await host.run(PLACE, 'tell_packets', 100);
    relay.relay();
    assert.deepEqual(
      told.map(({ type, attributes }) => [type, attributes!['number'], attributes!['length']]),
      [1, 2, 3].map((number) => ['program.packet', String(number), '64']),
    );
    assert.deepEqual(relay.counts(PLACE), { events: 3, droppedEvents: 97 });
    relay.forget(PLACE.program);
    await host.run(PLACE, 'tell_packets', 1);
    relay.relay();
    assert.equal(told.length, 3);
  });
});
