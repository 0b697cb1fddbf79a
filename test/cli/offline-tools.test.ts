import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { PassThrough, Readable } from 'node:stream';
import { afterEach, beforeEach, test } from 'node:test';
import { create, toJson } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { StoredAuditCheckpointSchema } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { AuditLog } from '../../src/agent/audit/audit-log.ts';
import { verifyStatement } from '../../src/agent/trust/statement-verification.ts';
import { readTrustFile } from '../../src/agent/trust/trust-store.ts';
import { CliIo } from '../../src/cli/io.ts';
import { readSignedJob } from '../../src/cli/job/signing.ts';
import { run } from '../../src/cli/run.ts';
import type { AuditCheckpoint } from '../../src/core/audit/audit-checkpoint.ts';
import { systemClock } from '../../src/core/clock.ts';
import { silentLogger } from '../../src/core/logger.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-cli-'));
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

const at = (name: string) => join(folder, name);

async function longline(...argv: readonly string[]) {
  const collect = () => {
    const stream = new PassThrough();
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    return { stream, text: () => Buffer.concat(chunks).toString() };
  };
  const out = collect();
  const err = collect();
  const io = new CliIo({ stdin: Readable.from([]), stdout: out.stream, stderr: err.stream, env: {} });
  await run(argv, io);
  return { code: io.exitCode, out: out.text(), err: err.text() };
}

async function json(...argv: readonly string[]) {
  const { out, err, code } = await longline(...argv, '--json');
  return { code, value: JSON.parse(out === '' ? err : out) };
}

test('key generate: private file, no overwriting, no secret on the screen', async () => {
  const { code, value } = await json('key', 'generate', '--out', at('a.key'));
  assert.equal(code, 0);
  assert.match(value.key_id, /^ed25519-[0-9a-f]{16}$/);
  assert.equal((await stat(at('a.key'))).mode & 0o777, 0o600);
  const text = await readFile(at('a.key'), 'utf8');
  const secret = /secret = "([^"]+)"/.exec(text)![1]!;
  assert.ok(!JSON.stringify(value).includes(secret));
  const again = await longline('key', 'generate', '--out', at('a.key'));
  assert.equal(again.code, 1);
  assert.match(again.err, /a.key exists.*--force/);
  assert.equal(await readFile(at('a.key'), 'utf8'), text);
  assert.equal((await longline('key', 'generate', '--out', at('a.key'), '--force')).code, 0);
  assert.notEqual(await readFile(at('a.key'), 'utf8'), text);
  assert.equal((await stat(at('a.key'))).mode & 0o777, 0o600);
  assert.equal((await longline('key', 'generate', '--out', at('b.key'), '--key-id', 'a b')).code, 2);
  // The kernel makes no folders there, which Node's own making of parents takes for a reason to go on for ever.
  for (const force of [[], ['--force']]) {
    const nowhere = await longline('key', 'generate', '--out', '/proc/nowhere/a.key', ...force);
    assert.match(nowhere.err, /can't write \/proc\/nowhere\/a\.key: ENOENT/);
  }
});

test('key show and its public half', async () => {
  const { value: made } = await json('key', 'generate', '--out', at('a.key'));
  const { value: shown } = await json('key', 'show', at('a.key'));
  assert.deepEqual(shown, { key_id: made.key_id, algorithm: 'ed25519', public_key: made.public_key, private: true });
  const { out } = await longline('key', 'show', at('a.key'), '--public');
  assert.doesNotMatch(out, /secret =/);
  await writeFile(at('a.pub'), out);
  assert.deepEqual((await json('key', 'show', at('a.pub'))).value, { ...shown, private: false });
  await longline('key', 'generate', '--type', 'hmac', '--out', at('h.key'));
  assert.equal((await longline('key', 'show', at('h.key'), '--public')).code, 2);
});

test('key trust, key sign: an agent with that trust file believes the job', async () => {
  await writeFile(at('trust.toml'), '# keep me\n', { mode: 0o640 });
  for (const [type, file] of [
    ['ed25519', 'a.key'],
    ['hmac', 'h.key'],
  ] as const) {
    const { value: made } = await json('key', 'generate', '--type', type, '--out', at(file));
    const grant = ['--controller', 'main', '--capability', 'jobs'];
    const trust = ['key', 'trust', '--key', at(file), '--trust-file', at('trust.toml'), ...grant];
    const selectors = ['--selector', 'zone=eu', '--selector', 'id:web-1'];
    const bounds = ['--scope', 'deploy', '--not-after', '2099-01-01T00:00:00Z'];
    const trusted = await longline(...trust, ...selectors, ...bounds);
    assert.deepEqual([trusted.code, trusted.err], [0, '']);
    assert.equal((await longline(...trust)).code, 2, 'the same key twice');
    await writeFile(at('job.json'), JSON.stringify({ argv: ['id'], required_scopes: ['deploy'] }));
    const target = ['--agent', 'web-1', '--controller-id', 'main', '--ttl', '10m'];
    const sign = ['key', 'sign', '--key', at(file), '--spec', at('job.json'), ...target, '--out', at('job.signed')];
    assert.equal((await longline(...sign)).code, 0);
    const { signed } = await readSignedJob(at('job.signed'));
    const entries = await readTrustFile(at('trust.toml'));
    const verified = verifyStatement(signed, {
      limits: { maxPayloadBytes: 1 << 20, maxLifetimeMs: 3_600_000, maxSkewMs: 60_000, allowedControllers: undefined },
      agent: { agentId: 'web-1', labels: {} },
      nowMs: Date.now(),
      findKey: (keyId) => entries.find((entry) => entry.keyId === keyId),
      nonceSeen: () => false,
    });
    assert.equal(verified.signer?.keyId, made.key_id);
  }
  const text = await readFile(at('trust.toml'), 'utf8');
  assert.match(text, /^# keep me\n/);
  assert.equal((await stat(at('trust.toml'))).mode & 0o777, 0o640);
});

test('key sign refuses a key that others may read, with the mend', async () => {
  await longline('key', 'generate', '--out', at('a.key'));
  await chmod(at('a.key'), 0o644);
  await writeFile(at('job.json'), '{"argv":["id"]}');
  const sign = [
    'key',
    'sign',
    '--key',
    at('a.key'),
    '--spec',
    at('job.json'),
    '--agent',
    'w',
    '--controller-id',
    'main',
    '--out',
    at('s'),
  ];
  const refused = await longline(...sign);
  assert.equal(refused.code, 4);
  assert.match(refused.err, /chmod 600/);
  await chmod(at('a.key'), 0o600);
  await writeFile(at('job.json'), '{"argv":"id"}');
  assert.match((await longline(...sign)).err, /job.json is not JSON of longline.v1.JobSpec/);
});

test('policy check lists every error with its line, also of permissions', async () => {
  await writeFile(at('policy.toml'), 'version = 1\n[[images]]\npattern = "*"\n', { mode: 0o644 });
  assert.deepEqual(await json('policy', 'check', at('policy.toml')), {
    code: 0,
    value: { ok: true, path: at('policy.toml'), errors: [] },
  });
  await writeFile(at('policy.toml'), 'version = 1\nstray = 1\n[limits]\ncpus = "x"\n');
  await chmod(at('policy.toml'), 0o666);
  const { code, out } = await longline('policy', 'check', at('policy.toml'));
  assert.equal(code, 1);
  assert.match(out, /limits.cpus: got "x".*\(line 4\)\n.*stray: unknown key.*\(line 2\)\n.*chmod go-w/);
  assert.equal((await longline('policy', 'check', at('none.toml'))).code, 3);
});

test('policy explain: every rule, exit code 4 if the job would be refused', async () => {
  const good = await json('policy', 'explain', '--image', 'alpine');
  assert.deepEqual([good.code, good.value.allowed], [0, true]);
  const bad = await json(
    'policy',
    'explain',
    '--unsigned',
    '--image',
    'alpine',
    '--network',
    'host',
    '--writable-root',
  );
  assert.deepEqual([bad.code, bad.value.allowed], [4, false]);
  const denied = bad.value.decisions.filter((decision: { allowed: boolean }) => !decision.allowed);
  assert.deepEqual(
    denied.map(({ rule }: { rule: string }) => rule),
    ['signatures.require', 'images.default.networks', 'images.default.writable_root'],
  );
  await writeFile(
    at('policy.toml'),
    'version = 1\n[[images]]\nname = "web"\npattern = "alpine"\nnetworks = ["host"]\n',
    { mode: 0o644 },
  );
  await writeFile(at('job.json'), JSON.stringify({ image: 'alpine', network_mode: 'NETWORK_MODE_HOST' }));
  const explained = await longline('policy', 'explain', '--policy', at('policy.toml'), '--spec', at('job.json'));
  assert.equal(explained.code, 0);
  assert.match(explained.out, /allow {2}images.web.networks: network host is allowed\n[\s\S]*The job would run./);
});

test('policy explain looks the key up in a trust file', async () => {
  await longline('key', 'generate', '--out', at('a.key'), '--key-id', 'ops');
  await longline(
    'key',
    'trust',
    '--key',
    at('a.key'),
    '--trust-file',
    at('trust.toml'),
    '--controller',
    'main',
    '--capability',
    'jobs',
  );
  const ask = ['policy', 'explain', '--trust', at('trust.toml'), '--image', 'alpine'];
  const rules = async (...more: string[]) => {
    const { value } = await json(...ask, ...more);
    return value.decisions
      .filter((decision: { allowed: boolean }) => !decision.allowed)
      .map(({ rule }: { rule: string }) => rule);
  };
  assert.deepEqual(await rules('--key-id', 'ops', '--controller-id', 'main'), []);
  assert.deepEqual(await rules('--key-id', 'ops', '--controller-id', 'other'), ['trust.ops.controllers']);
  assert.deepEqual(await rules('--key-id', 'ops', '--controller-id', 'main', '--scope', 'x'), ['trust.ops.scopes']);
  assert.deepEqual(await rules('--key-id', 'nobody'), ['trust']);
});

test('audit verify and export', async () => {
  const kept: AuditCheckpoint[] = [];
  {
    const onCheckpoint = (checkpoint: AuditCheckpoint) => kept.push(checkpoint);
    await using log = await AuditLog.open({ dataDir: folder, clock: systemClock, log: silentLogger, onCheckpoint });
    for (let index = 0; index < 5; index++) await log.append({ event: 'refused', commandId: `c${index}` });
  }
  const stored = kept.map(({ chainId, sequence, head, timeMs, payload, signature, publicKey }) =>
    toJson(
      StoredAuditCheckpointSchema,
      create(StoredAuditCheckpointSchema, {
        chainId,
        sequence: BigInt(sequence),
        head,
        time: timestampFromMs(timeMs),
        payload,
        signature,
        publicKey,
      }),
      { useProtoFieldName: true },
    ),
  );
  await writeFile(at('kept.json'), JSON.stringify(stored));
  const good = await json('audit', 'verify', '--data-dir', folder, '--checkpoints', at('kept.json'));
  assert.deepEqual([good.code, good.value.ok, good.value.records, good.value.covered_sequence], [0, true, 5, 5]);
  const exported = await longline('audit', 'export', '--file', at('audit.db'), '--command', 'c3');
  assert.equal(JSON.parse(exported.out).sequence, 4);
  assert.equal((await longline('audit', 'export', '--data-dir', folder)).out.trimEnd().split('\n').length, 5);
  assert.match((await longline('audit', 'verify', '--data-dir', folder)).out, /Only checkpoints kept elsewhere/);

  const database = new DatabaseSync(at('audit.db'));
  database.exec('DROP TRIGGER audit_records_no_delete; DELETE FROM audit_records WHERE sequence IN (2, 5)');
  database.close();
  const bad = await longline('audit', 'verify', '--data-dir', folder, '--checkpoints', at('kept.json'));
  assert.equal(bad.code, 1);
  assert.match(bad.out, /missing at record 3: record 2 is missing/);
  assert.match(bad.out, /truncated at record 4: the log ends at record 4, but a checkpoint covers record 5/);
});

test('audit: what is asked must be clear, and files that are none are refused', async () => {
  assert.match((await longline('audit', 'verify')).err, /exactly one of --data-dir and --file/);
  assert.equal((await longline('audit', 'verify', '--data-dir', folder)).code, 3);
  await writeFile(at('x'), '[{"sequence":"y"}]');
  assert.match(
    (await longline('audit', 'verify', '--data-dir', folder, '--checkpoints', at('x'))).err,
    /x, element 0: /,
  );
  assert.equal((await longline('audit', 'export', '--data-dir', folder, '--from', 'yesterday')).code, 2);
  const unknown = await longline('audit', 'export', '--data-dir', folder, '--event', 'refusal');
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /refusal.*one of received, .*refused/);
  await writeFile(at('none.json'), '[]');
  const uncompared = await longline('audit', 'verify', '--data-dir', folder, '--checkpoints', at('none.json'));
  assert.equal(uncompared.code, 3, 'nothing to compare with must not look like a log that was compared');
  assert.match(uncompared.err, /no checkpoint of .*none.json/);
});
