import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LatestFigures } from '../../../src/controller/services/latest-figures.ts';

describe('latest figures', () => {
  it('are those that came last, by agent and name, until they are old', () => {
    const figures = new LatestFigures<number>(10);
    figures.keep('a', 'x', 1, 0);
    figures.keep('b', 'x', 2, 0);
    figures.keep('a', 'x', 3, 1000);
    assert.equal(figures.find('a', 'x', 1000)?.figures, 3);
    assert.equal(figures.find('b', 'x', 1000)?.figures, 2);
    assert.equal(figures.find('b', 'x', 120_000), undefined);
    assert.equal(figures.find('a', 'x', 120_000)?.figures, 3);
  });

  it('of one agent that makes up names push out its own only', () => {
    const figures = new LatestFigures<number>(1000);
    figures.keep('honest', 'x', 1, 0);
    for (let name = 0; name < 5000; name++) figures.keep('odd', `${name}`, name, 0);
    assert.equal(figures.find('honest', 'x', 0)?.figures, 1);
    assert.equal(figures.find('odd', '4743', 0), undefined);
    assert.equal(figures.find('odd', '4744', 0)?.figures, 4744);
    assert.equal(figures.find('odd', '4999', 0)?.figures, 4999);
  });

  it('are dropped in the order in which they came where there are too many of all', () => {
    const figures = new LatestFigures<number>(2);
    figures.keep('a', 'x', 1, 0);
    figures.keep('b', 'x', 2, 0);
    figures.keep('a', 'x', 3, 0);
    figures.keep('c', 'x', 4, 0);
    assert.deepEqual(
      ['a', 'b', 'c'].map((id) => figures.find(id, 'x', 0)?.figures),
      [3, undefined, 4],
    );
  });
});
