import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { parseImagePattern, parseImageReference } from '../../../src/core/images/image-reference.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

function parsed(text: string) {
  const reference = parseImageReference(text);
  assert.ok(typeof reference !== 'string', `${text}: ${reference}`);
  return reference;
}

function matches(pattern: string, text: string): boolean {
  const compiled = parseImagePattern(pattern);
  assert.ok(typeof compiled !== 'string', `${pattern}: ${compiled}`);
  return compiled.matches(parsed(text));
}

suite('image references', () => {
  test('are taken apart as registries do', () => {
    const rows = [
      ['alpine', 'docker.io', 'library/alpine', 'latest', undefined, 'alpine:latest'],
      ['alpine:3.20', 'docker.io', 'library/alpine', '3.20', undefined, 'alpine:3.20'],
      ['docker.io/alpine', 'docker.io', 'library/alpine', 'latest', undefined, 'docker.io/alpine:latest'],
      ['me/tool:1', 'docker.io', 'me/tool', '1', undefined, 'me/tool:1'],
      ['localhost/a', 'localhost', 'a', 'latest', undefined, 'localhost/a:latest'],
      ['[::1]:5000/a/b:c', '[::1]:5000', 'a/b', 'c', undefined, '[::1]:5000/a/b:c'],
      ['ghcr.io/a/b__c/d-e', 'ghcr.io', 'a/b__c/d-e', 'latest', undefined, 'ghcr.io/a/b__c/d-e:latest'],
      [`alpine@${DIGEST}`, 'docker.io', 'library/alpine', undefined, DIGEST, `alpine@${DIGEST}`],
      [`r:1/a:3@${DIGEST}`, 'r:1', 'a', undefined, DIGEST, `r:1/a:3@${DIGEST}`],
    ] as const;
    for (const [text, registry, repository, tag, digest, canonical] of rows) {
      assert.deepEqual(parsed(text), { text: canonical, registry, repository, tag, digest });
    }
  });

  test('that are none are refused with what is wrong', () => {
    const wrong = [
      '',
      ':',
      'a:',
      'a@',
      'Alpine',
      'a//b',
      '/a',
      'a/',
      'a b',
      'a:-x',
      `a@sha256:${'0'.repeat(63)}`,
      'a@x:1',
    ];
    wrong.push(
      `${'0'.repeat(64)}`,
      DIGEST,
      'sha256:0123456789ab',
      'sha256:a',
      `a:${'x'.repeat(129)}`,
      'a'.repeat(256),
      'a\n',
      'a;b',
      '$(id)',
      '../a',
      'a@b@c',
      '-a',
    );
    for (const text of wrong) assert.equal(typeof parseImageReference(text), 'string', JSON.stringify(text));
  });

  test('are never malformed once parsed, and parse to themselves', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'aA0:/@.-_ []'), maxLength: 20 }), (text) => {
        const first = parseImageReference(text);
        if (typeof first === 'string') return;
        assert.deepEqual(parseImageReference(first.text), first);
        assert.doesNotMatch(first.text, /[\s;$]|^-/);
      }),
      { numRuns: 2000 },
    );
  });
});

suite('image patterns', () => {
  test('match by name, tag and digest', () => {
    for (const [pattern, text, expected] of [
      ['alpine', 'alpine:3', true],
      ['alpine', `alpine@${DIGEST}`, true],
      ['docker.io/library/alpine', 'alpine', true],
      ['alpine:latest', 'alpine', true],
      ['alpine:3.*', 'alpine:3.20', true],
      ['alpine:3.*', 'alpine:30', false],
      ['alpine', 'evil.example/alpine', false],
      ['alpine', 'me/alpine', false],
      ['ghcr.io/org/*', 'ghcr.io/org/a', true],
      ['ghcr.io/org/*', 'ghcr.io/org/a/b', false],
      ['ghcr.io/org/**', 'ghcr.io/org/a/b', true],
      ['ghcr.io/org/*', 'ghcr.io.evil/org/a', false],
      ['**', 'any.where:5000/a/b:c', true],
      ['alpine@sha256:*', `alpine@${DIGEST}`, true],
      ['alpine@sha256:*', 'alpine', false],
      [`alpine@${DIGEST}`, `alpine@${DIGEST}`, true],
    ] as const) {
      assert.equal(matches(pattern, text), expected, `${pattern} ${text}`);
    }
  });

  test('with a tag do not let a digest through that hides behind that tag', () => {
    assert.equal(matches('alpine:latest', `alpine:latest@${DIGEST}`), false);
  });

  test('that are malformed are refused', () => {
    for (const text of ['', 'a b', 'a:[', 'a@!', '(a|b)']) assert.equal(typeof parseImagePattern(text), 'string', text);
  });
});
