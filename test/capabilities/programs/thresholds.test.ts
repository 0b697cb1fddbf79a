import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DEFAULT_PROGRAMS_CONFIG, type Thresholds } from '../../../src/capabilities/programs/config.ts';
import {
  figuresBetween,
  type ProgramFigures,
  type ProgramReading,
} from '../../../src/capabilities/programs/figures.ts';
import { judge, resolveThresholds } from '../../../src/capabilities/programs/thresholds.ts';

const HOST = DEFAULT_PROGRAMS_CONFIG.thresholds;
const OFF: Thresholds = {
  maxErrors: 0,
  maxViolations: 0,
  maxCpuPercent: 0,
  maxLatencyMs: 0,
  maxMemoryKb: 0,
  minRuns: 0,
};
const LOOK = { checkIntervalMs: 30_000, inProportion: false };
const NO_EVENTS = { events: 0, droppedEvents: 0 };

function reading(more: Partial<ProgramReading> = {}): ProgramReading {
  const counters = { packets: 0n, violations: 0n, errors: 0n, others: {} };
  return { atMs: 0, wallMs: 1_000_000, runs: 0n, runTimeNs: 0n, memoryBytes: 4096, ...counters, ...more };
}

function figures(more: Partial<ProgramFigures> = {}): ProgramFigures {
  const before = reading();
  const now = reading({ atMs: 30_000, wallMs: 1_030_000 });
  return { ...figuresBetween(before, now, before, NO_EVENTS), ...more };
}

const count = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const anyReading = fc.record<ProgramReading>({
  atMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
  wallMs: fc.integer({ min: 0, max: 2 ** 48 }),
  runs: count,
  runTimeNs: count,
  memoryBytes: fc.integer({ min: 0, max: 2 ** 40 }),
  packets: fc.option(count, { nil: undefined }),
  violations: fc.option(count, { nil: undefined }),
  errors: fc.option(count, { nil: undefined }),
  others: fc.constant({}),
});
const limit = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 1_000_000 }));
const anyThresholds = fc.record<Thresholds>({
  maxErrors: limit,
  maxViolations: limit,
  maxCpuPercent: limit,
  maxLatencyMs: limit,
  maxMemoryKb: limit,
  minRuns: limit,
});
const anyLook = fc.record({ checkIntervalMs: fc.integer({ min: 1, max: 3_600_000 }), inProportion: fc.boolean() });

describe('thresholds of a program', () => {
  it('come from the spec, then the artifact, then the host, and 0 is a value like others', () => {
    const spec = { maxErrors: 0, maxCpuPercent: 5 };
    const artifact = { maxErrors: 3, maxViolations: 7, maxCpuPercent: 90 };
    const expected = { ...HOST, maxErrors: 0, maxViolations: 7, maxCpuPercent: 5 };
    assert.deepEqual(resolveThresholds(spec, artifact, HOST), expected);
    assert.deepEqual(resolveThresholds({}, {}, HOST), HOST);
  });

  it('are exceeded by more than they say, and the breach tells which and by what', () => {
    assert.equal(judge(figures({ errorsDelta: 10n }), HOST, LOOK), undefined);
    assert.deepEqual(judge(figures({ errorsDelta: 11n }), HOST, LOOK), {
      trigger: 'errors',
      threshold: 10,
      value: 11,
      reason: '11 errors in 30 s; at most 10 in 30 s are allowed',
    });
    const busy = { runs: 5000n, cpuPercent: 93.456, latencyMs: 1200 };
    assert.deepEqual(judge(figures({ violationsDelta: 101n, ...busy }), HOST, LOOK)?.trigger, 'violations');
    assert.deepEqual(judge(figures(busy), HOST, LOOK), {
      trigger: 'cpu',
      threshold: 80,
      value: 93.456,
      reason: '93.5 % of a processor over 5000 runs; at most 80 is allowed',
    });
    assert.equal(judge(figures({ ...busy, cpuPercent: 80 }), HOST, LOOK)?.trigger, 'latency');
    assert.equal(judge(figures({ memoryKb: 102_400 }), HOST, LOOK), undefined);
    assert.deepEqual(judge(figures({ memoryKb: 102_401 }), HOST, LOOK)?.trigger, 'memory');
  });

  it('leave CPU and latency alone below the least sample, but not memory and counts', () => {
    const few = { runs: 99n, cpuPercent: 1000, latencyMs: 1e6 };
    assert.equal(judge(figures(few), HOST, LOOK), undefined);
    assert.equal(judge(figures({ ...few, runs: 100n }), HOST, LOOK)?.trigger, 'cpu');
    assert.equal(judge(figures({ ...few, memoryKb: 1e6 }), HOST, LOOK)?.trigger, 'memory');
  });

  it('give more to a longer time, and less to a shorter one where that is asked for', () => {
    const slept = figures({ elapsedMs: 300_000, errorsDelta: 100n });
    assert.equal(judge(slept, HOST, LOOK), undefined, 'ten intervals have ten times as much');
    const soon = figures({ elapsedMs: 5_000, errorsDelta: 2n });
    assert.equal(judge(soon, HOST, LOOK), undefined);
    assert.equal(judge(soon, HOST, { ...LOOK, inProportion: true })?.trigger, 'errors', 'it goes on as before');
    assert.equal(judge({ ...soon, errorsDelta: 1n }, HOST, { ...LOOK, inProportion: true }), undefined);
  });

  it('ask for a share of the least sample where a short look asks whether it goes on', () => {
    const slow = figures({ elapsedMs: 5_000, runs: 50n, cpuPercent: 100 });
    assert.equal(judge(slow, HOST, LOOK), undefined);
    assert.equal(judge(slow, HOST, { ...LOOK, inProportion: true })?.trigger, 'cpu', 'it does, ten times a second');
    assert.equal(judge({ ...slow, runs: 16n }, HOST, { ...LOOK, inProportion: true }), undefined);
  });

  it('never judge counters that went backwards or could not be read', () => {
    const property = fc.property(anyReading, anyReading, anyThresholds, anyLook, (before, now, thresholds, look) => {
      const seen = judge(figuresBetween(before, now, before, NO_EVENTS), thresholds, look);
      for (const trigger of ['errors', 'violations'] as const) {
        if (seen?.trigger !== trigger) continue;
        assert.ok(before[trigger] !== undefined && now[trigger] !== undefined && now[trigger] > before[trigger]);
        assert.equal(seen.value, Number(now[trigger] - before[trigger]), 'what came since, not the total');
      }
      if (seen?.trigger === 'cpu' || seen?.trigger === 'latency') {
        assert.ok(now.runs > before.runs && now.runTimeNs >= before.runTimeNs && now.atMs > before.atMs);
      }
    });
    fc.assert(property);
  });

  it('never judge CPU and latency below the least sample', () => {
    const property = fc.property(anyReading, anyReading, anyThresholds, anyLook, (before, now, thresholds, look) => {
      const seen = judge(figuresBetween(before, now, before, NO_EVENTS), thresholds, look);
      if (seen?.trigger !== 'cpu' && seen?.trigger !== 'latency') return;
      const share = look.inProportion ? Math.min(1, (now.atMs - before.atMs) / look.checkIntervalMs) : 1;
      assert.ok(Number(now.runs - before.runs) >= thresholds.minRuns * share && now.runs > before.runs);
    });
    fc.assert(property);
  });

  it('are off at 0, and tell a value above what they are', () => {
    const property = fc.property(anyReading, anyReading, anyThresholds, anyLook, (before, now, thresholds, look) => {
      const told = figuresBetween(before, now, before, NO_EVENTS);
      assert.equal(judge(told, OFF, look), undefined);
      const seen = judge(told, thresholds, { ...look, inProportion: false });
      if (seen === undefined) return;
      assert.ok(seen.threshold > 0 && seen.value > seen.threshold, `${seen.value} of ${seen.threshold}`);
    });
    fc.assert(property);
  });
});
