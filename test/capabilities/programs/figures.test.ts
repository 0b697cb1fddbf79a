import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { figuresBetween, type ProgramReading } from '../../../src/capabilities/programs/figures.ts';

const EARLIER: ProgramReading = {
  atMs: 1_000,
  wallMs: 50_000,
  runs: 10n,
  runTimeNs: 1_000_000n,
  memoryBytes: 1,
  packets: 5n,
  violations: undefined,
  errors: 3n,
  others: { drops: 1n },
};

describe('figures of a program', () => {
  it('are of the time between two readings', () => {
    const now = { ...EARLIER, atMs: 11_000, wallMs: 60_000, runs: 1010n, runTimeNs: 501_000_000n, memoryBytes: 4097 };
    const counters = { packets: 105n, violations: 2n, errors: 3n, others: { drops: 9n } };
    const told = figuresBetween(EARLIER, { ...now, ...counters }, EARLIER, { events: 4, droppedEvents: 1 });
    assert.deepEqual(told, {
      startMs: 50_000,
      endMs: 60_000,
      elapsedMs: 10_000,
      countedMs: 10_000,
      runs: 1000n,
      cpuPercent: 5,
      latencyMs: 0.5,
      memoryKb: 5,
      packets: 105n,
      violations: 2n,
      errors: 3n,
      packetsDelta: 100n,
      violationsDelta: undefined,
      errorsDelta: 0n,
      others: { drops: 9n },
      events: 4,
      droppedEvents: 1,
    });
  });

  it('take CPU and latency from the time in which runs were counted', () => {
    const from = { atMs: 9_000, runs: 10n, runTimeNs: 1_000_000n };
    const now = { ...EARLIER, atMs: 11_000, runs: 20n, runTimeNs: 201_000_000n };
    const told = figuresBetween(EARLIER, now, from, { events: 0, droppedEvents: 0 });
    const { elapsedMs, countedMs, cpuPercent, latencyMs } = told;
    assert.deepEqual([elapsedMs, countedMs, cpuPercent, latencyMs], [10_000, 2_000, 10, 20]);
  });

  it('say nothing of runs that were not counted, and of numbers that went backwards', () => {
    const nothing = { events: 0, droppedEvents: 0 };
    const now = { ...EARLIER, atMs: 11_000, runs: 9n, packets: 4n };
    const told = figuresBetween(EARLIER, now, EARLIER, nothing);
    assert.deepEqual([told.runs, told.cpuPercent, told.latencyMs, told.countedMs], [0n, 0, 0, 0]);
    assert.deepEqual([told.packets, told.packetsDelta], [4n, undefined]);
    const uncounted = figuresBetween(EARLIER, { ...now, runs: 99n }, undefined, nothing);
    assert.deepEqual([uncounted.runs, uncounted.countedMs], [0n, 0]);
    const standstill = figuresBetween(EARLIER, { ...EARLIER, runs: 99n }, EARLIER, nothing);
    assert.deepEqual([standstill.runs, standstill.cpuPercent], [0n, 0], 'no time, no share of it');
  });
});
