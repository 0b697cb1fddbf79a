import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'smol-toml';
import * as type from '../../../src/core/config/value-type.ts';

function read<T>(kind: type.ValueType<T>, ...texts: string[]): T | undefined {
  const parsed = kind.fromText(texts);
  return parsed.ok ? parsed.value : undefined;
}

test('numbers keep to their range, from text and from TOML', () => {
  const kind = type.int({ min: 1, max: 5 });
  assert.deepEqual(
    ['1', '5', '0', '6', '1.5', '', 'x', '0x2'].map((text) => read(kind, text)),
    [1, 5, undefined, undefined, undefined, undefined, undefined, undefined],
  );
  assert.equal(kind.fromToml(2.5).ok, false);
  assert.equal(kind.fromToml(9).ok, false);
  assert.equal(read(type.float({ min: 0, max: 1 }), '0.5'), 0.5);
});

test('a URL takes its schemes and aliases only', () => {
  const kind = type.url(['https', 'http'], { wss: 'https' });
  assert.equal(read(kind, 'https://host:1/'), 'https://host:1');
  assert.equal(read(kind, 'wss://host'), 'https://host');
  for (const text of ['ftp://host', 'host:1', 'https://', 'constructor://x']) assert.equal(read(kind, text), undefined);
});

test('a map refuses what has no name or no sign', () => {
  const kind = type.map(/^[a-z]+=.*$/, 'KEY=VALUE');
  assert.deepEqual(read(kind, 'a=1,b=2=3', 'c='), { a: '1', b: '2=3', c: '' });
  for (const text of ['a', '=1', 'A=1']) assert.equal(read(kind, text), undefined);
  assert.equal(kind.fromToml({ a: 1 }).ok, false);
});

test('what is written as TOML reads back the same', () => {
  const check = <T>(kind: type.ValueType<T>, values: fc.Arbitrary<T>) =>
    fc.assert(
      fc.property(values, (value) => {
        const back = kind.fromToml(parse(`x = ${kind.toToml(value)}`)['x']);
        assert.deepEqual(back, { ok: true, value });
      }),
    );
  check(type.duration({ min: 0, max: 10 ** 9 }), fc.integer({ min: 0, max: 10 ** 9 }));
  check(type.bytes({ min: 0, max: 2 ** 40 }), fc.integer({ min: 0, max: 2 ** 40 }));
  check(
    type.string(),
    fc.string({ minLength: 1 }).filter((text) => text.isWellFormed() && !text.includes('\u007f')),
  );
  check(type.bool(), fc.boolean());
  check(type.list(type.int({ min: 0, max: 9 })), fc.array(fc.integer({ min: 0, max: 9 })));
});
