import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type BenchRow, isMet, median, percentile, ratioOf } from './bench.ts';
import { benchPlot, benchTable } from './presentation.ts';

const row = (ours: number, goal?: BenchRow['goal'], peer?: number): BenchRow => ({
  metric: 'a <metric>',
  unit: 'ms',
  ours,
  ...(goal === undefined ? {} : { goal }),
  ...(peer === undefined ? {} : { peer: { name: 'peer', value: peer } }),
});

describe('bench harness', () => {
  test('goals are judged on the figure or on its ratio to the peer, and can be missed', () => {
    assert.equal(isMet(row(5, { kind: 'at most', value: 5 })), true);
    assert.equal(isMet(row(5.1, { kind: 'at most', value: 5 })), false);
    assert.equal(isMet(row(10, { kind: 'ratio at least', value: 2 }, 5)), true);
    assert.equal(isMet(row(9.9, { kind: 'ratio at least', value: 2 }, 5)), false);
    assert.equal(isMet(row(5, { kind: 'ratio at most', value: 1 }, 5)), true);
    assert.equal(isMet(row(5.1, { kind: 'ratio at most', value: 1 }, 5)), false);
    assert.equal(isMet(row(5)), undefined);
  });

  test('a figure that is no number, and a ratio without a peer, meet nothing', () => {
    assert.equal(isMet(row(Number.NaN, { kind: 'at most', value: 5 })), false);
    assert.equal(isMet(row(5, { kind: 'ratio at least', value: 2 })), false);
    assert.equal(ratioOf(row(5, undefined, 0)), undefined);
  });

  test('the table shows a missed goal', () => {
    const lines = benchTable([row(10, { kind: 'ratio at most', value: 1 }, 5), row(3)]).split('\n');
    assert.match(lines[2]!, /\| 10 ms \| 5 ms \(peer\) \| 2× +\| ≤ 1× \| NO +\|/);
    assert.match(lines[3]!, /\| 3 ms +\| — +\| — +\| — +\| — +\|/);
  });

  test('the plot is scaled, escaped, and marks a missed goal', () => {
    const plot = benchPlot('t & u', [row(10, { kind: 'ratio at most', value: 1 }, 5)]);
    assert.match(plot, /width="420\.0" height="18" fill="#c0392b"/);
    assert.match(plot, /width="210\.0" height="18" fill="#999"/);
    assert.match(plot, /t &#38; u/);
    assert.doesNotMatch(plot, /<metric>/);
  });

  test('percentiles by nearest rank; none of nothing', () => {
    const samples = Array.from({ length: 100 }, (_, index) => 100 - index);
    assert.equal(percentile(samples, 0.99), 99);
    assert.equal(percentile(samples, 1), 100);
    assert.equal(median([3, 1, 2]), 2);
    assert.throws(() => median([]), /no samples/);
  });
});
