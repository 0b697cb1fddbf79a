import assert from 'node:assert/strict';
import { test } from 'node:test';
import { evaluatePolicy, type PolicyHost, refusalOf } from '../../../src/core/policy/evaluation.ts';
import { DEFAULT_POLICY, type Policy, type SandboxRequest } from '../../../src/core/policy/policy.ts';
import { parsePolicy } from '../../../src/core/policy/policy-file.ts';

const HOST: PolicyHost = {
  paths: { resolve: (path) => path, protectedPaths: [] },
  defaultUser: '65534:65534',
  defaultRuntime: '',
};

const HARDENED: SandboxRequest = {
  image: 'alpine:3.20',
  network: { mode: 'none', name: '' },
  user: '65534:65534',
  addCapabilities: [],
  runtime: '',
  writableRoot: false,
  newPrivileges: false,
  mounts: [],
  limits: {
    cpus: 0.5,
    memoryBytes: 2 ** 28,
    pids: 64,
    tmpBytes: 2 ** 26,
    timeoutMs: 300_000,
    outputBytes: 2 ** 26,
    stopGraceMs: 10_000,
  },
};

function refusedBy(policy: Policy, job: Partial<SandboxRequest>): string | undefined {
  const request = { capability: 'jobs', controllerId: 'main', keyId: 'k', job: { ...HARDENED, ...job } };
  return refusalOf(evaluatePolicy(policy, request, HOST))?.rule;
}

function images(text: string): Policy {
  return parsePolicy(`version = 1\n[[images]]\nname = "x"\npattern = "*"\n${text}\n`);
}

test('the built-in policy runs the hardened sandbox and loosens nothing', () => {
  assert.equal(refusedBy(DEFAULT_POLICY, {}), undefined);
  for (const [job, rule] of [
    [{ network: { mode: 'bridge', name: '' } }, 'networks'],
    [{ network: { mode: 'host', name: '' } }, 'networks'],
    [{ network: { mode: 'named', name: 'n' } }, 'networks'],
    [{ network: { mode: 'unknown', name: '' } }, 'networks'],
    [{ user: '0:0' }, 'users'],
    [{ user: 'root' }, 'users'],
    [{ addCapabilities: ['NET_RAW'] }, 'capabilities'],
    [{ runtime: 'runsc' }, 'runtimes'],
    [{ writableRoot: true }, 'writable_root'],
    [{ newPrivileges: true }, 'new_privileges'],
    [{ mounts: [{ source: '/srv', target: '/x', writable: false }] }, 'mounts'],
    [{ mounts: [{ source: 'vol', target: '/x', writable: false }] }, 'mounts'],
  ] as const) {
    assert.equal(refusedBy(DEFAULT_POLICY, job as Partial<SandboxRequest>), `images.default.${rule}`);
  }
  assert.equal(refusedBy(DEFAULT_POLICY, { image: 'no image' }), 'sandbox.image');
});

test('signatures are required as configured, and signers bound to capabilities and controllers', () => {
  const policy = parsePolicy(
    'version = 1\n[signatures]\nrequire = ["programs"]\n[[signers]]\nkey_id = "ops-*"\ncapabilities = ["jobs"]\ncontrollers = ["main"]\n',
  );
  const rule = (capability: string, keyId: string | undefined, controllerId = 'main') =>
    refusalOf(evaluatePolicy(policy, { capability, controllerId, keyId, job: undefined }, HOST))?.rule;
  assert.equal(rule('programs', undefined), 'signatures.require');
  assert.equal(rule('jobs', undefined), undefined);
  assert.equal(rule('jobs', 'ops-1'), undefined);
  assert.equal(rule('programs', 'ops-1'), 'signers');
  assert.equal(rule('jobs', 'dev-1'), 'signers');
  assert.equal(rule('jobs', 'ops-1', 'other'), 'signers');
});

test('no image rule, no job; the first that matches decides', () => {
  assert.equal(refusedBy(parsePolicy('version = 1'), {}), 'images');
  const policy = parsePolicy(
    'version = 1\n[[images]]\npattern = "alpine"\n[[images]]\npattern = "*"\nwritable_root = true\n',
  );
  assert.equal(refusedBy(policy, { writableRoot: true }), 'images[0].writable_root');
  assert.equal(refusedBy(policy, { writableRoot: true, image: 'ubuntu' }), undefined);
});

test('digest pinning', () => {
  const policy = images('require_digest = true');
  assert.equal(refusedBy(policy, {}), 'images.x.require_digest');
  assert.equal(refusedBy(policy, { image: `alpine@sha256:${'0'.repeat(64)}` }), undefined);
});

test('networks', () => {
  const policy = images('networks = ["bridge", "named:ci-*"]');
  const rule = (mode: SandboxRequest['network']['mode'], name = '') => refusedBy(policy, { network: { mode, name } });
  assert.equal(rule('bridge'), undefined);
  assert.equal(rule('host'), 'images.x.networks');
  assert.equal(rule('named', 'ci-1'), undefined);
  assert.equal(rule('named', 'prod'), 'images.x.networks');
  const any = images('networks = ["named:*"]');
  for (const name of ['host', 'bridge', 'none', 'container:x', 'default', '']) {
    assert.equal(refusedBy(any, { network: { mode: 'named', name } }), 'images.x.networks', name);
  }
});

test('users: * is any number but 0, never a name', () => {
  const policy = images('users = ["*:*", "app", "0:7"]');
  for (const user of ['1000:1000', '1:1', 'app', '65534:65534', '0:7'])
    assert.equal(refusedBy(policy, { user }), undefined, user);
  for (const user of [
    '0:0',
    '1000:0',
    '0:1000',
    '1000',
    'root',
    'app:app',
    '00:1',
    '+1:1',
    '4294967296:1',
    '1:2:3',
    ':',
    '',
  ]) {
    assert.equal(refusedBy(policy, { user }), 'images.x.users', user);
  }
});

test('capabilities are compared in one spelling, and ALL only by its name', () => {
  const policy = images('capabilities = ["NET_RAW"]');
  for (const name of ['NET_RAW', 'CAP_NET_RAW', 'cap_net_raw'])
    assert.equal(refusedBy(policy, { addCapabilities: [name] }), undefined);
  for (const name of ['ALL', 'SYS_ADMIN', 'NET_RAW2', '']) {
    assert.equal(refusedBy(policy, { addCapabilities: ['NET_RAW', name] }), 'images.x.capabilities');
  }
});

test('limits: at most, never zero, never NaN; those of an image replace the general ones', () => {
  const policy = parsePolicy(
    'version = 1\n[limits]\ncpus = 2\nmemory = "1GiB"\n[[images]]\nname = "x"\npattern = "*"\n[images.limits]\ncpus = 8\n',
  );
  const rule = (limits: Partial<SandboxRequest['limits']>) =>
    refusedBy(policy, { limits: { ...HARDENED.limits, ...limits } });
  assert.equal(rule({ cpus: 8 }), undefined);
  for (const cpus of [8.1, 0, 0.001, -1, Number.NaN, Number.POSITIVE_INFINITY])
    assert.equal(rule({ cpus }), 'images.x.limits.cpus');
  for (const memoryBytes of [2 ** 30 + 1, 0, Number.NaN]) assert.equal(rule({ memoryBytes }), 'limits.memory');
  assert.equal(rule({ timeoutMs: 10 ** 9 }), undefined);
});

test('every rule is looked at, and the first that forbids is named with value and limit', () => {
  const job = { ...HARDENED, network: { mode: 'host', name: '' }, writableRoot: true } as const;
  const decisions = evaluatePolicy(
    DEFAULT_POLICY,
    { capability: 'jobs', controllerId: 'main', keyId: undefined, job },
    HOST,
  );
  assert.deepEqual(
    decisions.filter(({ allowed }) => !allowed).map(({ rule }) => rule),
    ['signatures.require', 'images.default.networks', 'images.default.writable_root'],
  );
  const refusal = refusalOf(decisions.slice(1));
  assert.equal(refusal?.reason, 'policy');
  assert.equal(
    refusal?.message,
    'forbidden by policy rule images.default.networks: network host is not among those allowed: none',
  );
});
