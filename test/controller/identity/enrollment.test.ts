// Enrolment: who gets a certificate, who doesn't, and what a use of a token costs.
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomUUID, webcrypto, X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import 'reflect-metadata';

import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { agentIdOf } from '../../../src/controller/identity/certificate-authority.ts';
import { openControllerIdentity } from '../../../src/controller/identity/controller-identity.ts';
import { DataDirectory } from '../../../src/controller/identity/data-directory.ts';
import { Enrollment } from '../../../src/controller/identity/enrollment.ts';
import type { EnrollmentTokenRecord } from '../../../src/controller/identity/ports.ts';
import { hashSecret, newSecret } from '../../../src/controller/identity/secrets.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError, type Reason } from '../../../src/core/errors.ts';
import { newId } from '../../../src/core/ids.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { memoryRepositories } from '../../fixtures/identity-memory.ts';
import { newKeyAndRequest } from '../front/agent-client.ts';

const HOUR_MS = 3_600_000;

class Bench implements AsyncDisposable {
  readonly repositories = memoryRepositories();
  skewMs = 0;
  readonly clock = { ...systemClock, now: () => Date.now() + this.skewMs };
  #stack = new AsyncDisposableStack();
  enrollment!: Enrollment;
  controllerId = '';

  static async open(): Promise<Bench> {
    const bench = new Bench();
    const folder = await mkdtemp(join(tmpdir(), 'longline-enrol-'));
    bench.#stack.defer(() => rm(folder, { recursive: true, force: true }));
    const directory = bench.#stack.use(await DataDirectory.open(folder));
    const identity = await openControllerIdentity(directory, ['localhost'], bench.clock);
    const { enrollmentTokens: tokens, agentIdentities: identities } = bench.repositories;
    bench.enrollment = new Enrollment({ tokens, identities, ...identity, clock: bench.clock, log: silentLogger });
    bench.controllerId = identity.controllerId;
    return bench;
  }

  async token(
    patch: Partial<EnrollmentTokenRecord> = {},
  ): Promise<{ readonly secret: string; readonly record: EnrollmentTokenRecord }> {
    const secret = newSecret();
    const nowMs = this.clock.now();
    const record = {
      id: newId(),
      secretHash: hashSecret(secret),
      usesTotal: 1,
      usesLeft: 1,
      labels: { zone: 'a' },
      agentId: '',
      createdAtMs: nowMs,
      expiresAtMs: nowMs + 30 * 24 * HOUR_MS,
      revoked: false,
      ...patch,
    };
    await this.repositories.enrollmentTokens.insert(record);
    return { secret, record };
  }

  async usesLeft(record: EnrollmentTokenRecord): Promise<number | undefined> {
    return (await this.repositories.enrollmentTokens.findByHash(record.secretHash))?.usesLeft;
  }

  async enrol(token: string, patch: { agentId?: string; request?: Uint8Array; instanceId?: string } = {}) {
    const certificateRequest = patch.request ?? (await newKeyAndRequest()).request;
    return await this.enrollment.enroll({
      token,
      agentId: patch.agentId ?? 'host-1',
      certificateRequest,
      instanceId: patch.instanceId ?? randomUUID(),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

const failsWith = (reason: Reason, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof LonglineError);
  assert.deepEqual([error.reason, message.test(error.message)], [reason, true], error.message);
  return true;
};

it('gives a certificate that names the agent, the CA, the signing key and the labels', async () => {
  await using bench = await Bench.open();
  const { secret, record } = await bench.token();
  const answer = await bench.enrol(secret, { agentId: 'web.1_a-b' });
  const leaf = new X509Certificate(answer.certificateChain![0]!);
  const ca = new X509Certificate(answer.trustedCertificates![0]!);
  assert.ok(leaf.verify(ca.publicKey) && leaf.checkIssued(ca) && ca.ca && !leaf.ca);
  assert.equal(leaf.subjectAltName, `URI:spiffe://${bench.controllerId}/agent/web.1_a-b`);
  assert.equal(agentIdOf(leaf, bench.controllerId), 'web.1_a-b');
  assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.2']);
  const lifeMs = leaf.validToDate.getTime() - Date.now();
  assert.ok(lifeMs > 23.9 * HOUR_MS && lifeMs <= 24 * HOUR_MS);
  assert.deepEqual(answer.labels, { zone: 'a' });
  assert.equal(answer.controllerKeys?.[0]?.publicKey?.length, 32);
  assert.equal(await bench.usesLeft(record), 0);
});

it('refuses tokens that are unknown, ended, revoked, spent or bound to another agent', async () => {
  await using bench = await Bench.open();
  const spent = await bench.token();
  await bench.enrol(spent.secret);
  const revoked = await bench.token({ revoked: true });
  const ended = await bench.token({ expiresAtMs: bench.clock.now() });
  const bound = await bench.token({ agentId: 'host-9' });
  await assert.rejects(bench.enrol('nonsense', { agentId: 'h2' }), failsWith('identity', /unknown/));
  await assert.rejects(bench.enrol(revoked.secret, { agentId: 'h2' }), failsWith('identity', /revoked/));
  await assert.rejects(bench.enrol(ended.secret, { agentId: 'h2' }), failsWith('identity', /ended at/));
  await assert.rejects(bench.enrol(spent.secret, { agentId: 'h2' }), failsWith('identity', /no use left/));
  await assert.rejects(bench.enrol(bound.secret, { agentId: 'h2' }), failsWith('identity', /bound to another/));
  await bench.enrol(bound.secret, { agentId: 'host-9' });
});

it('gives an n-use token to exactly n of many at once', async () => {
  await using bench = await Bench.open();
  const { secret, record } = await bench.token({ usesTotal: 3, usesLeft: 3 });
  const outcomes = await Promise.allSettled(
    Array.from({ length: 8 }, (_, i) => bench.enrol(secret, { agentId: `h${i}` })),
  );
  assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 3);
  assert.equal(await bench.usesLeft(record), 0);
});

it('keeps the id of a live agent from others, and gives a lapsed one its record back', async () => {
  await using bench = await Bench.open();
  await bench.enrol((await bench.token()).secret);
  const first = await bench.repositories.agentIdentities.find('host-1');
  const thief = await bench.token();
  await assert.rejects(bench.enrol(thief.secret), failsWith('already_exists', /live agent with another key/));
  assert.equal(await bench.usesLeft(thief.record), 1);
  bench.skewMs = 25 * HOUR_MS;
  await bench.enrol(thief.secret);
  const again = await bench.repositories.agentIdentities.find('host-1');
  assert.equal(again?.enrolledAtMs, first?.enrolledAtMs);
  assert.equal(again?.certificates.length, 1);
  assert.notEqual(again?.certificates[0]?.serial, first?.certificates[0]?.serial);
});

it('lets a live agent enrol again with the same key', async () => {
  await using bench = await Bench.open();
  const { request } = await newKeyAndRequest();
  await bench.enrol((await bench.token()).secret, { request });
  await bench.enrol((await bench.token()).secret, { request });
  assert.equal((await bench.repositories.agentIdentities.find('host-1'))?.certificates.length, 2);
});

it('answers again when the first answer was lost, without another use, for a while and only to the same replica', async () => {
  await using bench = await Bench.open();
  const { secret, record } = await bench.token();
  const instanceId = randomUUID();
  await bench.enrol(secret, { instanceId });
  await bench.enrol(secret, { instanceId });
  assert.equal(await bench.usesLeft(record), 0);
  await assert.rejects(bench.enrol(secret), failsWith('already_exists', /live agent/));
  bench.skewMs = HOUR_MS;
  await assert.rejects(bench.enrol(secret, { instanceId }), failsWith('already_exists', /live agent/));
});

it('takes no renewal for an answer that was lost: a used token does not come back to life with it', async () => {
  await using bench = await Bench.open();
  const { secret } = await bench.token();
  const instanceId = randomUUID();
  await bench.enrol(secret, { instanceId });
  bench.skewMs = 16 * HOUR_MS;
  const { request } = await newKeyAndRequest();
  await bench.enrollment.renew('host-1', request);
  await assert.rejects(bench.enrol(secret, { instanceId }), failsWith('already_exists', /live agent/));
});

it('gives the id of a revoked agent to nobody', async () => {
  await using bench = await Bench.open();
  await bench.enrol((await bench.token()).secret);
  await bench.repositories.agentIdentities.revoke('host-1');
  bench.skewMs = 25 * HOUR_MS;
  await assert.rejects(bench.enrol((await bench.token()).secret), failsWith('wrong_state', /was revoked; delete/));
  await assert.rejects(
    bench.enrollment.renew('host-1', (await newKeyAndRequest()).request),
    failsWith('identity', /revoked/),
  );
});

it('renews, keeps what is still good, and bounds how many that is', async () => {
  await using bench = await Bench.open();
  await bench.enrol((await bench.token()).secret);
  for (let i = 0; i < 12; i++) await bench.enrollment.renew('host-1', (await newKeyAndRequest()).request);
  assert.equal((await bench.repositories.agentIdentities.find('host-1'))?.certificates.length, 8);
  bench.skewMs = 25 * HOUR_MS;
  await bench.enrollment.renew('host-1', (await newKeyAndRequest()).request);
  assert.equal((await bench.repositories.agentIdentities.find('host-1'))?.certificates.length, 1);
});

it('names every wrong field of an application', async () => {
  await using bench = await Bench.open();
  await assert.rejects(bench.enrol('', { agentId: 'a b', instanceId: 'x' }), (error: LonglineError) => {
    assert.deepEqual(
      error.violations.map(({ field }) => field),
      ['token', 'agent_id', 'instance_id'],
    );
    return error.reason === 'invalid';
  });
});

it('refuses requests that are no request, torn, signed by another key, or over a weak key', async () => {
  await using bench = await Bench.open();
  const { secret, record } = await bench.token();
  const { request } = await newKeyAndRequest();
  const tampered = new Uint8Array(request);
  tampered[tampered.length - 3]! ^= 0xff;
  const weak = await rsaRequest(1024);
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(), /is missing/],
    [new Uint8Array(20_000), /at most 16384/],
    [new Uint8Array([1, 2, 3]), /is no PKCS#10 request/],
    [request.subarray(0, 50), /is no PKCS#10 request/],
    [tampered, /is not signed with the key it names/],
    [weak, /RSA key of 1024 bits; use ECDSA/],
  ];
  for (const [bytes, message] of cases) {
    await assert.rejects(bench.enrol(secret, { request: bytes }), failsWith('invalid', message));
  }
  assert.equal(await bench.usesLeft(record), 1);
  await bench.enrol(secret, { request: await rsaRequest(2048) });
});

async function rsaRequest(modulusLength: number): Promise<Uint8Array> {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength });
  const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' }) as Buffer<ArrayBuffer>;
  const spki = publicKey.export({ format: 'der', type: 'spki' }) as Buffer<ArrayBuffer>;
  const keys = {
    privateKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign']),
    publicKey: await webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']),
  };
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: ['x'] }],
    keys,
    signingAlgorithm: algorithm,
  });
  return new Uint8Array(request.rawData);
}
