import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LonglineError } from '../../src/core/errors.ts';
import { indexLines } from '../../src/core/toml/line-index.ts';
import { readToml } from '../../src/core/toml/toml-table.ts';

function violationsOf(text: string, read: Parameters<typeof readToml>[1]) {
  try {
    readToml(text, read);
  } catch (error) {
    assert.ok(error instanceof LonglineError && error.reason === 'invalid');
    return error.violations.map(({ field, description }) => `${field}: ${description}`);
  }
  return assert.fail('nothing was refused');
}

test('lines of keys in tables, arrays of tables, dotted keys and after multi-line values', () => {
  const lines = indexLines(
    [
      '# first',
      'a = 1',
      'b.c = """',
      'd = 2',
      '[x]',
      '"""',
      '[[t]]',
      'k = [',
      '  "[[t]]",',
      ']',
      'l = 1',
      '[[t.u]]',
      'm = 1',
      '[[t]]',
      'k = 2',
      '[t.v]',
      '"q r" = 3',
    ].join('\n'),
  );
  assert.deepEqual(Object.fromEntries(lines), {
    a: 2,
    b: 3,
    'b.c': 3,
    't[0]': 7,
    't[0].k': 8,
    't[0].l': 11,
    't[0].u[0]': 12,
    't[0].u[0].m': 13,
    't[1]': 14,
    't[1].k': 15,
    't[1].v': 16,
    't[1].v.q r': 17,
  });
});

test('every mistake is told at once, with path, value, line and what would be right', () => {
  const text =
    'name = 5\nsize = "3MB"\nwait = "soon"\nlist = ["a", 1]\nwhen = 2030-01-01\n[[t]]\nn = 1.5\nstray = true\n';
  const found = violationsOf(text, (root) => {
    root.string('name');
    root.byteSize('size');
    root.duration('wait', 0, 1000);
    root.strings('list');
    root.instant('when');
    root.requiredString('needed');
    for (const table of root.tables('t')) table.number('n', 1, 2, true);
  });
  assert.deepEqual(found, [
    'name: got 5; must be a string (line 1)',
    'size: got "3MB"; must be a size in bytes, for example 1048576 or "64MiB" (line 2)',
    'wait: got "soon"; must be a duration from 0s to 1s, for example "5m" (line 3)',
    'list[1]: got 1; must be a string (line 4)',
    'when: got "2030-01-01"; must be a date and time with zone, for example 2030-01-31T12:00:00Z (line 5)',
    'needed: missing; must be a string',
    't[0].n: got 1.5; must be a whole number from 1 to 2 (line 7)',
    't[0].stray: unknown key; known here: n (line 8)',
  ]);
});

test('text that is no TOML is refused with its line', () => {
  assert.match(violationsOf('a = 1\nb = \n', () => 0)[0]!, /^line 2: not valid TOML/);
});

test('keys that JavaScript objects have by themselves are nothing special', () => {
  assert.match(
    violationsOf('__proto__ = 1\nconstructor = 2\n', () => 0).join(),
    /__proto__: unknown.*constructor: unknown/,
  );
  const read = readToml('[m]\n__proto__ = "x"\n', (root) => root.stringMap('m'));
  assert.equal(Object.getOwnPropertyDescriptor(read, '__proto__')?.value, 'x');
});
