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

  /** Renews the newest certificate, or the one with this serial number. */
  async renew(agentId: string, serial?: string) {
    const found = await this.repositories.agentIdentities.find(agentId);
    const renewing = { agentId, serial: serial ?? found!.certificates.at(-1)!.serial };
    return await this.enrollment.renew(renewing, (await newKeyAndRequest()).request);
  }

  /** The certificates of an agent by replica, oldest first. */
  async serials(agentId = 'host-1'): Promise<Readonly<Record<string, readonly string[]>>> {
    const certificates = (await this.repositories.agentIdentities.find(agentId))?.certificates ?? [];
    const byReplica = Object.groupBy(certificates, ({ instanceId }) => instanceId);
    return Object.fromEntries(Object.entries(byReplica).map(([id, ones]) => [id, ones!.map(({ serial }) => serial)]));
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
  await bench.renew('host-1');
  await assert.rejects(bench.enrol(secret, { instanceId }), failsWith('already_exists', /live agent/));
});

it('gives the id of a revoked agent to nobody', async () => {
  await using bench = await Bench.open();
  await bench.enrol((await bench.token()).secret);
  await bench.repositories.agentIdentities.revoke('host-1');
  bench.skewMs = 25 * HOUR_MS;
  await assert.rejects(bench.enrol((await bench.token()).secret), failsWith('wrong_state', /was revoked; delete/));
  await assert.rejects(bench.renew('host-1'), failsWith('identity', /revoked/));
});

it('renews, keeps what is still good, and bounds how many that is', async () => {
  await using bench = await Bench.open();
  await bench.enrol((await bench.token()).secret);
  for (let i = 0; i < 12; i++) await bench.renew('host-1');
  assert.equal((await bench.repositories.agentIdentities.find('host-1'))?.certificates.length, 8);
  bench.skewMs = 25 * HOUR_MS;
  await bench.renew('host-1');
  assert.equal((await bench.repositories.agentIdentities.find('host-1'))?.certificates.length, 1);
});

it('gives each replica a certificate of its own, for a use of a token that is bound to the agent', async () => {
  await using bench = await Bench.open();
  const replicas = [randomUUID(), randomUUID(), randomUUID()];
  const bound = await bench.token({ agentId: 'host-1', usesTotal: 3, usesLeft: 3 });
  for (const instanceId of replicas) await bench.enrol(bound.secret, { instanceId });
  const before = await bench.serials();
  assert.deepEqual(Object.keys(before).toSorted(), replicas.toSorted());
  assert.equal(new Set(Object.values(before).flat()).size, 3);
  assert.equal(await bench.usesLeft(bound.record), 0);
  // A use more than were given, and a token that anybody may have: neither makes a fourth.
  await assert.rejects(bench.enrol(bound.secret), failsWith('identity', /no use left/));
  const unbound = await bench.token({ usesTotal: 5, usesLeft: 5 });
  await assert.rejects(bench.enrol(unbound.secret), failsWith('already_exists', /token create --agent-id host-1/));
  assert.equal(await bench.usesLeft(unbound.record), 5);
  assert.deepEqual(await bench.serials(), before);
});

it('answers a replica again whose answer was lost, after another has enrolled as well', async () => {
  await using bench = await Bench.open();
  const [one, other] = [randomUUID(), randomUUID()];
  const bound = await bench.token({ agentId: 'host-1', usesTotal: 2, usesLeft: 2 });
  await bench.enrol(bound.secret, { instanceId: one });
  await bench.enrol(bound.secret, { instanceId: other });
  const before = await bench.serials();
  await bench.enrol(bound.secret, { instanceId: one });
  const now = await bench.serials();
  assert.deepEqual(now[other], before[other]);
  assert.equal(now[one]?.length, 1);
  assert.notDeepEqual(now[one], before[one]);
});

it('renews for the replica whose certificate asks, and never at the cost of another', async () => {
  await using bench = await Bench.open();
  const [one, other] = [randomUUID(), randomUUID()];
  const bound = await bench.token({ agentId: 'host-1', usesTotal: 2, usesLeft: 2 });
  await bench.enrol(bound.secret, { instanceId: one });
  await bench.enrol(bound.secret, { instanceId: other });
  const before = await bench.serials();
  // From the first that it had on, although another replica enrolled after it.
  for (let i = 0, serial = before[one]![0]!; i < 12; i++) {
    await bench.renew('host-1', serial);
    serial = (await bench.serials())[one]!.at(-1)!;
  }
  const now = await bench.serials();
  assert.equal(now[one]?.length, 8);
  assert.deepEqual(now[other], before[other]);
});

it('refuses a revoked replica its renewal and its token, while another goes on', async () => {
  await using bench = await Bench.open();
  const [one, other] = [randomUUID(), randomUUID()];
  const bound = await bench.token({ agentId: 'host-1', usesTotal: 5, usesLeft: 5 });
  const { request } = await newKeyAndRequest();
  await bench.enrol(bound.secret, { instanceId: other });
  await bench.enrol(bound.secret, { instanceId: one, request });
  const serial = (await bench.serials())[one]![0]!;
  await bench.repositories.agentIdentities.revokeReplica('host-1', one, bench.clock.now());
  await assert.rejects(bench.renew('host-1', serial), failsWith('identity', /replica of agent host-1 was revoked/));
  await assert.rejects(bench.enrol(bound.secret, { instanceId: one }), failsWith('identity', /token: was revoked/));
  // Neither does its key let it in with the token of somebody else.
  const unbound = await bench.token();
  await assert.rejects(bench.enrol(unbound.secret, { instanceId: one, request }), failsWith('already_exists', /live/));
  await bench.renew('host-1');
  assert.deepEqual(Object.keys(await bench.serials()), [other]);
});

it('lets an agent have ten replicas, and gives the place of one that lapsed or retired to the next', async () => {
  await using bench = await Bench.open();
  const bound = await bench.token({ agentId: 'host-1', usesTotal: 20, usesLeft: 20 });
  const [first, retired] = [randomUUID(), randomUUID()];
  await bench.enrol(bound.secret, { instanceId: first });
  await bench.enrol(bound.secret, { instanceId: retired });
  for (let i = 2; i < 10; i++) await bench.enrol(bound.secret);
  const full = failsWith('wrong_state', /has 10 replicas .*MAX_REPLICAS.*agents revoke host-1 --replica/);
  await assert.rejects(bench.enrol(bound.secret), full);
  assert.equal(await bench.usesLeft(bound.record), 10);
  // One that has a place may enrol again.
  const again = await bench.token({ agentId: 'host-1' });
  await bench.enrol(again.secret, { instanceId: first });
  await bench.repositories.agentIdentities.revokeReplica('host-1', retired, bench.clock.now());
  const next = await bench.token({ agentId: 'host-1', usesTotal: 20, usesLeft: 20 });
  await bench.enrol(next.secret);
  await assert.rejects(bench.enrol(next.secret), full);
  bench.skewMs = 20 * HOUR_MS;
  await bench.renew('host-1');
  bench.skewMs = 30 * HOUR_MS;
  for (let i = 1; i < 10; i++) await bench.enrol(next.secret);
  await assert.rejects(bench.enrol(next.secret), full);
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
