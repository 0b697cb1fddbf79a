import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import { DEFAULT_POLICY } from '../../../src/core/policy/policy.ts';
import { parsePolicy } from '../../../src/core/policy/policy-file.ts';

const FULL = `
version = 1
[signatures]
require = ["jobs"]
max_lifetime = "2h"
[[signers]]
key_id = "ed25519-*"
capabilities = ["jobs"]
controllers = ["main"]
[limits]
cpus = 2
memory = "1GiB"
[[images]]
name = "build"
pattern = "reg.example/build/**"
require_digest = true
networks = ["bridge", "named:ci-*"]
users = ["1000:1000"]
capabilities = ["NET_BIND_SERVICE"]
runtimes = ["runsc"]
writable_root = true
new_privileges = true
[[images.mounts]]
source = "/srv/cache"
writable = true
[images.limits]
timeout = "2h"
[[images]]
pattern = "*"
`;

test('a whole file', () => {
  const policy = parsePolicy(FULL);
  assert.deepEqual(policy.signatures, { require: ['jobs'], maxLifetimeMs: 7_200_000 });
  assert.deepEqual(policy.limits, { cpus: 2, memoryBytes: 2 ** 30 });
  assert.deepEqual(
    { ...policy.images[0]!, pattern: policy.images[0]!.pattern.text },
    {
      rule: 'images.build',
      pattern: 'reg.example/build/**',
      requireDigest: true,
      networks: ['bridge', 'named:ci-*'],
      users: ['1000:1000'],
      capabilities: ['NET_BIND_SERVICE'],
      runtimes: ['runsc'],
      writableRoot: true,
      newPrivileges: true,
      mounts: [{ source: '/srv/cache', writable: true }],
      limits: { timeoutMs: 7_200_000 },
    },
  );
  assert.equal(policy.images[1]!.rule, 'images[1]');
});

test('what is left out is strict', () => {
  const policy = parsePolicy('version = 1\n[[images]]\npattern = "*"\n');
  const { sessions } = DEFAULT_POLICY;
  assert.deepEqual({ ...policy, images: [{ ...policy.images[0], rule: 'images.default' }], sessions }, DEFAULT_POLICY);
  assert.deepEqual(parsePolicy('version = 1\n').images, []);
  assert.deepEqual(policy.sessions, { ...sessions, images: [] });
});

test('each wrong value is named with its path and line', () => {
  for (const [line, message] of [
    ['stray = 1', /^stray: unknown key/],
    ['[signatures]\nrequire = ["job"]', /^signatures.require\[0\]: got "job"; must be one of jobs.*\(line 3\)/],
    ['[signatures]\nmax_lifetime = "10y"', /signatures.max_lifetime: got "10y"/],
    ['[[signers]]\nkey_id = "a"', /signers\[0\].capabilities: missing/],
    ['[[images]]\nname = "x"', /images\[0\].pattern: missing.*\(line 2\)/],
    ['[[images]]\npattern = "Bad Name"', /images\[0\].pattern: "Bad Name": .*\(line 3\)/],
    ['[[images]]\npattern = "a"\nnetworks = ["lan"]', /images\[0\].networks\[0\]: got "lan".*\(line 4\)/],
    ['[[images]]\npattern = "a"\ncapabilities = ["CAP_KILL"]', /images\[0\].capabilities\[0\]/],
    [
      '[[images]]\npattern = "a"\n[[images.mounts]]\nsource = "srv"',
      /images\[0\].mounts\[0\].source: "srv".*\(line 5\)/,
    ],
    ['[[images]]\npattern = "a"\n[[images.mounts]]\nsource = "/srv/../etc"', /images\[0\].mounts\[0\].source/],
    [
      '[[images]]\nname = "a"\npattern = "a"\n[[images]]\nname = "a"\npattern = "b"',
      /images\[1\].name: "a" names an earlier rule/,
    ],
    ['[[images]]\npattern = "a"\nusers = ["*"]', /images\[0\].users\[0\]: got "\*"; must be "UID:GID"/],
    ['[[images]]\npattern = "a"\nusers = ["10*:*"]', /images\[0\].users\[0\]/],
    ['[limits]\ncpus = 0', /limits.cpus: got 0/],
    ['[limits]\nmemory = "1GB"', /limits.memory: got "1GB"/],
    ['[limits]\nmemory = "2000TiB"', /limits.memory: more than any host has/],
    ['images = "all"', /images: got "all"; must be tables, each headed \[\[images\]\]/],
  ] as const) {
    assert.throws(
      () => parsePolicy(`version = 1\n${line}\n`),
      (error: unknown) => error instanceof LonglineError && error.reason === 'invalid' && message.test(error.message),
      line,
    );
  }
  assert.throws(() => parsePolicy(''), /version: missing; must be 1/);
  assert.throws(() => parsePolicy('version = 2'), /version: got 2/);
});
