import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { SessionSpecSchema, SessionVolumeScope } from '#gen/longline/v1/session_pb.js';
import { explainSession } from '../../../src/agent/policy/session-explanation.ts';
import { DEFAULT_SESSIONS_CONFIG } from '../../../src/capabilities/sessions/config.ts';
import { evaluatePolicy } from '../../../src/core/policy/evaluation.ts';
import { DEFAULT_POLICY, type Policy } from '../../../src/core/policy/policy.ts';
import { parsePolicy } from '../../../src/core/policy/policy-file.ts';

const HOST = {
  paths: { resolve: (path: string) => path, protectedPaths: [] },
  defaultUser: '65534:65534',
  defaultRuntime: '',
};

function ask(init: MessageInitShape<typeof SessionSpecSchema>, policy: Policy = DEFAULT_POLICY, keyId?: string) {
  return explainSession(
    {
      sessions: DEFAULT_SESSIONS_CONFIG,
      nameplate: { agentId: 'a', labels: {} },
      nowMs: 0,
      findKey: () => undefined,
      evaluate: (request) => evaluatePolicy(policy, request, HOST),
    },
    { spec: create(SessionSpecSchema, init), keyId, controllerId: 'main' },
  );
}

const denied = (answer: ReturnType<typeof ask>) =>
  answer.decisions.filter(({ allowed }) => !allowed).map(({ rule }) => rule);

test('a plain session is allowed, and shown with the defaults of the host', () => {
  const answer = ask({ image: 'desktop:1', vnc: { password: 'secret' } });
  assert.deepEqual(denied(answer), []);
  assert.equal(answer.allowed, true);
  assert.equal(answer.effective?.resources?.cpus, DEFAULT_SESSIONS_CONFIG.defaults.cpus);
  assert.equal(answer.effective?.vnc?.password, '');
  assert.equal(answer.effective?.vnc?.passwordSet, true);
});

test('every rule that forbids is told, and so is what is wrong with the spec', () => {
  const answer = ask({
    image: 'desktop:1',
    mounts: [{ source: '/srv', target: '/x' }],
    sandbox: { user: '0:0', addCapabilities: ['SYS_ADMIN'] },
  });
  const rule = 'sessions.images.default';
  assert.deepEqual(denied(answer), [`${rule}.users`, `${rule}.capabilities`, `${rule}.mounts`]);
  const wrong = ask({ image: '' });
  assert.deepEqual(denied(wrong), ['session_spec']);
  assert.equal(wrong.effective, undefined);
  assert.deepEqual(denied(ask({ image: 'desktop:1' }, DEFAULT_POLICY, 'k')), ['trust']);
});

test("options of the host's own volume driver reach the host, and need to be listed", () => {
  const volumes = [
    {
      name: 'etc',
      scope: SessionVolumeScope.SESSION,
      target: '/x',
      driverOptions: { type: 'none', o: 'bind', device: '/etc' },
    },
  ];
  assert.deepEqual(denied(ask({ image: 'desktop:1', volumes })), ['sessions.images.default.volume_drivers']);
  const plain = volumes.map(({ driverOptions: _, ...volume }) => volume);
  assert.deepEqual(denied(ask({ image: 'desktop:1', volumes: plain })), []);
  const listed = parsePolicy('version = 1\n[[sessions.images]]\npattern = "*"\nvolume_drivers = ["local"]\n');
  assert.deepEqual(denied(ask({ image: 'desktop:1', volumes }, listed)), []);
});
