import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { parseImageReference } from '../../../src/core/images/image-reference.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

function parsed(text: string) {
  const reference = parseImageReference(text);
  assert.ok(typeof reference !== 'string', `${text}: ${reference}`);
  return reference;
}

suite('image references', () => {
  test('are taken apart as registries do', () => {
    const rows = [
      ['alpine', 'docker.io', 'library/alpine', 'latest', undefined, 'alpine:latest'],
      ['alpine:3.20', 'docker.io', 'library/alpine', '3.20', undefined, 'alpine:3.20'],
      ['docker.io/alpine', 'docker.io', 'library/alpine', 'latest', undefined, 'docker.io/alpine:latest'],
      ['me/tool:1', 'docker.io', 'me/tool', '1', undefined, 'me/tool:1'],
      ['GHCR.io:443/a', 'ghcr.io', 'a', 'latest', undefined, 'GHCR.io:443/a:latest'],
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
