import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Shown } from '../../src/core/shown.ts';

it('what was shown last counts, until it is taken back in whatever order', () => {
  const shown = new Shown<string>();
  assert.equal(shown.current, undefined);
  const first = shown.show('a');
  const second = shown.show('b');
  assert.equal(shown.current, 'b');
  first[Symbol.dispose]();
  assert.equal(shown.current, 'b');
  const third = shown.show('b');
  second[Symbol.dispose]();
  second[Symbol.dispose]();
  assert.equal(shown.current, 'b', 'a second one of the same stays');
  third[Symbol.dispose]();
  assert.equal(shown.current, undefined);
});
