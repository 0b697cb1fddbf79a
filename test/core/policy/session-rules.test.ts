import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LonglineError } from '../../../src/core/errors.ts';
import { evaluatePolicy, type PolicyHost, refusalOf } from '../../../src/core/policy/evaluation.ts';
import { DEFAULT_POLICY, type Policy } from '../../../src/core/policy/policy.ts';
import { parsePolicy } from '../../../src/core/policy/policy-file.ts';
import type { SessionRequest, TunnelKind } from '../../../src/core/policy/session-policy.ts';

const HOST: PolicyHost = {
  paths: { resolve: (path) => path, protectedPaths: ['/var/lib/longline'] },
  defaultUser: '65534:65534',
  defaultRuntime: '',
};

const GROUND: SessionRequest = {
  image: 'desktop:1',
  network: { mode: 'isolated', name: '' },
  user: '',
  addCapabilities: [],
  runtime: '',
  newPrivileges: false,
  mounts: [],
  sharedVolumes: [],
  volumeDrivers: [],
  limits: { cpus: 1, memoryBytes: 2 ** 30, pids: 512, shmBytes: 2 ** 26, lifetimeMs: 0 },
};

function ask(policy: Policy, asked: Partial<SessionRequest>, keyId?: string) {
  const session = { ...GROUND, ...asked };
  return refusalOf(
    evaluatePolicy(policy, { capability: 'sessions', controllerId: 'main', keyId, job: undefined, session }, HOST),
  );
}

const rules = (text: string): Policy =>
  parsePolicy(`version = 1\n[[sessions.images]]\nname = "desk"\npattern = "desktop"\n${text}\n`);

test('without a policy file a session is what every session is, unsigned too', () => {
  assert.equal(ask(DEFAULT_POLICY, {}), undefined);
  assert.equal(ask(DEFAULT_POLICY, { network: { mode: 'none', name: '' }, user: '1000:1000' }), undefined);
  for (const [asked, rule] of [
    [{ network: { mode: 'shared', name: '' } }, 'networks'],
    [{ network: { mode: 'named', name: 'x' } }, 'networks'],
    [{ network: { mode: 'unknown', name: '' } }, 'networks'],
    [{ user: 'root' }, 'users'],
    [{ user: '0:0' }, 'users'],
    [{ user: '1000:0' }, 'users'],
    [{ addCapabilities: ['SYS_ADMIN'] }, 'capabilities'],
    [{ runtime: 'runsc' }, 'runtimes'],
    [{ newPrivileges: true }, 'new_privileges'],
    [{ mounts: [{ source: '/srv', target: '/x', writable: false }] }, 'mounts'],
    [{ sharedVolumes: ['data'] }, 'shared_volumes'],
    [{ volumeDrivers: ['nfs'] }, 'volume_drivers'],
  ] as const) {
    assert.equal(ask(DEFAULT_POLICY, asked as Partial<SessionRequest>)?.rule, `sessions.images.default.${rule}`);
  }
});

test('a policy file lists what sessions may be', () => {
  assert.equal(ask(parsePolicy('version = 1'), {})?.rule, 'sessions.images');
  assert.equal(ask(rules(''), {}), undefined);
  assert.equal(ask(rules(''), { image: 'other:1' })?.rule, 'sessions.images');
  assert.equal(ask(rules('require_digest = true'), {})?.rule, 'sessions.images.desk.require_digest');
  assert.equal(ask(rules('users = ["app"]'), { user: 'app' }), undefined);
  assert.equal(ask(rules(''), { user: '1000:1000' })?.rule, 'sessions.images.desk.users');
  const shared = rules('networks = ["shared", "named:team-*"]');
  assert.equal(ask(shared, { network: { mode: 'shared', name: '' } }), undefined);
  assert.equal(ask(shared, { network: { mode: 'named', name: 'team-x' } }), undefined);
  assert.equal(ask(shared, { network: { mode: 'named', name: 'host' } })?.rule, 'sessions.images.desk.networks');
  assert.equal(ask(rules('capabilities = ["SYS_NICE"]'), { addCapabilities: ['SYS_NICE'] }), undefined);
  assert.equal(ask(rules('runtimes = ["runsc"]'), { runtime: 'runsc' }), undefined);
  assert.equal(ask(rules('new_privileges = true'), { newPrivileges: true }), undefined);
  assert.equal(ask(rules('shared_volumes = ["team-*"]'), { sharedVolumes: ['team-x'] }), undefined);
  assert.equal(ask(rules('volume_drivers = ["nfs"]'), { volumeDrivers: ['nfs'] }), undefined);
  const mounts = rules('[[sessions.images.mounts]]\nsource = "/srv"');
  const mount = (source: string, writable: boolean) => ({ mounts: [{ source, target: '/x', writable }] });
  assert.equal(ask(mounts, mount('/srv/data', false)), undefined);
  assert.equal(ask(mounts, mount('/srv/data', true))?.rule, 'sessions.images.desk.mounts');
  assert.equal(ask(mounts, mount('/var/lib/longline/x', false))?.rule, 'sandbox.protected_paths');
});

test('limits are the general ones, unless those of the image say otherwise', () => {
  const policy = parsePolicy(
    'version = 1\n[sessions.limits]\ncpus = 1\nmax_lifetime = "1h"\n[[sessions.images]]\nname = "big"\npattern = "big"\n' +
      '[sessions.images.limits]\ncpus = 4\nmemory = "2GiB"\n[[sessions.images]]\npattern = "*"\n',
  );
  const limits = (patch: Partial<SessionRequest['limits']>) => ({
    limits: { ...GROUND.limits, lifetimeMs: 1000, ...patch },
  });
  assert.equal(ask(policy, limits({})), undefined);
  assert.equal(ask(policy, limits({ cpus: 2 }))?.rule, 'sessions.limits.cpus');
  assert.equal(ask(policy, { image: 'big', ...limits({ cpus: 4 }) }), undefined);
  assert.equal(
    ask(policy, { image: 'big', ...limits({ memoryBytes: 2 ** 32 }) })?.rule,
    'sessions.images.big.limits.memory',
  );
  // Without an end is more than an hour.
  assert.equal(ask(policy, limits({ lifetimeMs: 0 }))?.rule, 'sessions.limits.max_lifetime');
});

test('sessions are signed where the policy asks for it, and ways in are open as it lists', () => {
  const policy = parsePolicy(
    'version = 1\n[signatures]\nrequire = ["sessions"]\n[sessions]\ntunnels = ["port"]\n[[sessions.images]]\npattern = "*"\n',
  );
  assert.equal(ask(policy, {})?.rule, 'signatures.require');
  assert.equal(ask(policy, {}, 'k'), undefined);
  const into = (kind: TunnelKind, keyId?: string, asked = policy) =>
    refusalOf(
      evaluatePolicy(
        asked,
        { capability: 'sessions', controllerId: 'main', keyId, job: undefined, tunnel: { kind } },
        HOST,
      ),
    )?.rule;
  assert.equal(into('port'), 'signatures.require');
  assert.equal(into('port', 'k'), undefined);
  assert.equal(into('exec', 'k'), 'sessions.tunnels');
  assert.equal(into('attach', 'k'), 'sessions.tunnels');
  assert.equal(into('exec', undefined, DEFAULT_POLICY), undefined);
});

test('a process in a session runs as another user only where the rule of its image lets a session be that', () => {
  const as = (policy: Policy, user: string, image = 'desktop:1') => {
    const tunnel = { kind: 'exec', other: { user, image } } as const;
    const request = { capability: 'sessions', controllerId: 'main', keyId: undefined, job: undefined, tunnel };
    return refusalOf(evaluatePolicy(policy, request, HOST))?.rule;
  };
  for (const user of ['root', '0', '0:0', '1000', '1000:0', 'app']) {
    assert.equal(as(DEFAULT_POLICY, user), 'sessions.images.default.users', user);
  }
  assert.equal(as(DEFAULT_POLICY, '1000:1000'), undefined);
  assert.equal(as(rules('users = ["app"]'), 'app'), undefined);
  assert.equal(as(rules('users = ["app"]'), '1000:1000'), 'sessions.images.desk.users');
  assert.equal(as(rules('users = ["app"]'), 'app', 'other:1'), 'sessions.images');
});

test('a policy file says what is wrong in its part about sessions', () => {
  const text =
    'version = 1\n[sessions]\ntunnels = ["door"]\n[[sessions.images]]\npattern = "*"\nnetworks = ["bridge"]\nwritable_root = true\n' +
    '[[sessions.images.mounts]]\nsource = "volume:x"\n[sessions.images.limits]\ntmp = "1MiB"\n';
  assert.throws(
    () => parsePolicy(text),
    (error: unknown) => {
      assert.ok(error instanceof LonglineError);
      assert.deepEqual(error.violations.map(({ field }) => field).sort(), [
        'sessions.images[0].limits.tmp',
        'sessions.images[0].mounts[0].source',
        'sessions.images[0].networks[0]',
        'sessions.images[0].writable_root',
        'sessions.tunnels[0]',
      ]);
      return true;
    },
  );
});
