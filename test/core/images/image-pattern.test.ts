import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameMatches } from '../../../src/core/glob.ts';
import { parseImagePattern } from '../../../src/core/images/image-pattern.ts';
import { parseImageReference } from '../../../src/core/images/image-reference.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

function matches(pattern: string, reference: string): boolean {
  const image = parseImageReference(reference);
  assert.ok(typeof image !== 'string', `${reference}: ${image}`);
  const compiled = parseImagePattern(pattern);
  assert.ok(typeof compiled !== 'string', `${pattern}: ${compiled}`);
  return compiled.matches(image);
}

test('all spellings of an image are one image', () => {
  for (const spelling of [
    'alpine',
    'alpine:latest',
    'docker.io/alpine',
    'docker.io/library/alpine:latest',
    'index.docker.io/library/alpine',
  ]) {
    for (const pattern of ['alpine', 'alpine:latest', 'docker.io/library/alpine', 'docker.io/library/*:*', '**', '*']) {
      assert.equal(matches(pattern, spelling), true, `${pattern} and ${spelling}`);
    }
  }
});

test('a pattern reaches no further than it says', () => {
  for (const [pattern, reference, expected] of [
    ['alpine:3.*', 'alpine:3.20', true],
    ['alpine:3.*', 'alpine:4', false],
    ['alpine:3.2', 'alpine:3.20', false],
    ['alpine', 'evil/alpine', false],
    ['alpine', 'alpine2', false],
    ['alpine', 'evil.example/library/alpine', false],
    ['docker.io/library/*', 'docker.io/evil/alpine', false],
    ['reg.example/team/*', 'reg.example/team/app:1', true],
    ['reg.example/team/*', 'reg.example/team/sub/app', false],
    ['reg.example/team/**', 'reg.example/team/sub/app', true],
    ['reg.example/team/**', 'reg.example/teams/app', false],
    ['reg.example:5000/app', 'reg.example:5000/app:2', true],
    ['reg.example:5000/app', 'reg.example/app:2', false],
    ['regXexample/app', 'reg.example/app', false],
    ['**/app', 'reg.example/deep/app', true],
    ['alpine:3.20', `alpine:3.20@${DIGEST}`, false],
    ['alpine', `alpine@${DIGEST}`, true],
    ['alpine@sha256:*', `alpine:3.20@${DIGEST}`, true],
    ['alpine@sha256:*', 'alpine:3.20', false],
    [`alpine@${DIGEST}`, `alpine@sha256:${'b'.repeat(64)}`, false],
    ['alpine:*', 'alpine:3.20', true],
    ['alpine:*', `alpine@${DIGEST}`, true],
    ['*', 'reg.example/deep/app', true],
    ['ghcr.io/**', 'ghcr.io:443/x', true],
    ['ghcr.io:443/**', 'ghcr.io/x', true],
    ['ghcr.io/**', 'ghcr.io:5000/x', false],
    ['ghcr.io/**', 'GHCR.io/x', true],
    ['alpine', 'docker.io:443/alpine', true],
    ['alpine', 'registry-1.docker.io/library/alpine', true],
  ] as const) {
    assert.equal(matches(pattern, reference), expected, `${pattern} and ${reference}`);
  }
});

test('references that an engine would read otherwise are refused', () => {
  for (const reference of [
    '',
    'sha256:0123456789ab',
    'sha256:c',
    'Alpine',
    'a b',
    'alpine:',
    'alpine@sha256:12',
    '../alpine',
    'alpine:la test',
    '-x',
    'a'.repeat(600),
  ]) {
    assert.equal(typeof parseImageReference(reference), 'string', reference);
  }
});

test('a name that could be the beginning of an image id goes to the engine with its tag, which no id has', () => {
  for (const name of ['cafe', '0123456789ab']) {
    const image = parseImageReference(name);
    assert.equal(typeof image === 'string' ? image : image.text, `${name}:latest`);
  }
});

test('patterns are checked', () => {
  for (const good of ['*', '**', 'alpine', 'alpine:3.*', 'reg.example:5000/**', 'a/*@sha256:*']) {
    assert.equal(typeof parseImagePattern(good), 'object', good);
  }
  for (const bad of ['Alpine Linux', 'alpine:a b', 'alpine@md5:1', ':x', '/', DIGEST])
    assert.equal(typeof parseImagePattern(bad), 'string', bad);
});

test('names match with * for anything', () => {
  assert.equal(nameMatches('*', 'https://a/b'), true);
  assert.equal(nameMatches('https://*', 'https://a/b'), true);
  assert.equal(nameMatches('a.c', 'abc'), false);
  assert.equal(nameMatches('a', 'a\n'), false);
});
