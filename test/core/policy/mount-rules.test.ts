import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { hostPaths } from '../../../src/agent/policy/host-paths.ts';
import { decideMount, isWithin } from '../../../src/core/policy/mount-rules.ts';
import { DEFAULT_POLICY, type MountRule } from '../../../src/core/policy/policy.ts';

let root = '';
before(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'longline-mounts-')));
  for (const folder of ['data/in', 'database', 'secret', 'agent/keys'])
    mkdirSync(join(root, folder), { recursive: true });
  symlinkSync(join(root, 'secret'), join(root, 'data/out'));
  symlinkSync('../../secret', join(root, 'data/in/out'));
  symlinkSync(join(root, 'data'), join(root, 'alias'));
  symlinkSync('loop', join(root, 'data/loop'));
});
after(() => rmSync(root, { recursive: true, force: true }));

function allowed(source: string, rules: readonly MountRule[], options: { writable?: boolean; target?: string } = {}) {
  const rule = { ...DEFAULT_POLICY.images[0]!, mounts: rules };
  const mount = { source, target: options.target ?? '/mnt', writable: options.writable ?? false };
  return decideMount(rule, mount, 0, hostPaths([join(root, 'agent')]));
}

const DATA = () => [{ source: join(root, 'data'), writable: false }];

test('the folder and what is below, however it is spelled', () => {
  for (const path of ['data', 'data/', 'data/in', 'data//in', './data/in', 'alias/in']) {
    assert.equal(allowed(`${root}/${path}`, DATA()).allowed, true, path);
  }
  assert.equal(allowed(join(root, 'data/in'), [{ source: join(root, 'alias'), writable: false }]).allowed, true);
});

test('nothing beside it, by no trick', () => {
  for (const path of [
    '',
    'database',
    'secret',
    'data/out',
    'data/in/out',
    'data/../secret',
    'data/in/../../secret',
    'data/..',
    'data/missing',
    'data/loop',
    'data\0',
  ]) {
    assert.equal(allowed(`${root}/${path}`, DATA()).allowed, false, JSON.stringify(path));
  }
});

test('writing needs a word of its own', () => {
  const readOnly = allowed(join(root, 'data'), DATA(), { writable: true });
  assert.equal(readOnly.allowed, false);
  assert.match(readOnly.explanation, /only be mounted read-only/);
  assert.equal(
    allowed(join(root, 'data'), [{ source: join(root, 'data'), writable: true }], { writable: true }).allowed,
    true,
  );
});

test("the agent's own files stay out of reach, also through a folder above them", () => {
  const everything = [{ source: '/', writable: true }];
  for (const path of ['agent', 'agent/keys', '']) {
    const decision = allowed(join(root, path), everything);
    assert.deepEqual([decision.allowed, decision.rule], [false, 'sandbox.protected_paths'], path);
  }
  assert.equal(allowed(join(root, 'secret'), everything).allowed, true);
});

test('volumes by name, and names that are none', () => {
  const rules = [{ source: 'volume:cache-*', writable: false }];
  assert.equal(allowed('cache-1', rules).allowed, true);
  assert.equal(allowed('cache-1', rules, { writable: true }).allowed, false);
  assert.equal(allowed('other', rules).allowed, false);
  for (const name of ['', '../etc', 'a/b', 'cache-1/..'])
    assert.equal(allowed(name, [{ source: 'volume:*', writable: false }]).allowed, false, name);
});

test('targets that the engine needs are refused', () => {
  for (const target of ['', 'x', '/', '//x', '/a/../proc', '/./x', '/proc', '/proc/1', '/sys', '/dev/shm', '/x\0']) {
    assert.equal(allowed(join(root, 'data'), DATA(), { target }).allowed, false, JSON.stringify(target));
  }
  assert.equal(allowed(join(root, 'data'), DATA(), { target: '/process/x/' }).allowed, true);
});

test('being within a folder goes by whole parts', () => {
  const part = fc.stringMatching(/^[a-z]{1,4}$/);
  fc.assert(
    fc.property(fc.array(part, { minLength: 1 }), fc.array(part), part, (folder, below, suffix) => {
      const path = `/${folder.join('/')}`;
      assert.equal(isWithin([path, ...below].join('/'), path), true);
      assert.equal(isWithin(`${path}${suffix}`, path), false);
      assert.equal(isWithin(path, '/'), true);
    }),
  );
});
