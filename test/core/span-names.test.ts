import assert from 'node:assert/strict';
import { it } from 'node:test';
import * as conventions from '@opentelemetry/semantic-conventions/incubating';
import { ATTRIBUTE, SPAN } from '../../src/core/span-names.ts';

it('names what is not ours as the semantic conventions do', () => {
  const known = new Set<unknown>(
    Object.entries(conventions).flatMap(([name, value]) => (name.startsWith('ATTR_') ? [value] : [])),
  );
  assert.ok(known.size > 100);
  for (const name of Object.values(ATTRIBUTE)) assert.ok(name.startsWith('longline.') || known.has(name), name);
});

it('has one meaning for each name', () => {
  for (const names of [SPAN, ATTRIBUTE]) {
    assert.equal(new Set(Object.values(names)).size, Object.values(names).length);
  }
});
