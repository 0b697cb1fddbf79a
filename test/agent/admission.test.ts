import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { type Command, CommandSchema } from '#gen/longline/link/v1/link_pb.js';
import type { JobSpecSchema } from '#gen/longline/v1/job_pb.js';
import { ProgramActionSchema } from '#gen/longline/v1/program_pb.js';
import type { SessionSpecSchema } from '#gen/longline/v1/session_pb.js';
import { JobActionSchema, type SignedPayload } from '#gen/longline/v1/signature_pb.js';
import { Admission } from '../../src/agent/admission.ts';
import { AuditLog } from '../../src/agent/audit/audit-log.ts';
import { exportAuditLog } from '../../src/agent/audit/export.ts';
import { hostPaths } from '../../src/agent/policy/host-paths.ts';
import { PolicyStore } from '../../src/agent/policy/policy-store.ts';
import { formatTrustEntry } from '../../src/agent/trust/trust-entry-text.ts';
import { TrustStore } from '../../src/agent/trust/trust-store.ts';
import { parseJobsConfig } from '../../src/capabilities/jobs/config.ts';
import { DEFAULT_SESSIONS_CONFIG } from '../../src/capabilities/sessions/config.ts';
import { decodeSessionAction } from '../../src/capabilities/sessions/wire.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { generateSigningKey } from '../../src/core/signing/signing-key.ts';
import { NOW_MS, nonce, signed, statementBytes } from './trust/statement-fixture.ts';

const key = generateSigningKey('ed25519', 'ops');
const clock = { now: () => NOW_MS, monotonic: () => 0, sleep: async () => undefined };
const unseen = () => false;

let folder = '';
let audit: AuditLog;
let admission: Admission;
let policy: PolicyStore;

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'longline-admission-')));
  await mkdir(join(folder, 'srv/data'), { recursive: true });
  await symlink(join(folder, 'srv'), join(folder, 'link'));
  const grant = {
    keyId: 'ops',
    publicKey: key.publicKey,
    secretFile: undefined,
    controllers: ['main'],
    capabilities: ['jobs', 'programs'],
    selectors: [],
    scopes: [],
    notAfterMs: undefined,
  };
  await writeFile(join(folder, 'trust.toml'), formatTrustEntry(grant), { mode: 0o644 });
  await writePolicy(`[[images.mounts]]\nsource = "${folder}/srv"\n`);
  // No wait ever ends by itself here: the periodic checkpoint must not spin on a clock that stands still.
  const stopped = { ...clock, sleep: (_ms: number, signal?: AbortSignal) => aborted(signal) };
  audit = await AuditLog.open({ dataDir: folder, clock: stopped, log: silentLogger, onCheckpoint: () => undefined });
  const trust = new TrustStore({
    trustFile: { path: join(folder, 'trust.toml'), required: true },
    enrollmentFile: undefined,
    enrollmentScopes: [],
  });
  await trust.load();
  const paths = hostPaths([join(folder, 'audit.db')]);
  policy = new PolicyStore(join(folder, 'policy.toml'), { paths, defaultUser: '65534:65534', defaultRuntime: '' });
  await policy.load();
  admission = new Admission({
    sessions: DEFAULT_SESSIONS_CONFIG,
    trust,
    policy,
    audit,
    paths,
    clock,
    jobs: parseJobsConfig({ allowedImages: ['**'] }),
    nameplate: () => ({ agentId: 'web-1', labels: {} }),
    allowedControllers: () => ['main'],
    maxSkewMs: 60_000,
  });
});

afterEach(async () => {
  await audit[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function aborted(signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  signal?.addEventListener('abort', () => resolve(), { once: true });
  await promise;
}

function writePolicy(rest: string): Promise<void> {
  return writeFile(join(folder, 'policy.toml'), `version = 1\n[[images]]\nname = "x"\npattern = "alpine"\n${rest}`, {
    mode: 0o644,
  });
}

function command(statement: SignedPayload, id = 'c1'): Command {
  return create(CommandSchema, { id, seq: 7n, statement });
}

function job(spec: MessageInitShape<typeof JobSpecSchema>): Command {
  return command(signed(statementBytes({}, { argv: ['id'], ...spec } as typeof spec), key));
}

/** Admits, with the audit record durable. */
async function admitted(asked: Command) {
  const outcome = await admission.admit(asked, unseen);
  await outcome.recorded;
  return outcome;
}

const auditRecords = () =>
  [...exportAuditLog(join(folder, 'audit.db'), {})]
    .join('')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

test('what can not be audited is not admitted, whether it would have been allowed or not, and the refusal says so', async () => {
  await audit[Symbol.asyncDispose]();
  const allowed = await admission.admit(job({}), unseen);
  await assert.rejects(allowed.recorded, { reason: 'unavailable', message: /^audit log .*audit\.db: / });
  await assert.rejects(admission.admit(job({ image: 'elsewhere/x' }), unseen), { message: /^audit log / });
});

test('a good job is admitted with its action and nonce, and audited before', async () => {
  const used = nonce();
  const outcome = await admitted(command(signed(statementBytes({ nonce: used }), key)));
  assert.equal(outcome.capability, 'jobs');
  assert.deepEqual(outcome.nonce, used);
  assert.equal(outcome.nonceExpiresAtMs, NOW_MS + 60_000 + 60_000);
  const action = fromBinary(JobActionSchema, outcome.action).action;
  assert.deepEqual(action.case === 'run' && action.value.argv, ['id']);
  const records = auditRecords();
  assert.deepEqual(
    records.map(({ event, command_id: id }) => [event, id]),
    [
      ['received', 'c1'],
      ['admitted', 'c1'],
    ],
  );
  assert.equal(records[1].key_id, 'ops');
  assert.equal(records[1].controller_id, 'main');
});

test('the audit log holds what was asked, and no secret of it', async () => {
  const secrets = { password: 'hunter2-hunter2', input: 'stdin-secret-bytes' };
  await admitted(
    job({
      argv: ['deploy', '--token=argv-secret'],
      env: { PASSWORD: secrets.password },
      stdinMode: 2,
      stdinData: Buffer.from(secrets.input),
      metadata: { prompt: 'ship it', candidate: { risk: 'low' } },
    }),
  );
  const text = JSON.stringify(auditRecords());
  for (const secret of [
    secrets.password,
    secrets.input,
    'argv-secret',
    Buffer.from(secrets.input).toString('base64'),
  ]) {
    assert.ok(!text.includes(secret), secret);
  }
  const { summary } = auditRecords()[1];
  assert.equal(summary.program, 'deploy');
  assert.match(summary.command_sha256, /^[0-9a-f]{64}$/);
  assert.match(summary.env.PASSWORD, /^hmac-sha256:/);
  assert.deepEqual([summary.prompt, summary.candidate], ['ship it', { risk: 'low' }]);
});

test('each refusal names its rule, to the caller and in the audit log', async () => {
  const cases: readonly (readonly [Command, string, string])[] = [
    [command(signed(statementBytes())), 'policy', 'signatures.require'],
    [command(signed(statementBytes(), generateSigningKey('ed25519', 'stranger'))), 'identity', 'statement.signatures'],
    [command(signed(statementBytes({ audience: { agentIds: ['db-1'] } }), key)), 'policy', 'statement.audience'],
    [job({ image: 'ubuntu' }), 'policy', 'images'],
    [job({ networkMode: 3 }), 'policy', 'images.x.networks'],
    [job({ mounts: [{ source: '/etc', target: '/x' }] }), 'policy', 'images.x.mounts'],
    [job({ mounts: [{ source: `${folder}/audit.db`, target: '/x' }] }), 'policy', 'sandbox.protected_paths'],
  ];
  for (const [refused, reason, rule] of cases) await assert.rejects(admission.admit(refused, unseen), { reason, rule });
  await assert.rejects(admission.admit(job({ argv: [] }), unseen), { reason: 'invalid', message: /spec.argv/ });
  await assert.rejects(admission.admit(create(CommandSchema, { id: 'c9' }), unseen), {
    reason: 'invalid',
    rule: 'statement',
  });
  const refusals = auditRecords().filter(({ event }) => event === 'refused');
  assert.deepEqual(
    refusals.slice(0, cases.length).map(({ outcome, rule }) => [outcome, rule]),
    cases.map(([, reason, rule]) => [reason, rule]),
  );
  assert.equal(refusals.length, cases.length + 2);
});

test('a nonce serves one command: after a restart by the journal, before that by itself', async () => {
  const statement = signed(statementBytes(), key);
  await admission.admit(command(statement, 'c1'), unseen);
  // The journal forgot the first, for example since the link broke in between: the same command may come again.
  await admission.admit(command(statement, 'c1'), unseen);
  await assert.rejects(admission.admit(command(statement, 'c2'), unseen), { reason: 'stale', rule: 'statement.nonce' });
  const fresh = signed(statementBytes(), key);
  await assert.rejects(
    admission.admit(command(fresh, 'c3'), () => true),
    { reason: 'stale', rule: 'statement.nonce' },
  );
  const [first, second] = await Promise.allSettled(
    ['c4', 'c5'].map((id) => admission.admit(command(fresh, id), unseen)),
  );
  assert.deepEqual([first!.status, second!.status], ['fulfilled', 'rejected']);
});

test('what the engine mounts is the path that was judged, without links', async () => {
  const outcome = await admitted(job({ mounts: [{ source: `${folder}/link/data`, target: '/data' }] }));
  const action = fromBinary(JobActionSchema, outcome.action).action;
  assert.equal(action.case === 'run' && action.value.mounts[0]!.source, `${folder}/srv/data`);
});

test('a policy that is reloaded counts from then on; a bad one changes nothing', async () => {
  const mounting = () => job({ mounts: [{ source: `${folder}/srv`, target: '/data' }] });
  await admission.admit(mounting(), unseen);
  await writeFile(join(folder, 'policy.toml'), 'version = 1\nimages = 5\n');
  await assert.rejects(policy.load(), { reason: 'invalid', message: /policy file .*policy.toml: images: got 5/ });
  await admission.admit(mounting(), unseen);
  await writePolicy('');
  await policy.load();
  await assert.rejects(admission.admit(mounting(), unseen), { rule: 'images.x.mounts' });
});

test('what can not be recorded is not admitted', async () => {
  await audit[Symbol.asyncDispose]();
  await assert.rejects(admitted(job({})), { reason: 'unavailable' });
});

test('no job can be so large that the audit log leaves out what it was', async () => {
  const text = '"'.repeat(5000);
  const many = Array.from({ length: 60 }, (_, index) => `${index}${text}`);
  const stuffed = job({
    argv: [text],
    image: 'alpine',
    env: Object.fromEntries(many.map((name) => [name, name])),
    mounts: many.map((source) => ({ source, target: source })),
    sandbox: { addCapabilities: many, user: text, runtime: text },
    networkName: text,
    metadata: { prompt: text, snapshot: text, extra: { a: text }, candidate: { b: '"'.repeat(900) } },
  });
  await assert.rejects(admission.admit(stuffed, unseen), { reason: 'invalid' });
  const { summary } = auditRecords().findLast(({ event }) => event === 'refused');
  assert.equal(summary.image, 'alpine');
  assert.deepEqual([Object.keys(summary.env).length, summary.mounts.length, summary.capabilities.length], [32, 16, 32]);
});

function session(spec: MessageInitShape<typeof SessionSpecSchema>): Command {
  const start = { sessionId: 'one', generation: 1n, spec: { image: 'desktop:1', ...spec } as typeof spec };
  const action = { action: { case: 'session', value: { action: { case: 'start', value: start } } } } as const;
  return command(signed(statementBytes({ action } as Parameters<typeof statementBytes>[0])));
}

test('a session is judged by its own part of the policy, with the links of its mounts resolved, and audited without secrets', async () => {
  const rule = '[[sessions.images]]\nname = "desk"\npattern = "desktop"\nnetworks = ["shared"]\n';
  await writePolicy(`${rule}[[sessions.images.mounts]]\nsource = "${folder}/srv"\n`);
  await policy.load();
  const mounts = [{ source: join(folder, 'link/data'), target: '/data' }];
  const outcome = await admitted(session({ network: { mode: 2 }, mounts, env: { SECRET: 'hush' } }));
  assert.equal(outcome.capability, 'sessions');
  const started = decodeSessionAction(outcome.action);
  assert.equal(started.kind === 'start' && started.spec.mounts[0]?.source, join(folder, 'srv/data'));
  const { summary } = auditRecords().at(-1);
  assert.deepEqual([summary.action, summary.session_id, summary.image], ['start', 'one', 'desktop:1']);
  assert.doesNotMatch(JSON.stringify(auditRecords()), /hush/);
  const refusals: [MessageInitShape<typeof SessionSpecSchema>, RegExp][] = [
    [{ network: { mode: 3, name: 'lan' } }, /network/],
    [{ sandbox: { addCapabilities: ['SYS_ADMIN'] } }, /SYS_ADMIN/],
    [{ mounts: [{ source: '/etc', target: '/etc2' }] }, /\/etc/],
    [{ image: 'other:1' }, /no rule matches image other:1/],
  ];
  for (const [spec, message] of refusals) {
    await assert.rejects(admission.admit(session(spec), unseen), { reason: 'policy', message });
  }
  await assert.rejects(admission.admit(session({ image: '' }), unseen), { reason: 'invalid', message: /spec\.image/ });
});

test('commands about programs have to be signed, are admitted as they are and summed up; permits are nothing to carry out', async () => {
  const artifact = `sha256:${'a'.repeat(64)}`;
  const about = (action: object) => {
    const value = { action: { case: 'program', value: { action } } };
    return statementBytes({ action: value } as never);
  };
  const rollBack = about({ case: 'rollBack', value: { name: 'drop', reason: 'too\nmany', artifact } });
  await assert.rejects(admission.admit(command(signed(rollBack)), unseen), { rule: 'signatures.require' });
  const outcome = await admitted(command(signed(rollBack, key)));
  assert.equal(outcome.capability, 'programs');
  const { action } = fromBinary(ProgramActionSchema, outcome.action);
  assert.equal(action.case === 'rollBack' && action.value.artifact, artifact);
  await admitted(command(signed(about({ case: 'releaseQuarantine', value: { artifact: '' } }), key), 'c2'));
  const permit = about({ case: 'permit', value: { generation: 1n } });
  const nothing = { reason: 'unsupported', rule: 'statement.action' } as const;
  await assert.rejects(admission.admit(command(signed(permit, key), 'c3'), unseen), nothing);
  const summaries = auditRecords().filter(({ event }) => event === 'admitted');
  assert.deepEqual(
    summaries.map(({ summary }) => summary),
    [
      { action: 'roll_back', program: 'drop', artifact, reason: 'too\ufffdmany' },
      { action: 'release_quarantine', artifact: '' },
    ],
  );
});

test('the permit of a desired state is nothing to carry out', async () => {
  const value = { action: { case: 'permit' as const, value: { generation: 1n } } };
  const permit = statementBytes({ action: { action: { case: 'network', value } } } as never);
  await assert.rejects(admission.admit(command(signed(permit)), unseen), {
    reason: 'unsupported',
    rule: 'statement.action',
    message: /send it as DesiredState.statement/,
  });
});
