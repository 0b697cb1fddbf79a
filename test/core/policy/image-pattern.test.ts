import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  imageMatches,
  imagePatternFault,
  nameMatches,
  parseImageReference,
} from '../../../src/core/policy/image-pattern.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

function matches(pattern: string, reference: string): boolean {
  const image = parseImageReference(reference);
  assert.ok(!('fault' in image), `${reference}: ${'fault' in image ? image.fault : ''}`);
  return imageMatches(pattern, image);
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
    [DIGEST, DIGEST, true],
    ['alpine', DIGEST, false],
    ['*', DIGEST, true],
  ] as const) {
    assert.equal(matches(pattern, reference), expected, `${pattern} and ${reference}`);
  }
});

test('references that an engine would read otherwise are refused', () => {
  for (const reference of [
    '',
    'cafe',
    '0123456789ab',
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
    assert.ok('fault' in parseImageReference(reference), reference);
  }
});

test('patterns are checked', () => {
  for (const good of ['*', '**', 'alpine', 'alpine:3.*', 'reg.example:5000/**', 'a/*@sha256:*', DIGEST]) {
    assert.equal(imagePatternFault(good), undefined, good);
  }
  for (const bad of ['Alpine Linux', 'alpine:a b', 'alpine@md5:1', ':x', '/'])
    assert.notEqual(imagePatternFault(bad), undefined, bad);
});

test('names match with * for anything', () => {
  assert.equal(nameMatches('*', 'https://a/b'), true);
  assert.equal(nameMatches('https://*', 'https://a/b'), true);
  assert.equal(nameMatches('a.c', 'abc'), false);
  assert.equal(nameMatches('a', 'a\n'), false);
});
