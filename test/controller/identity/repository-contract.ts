// What every implementation of the identity repositories has to do. Call it from a *.test.ts with a factory that makes
// empty repositories; `close` is called after each test.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import type {
  AgentIdentity,
  ApiTokenRecord,
  EnrollmentTokenRecord,
  IdentityRepositories,
} from '../../../src/controller/identity/ports.ts';
import { newId } from '../../../src/core/ids.ts';

/** Repositories under test, and what lets go of them. */
export interface RepositoriesUnderTest {
  readonly repositories: IdentityRepositories;
  close(): Promise<void>;
}

const hashOf = (text: string): Uint8Array => new Uint8Array(createHash('sha256').update(text).digest());
const NOW = Date.UTC(2030, 0, 1);

function enrollmentToken(patch: Partial<EnrollmentTokenRecord> = {}): EnrollmentTokenRecord {
  const id = newId();
  return {
    id,
    secretHash: hashOf(id),
    usesTotal: 1,
    usesLeft: 1,
    labels: {},
    agentId: '',
    createdAtMs: NOW,
    expiresAtMs: NOW + 3_600_000,
    revoked: false,
    ...patch,
  };
}

function apiToken(patch: Partial<ApiTokenRecord> = {}): ApiTokenRecord {
  const id = newId();
  return {
    id,
    name: 'ci',
    role: 'viewer',
    secretHash: hashOf(id),
    createdAtMs: NOW,
    expiresAtMs: undefined,
    usedAtMs: undefined,
    revoked: false,
    ...patch,
  };
}

function certificate(serial: string, instanceId: string, tokenId = '', expiresAtMs = NOW + 86_400_000) {
  return { serial, expiresAtMs, instanceId, tokenId };
}

function identity(patch: Partial<AgentIdentity> = {}): AgentIdentity {
  return {
    agentId: 'host-1',
    instanceId: 'replica-1',
    labels: { zone: 'a' },
    enrolledAtMs: NOW,
    enrollmentTokenId: '',
    publicKeyHash: hashOf('key-1'),
    certificates: [certificate('1f', 'replica-1')],
    apiKeyHash: undefined,
    revoked: false,
    version: 1,
    ...patch,
  };
}

/** Declares the contract's tests for one implementation. */
export function identityRepositoryContract(name: string, factory: () => Promise<RepositoriesUnderTest>): void {
  const test = (title: string, body: (repositories: IdentityRepositories) => Promise<void>): void => {
    it(title, async () => {
      const { repositories, close } = await factory();
      try {
        await body(repositories);
      } finally {
        await close();
      }
    });
  };

  describe(`${name}: registration tokens`, () => {
    test('gives back what was stored, by hash', async ({ enrollmentTokens }) => {
      const token = enrollmentToken({
        labels: { zone: 'a', 'team/x': 'ä' },
        agentId: 'host-1',
        usesTotal: 5,
        usesLeft: 5,
      });
      await enrollmentTokens.insert(token);
      await enrollmentTokens.insert(enrollmentToken());
      assert.deepEqual(await enrollmentTokens.findByHash(token.secretHash), token);
      assert.equal(await enrollmentTokens.findByHash(hashOf('other')), undefined);
    });

    test('lists newest first, in pages', async ({ enrollmentTokens }) => {
      const ids: string[] = [];
      for (let i = 0; i < 5; i++) {
        const token = enrollmentToken();
        ids.unshift(token.id);
        await enrollmentTokens.insert(token);
      }
      const first = await enrollmentTokens.list({ limit: 3, beforeId: undefined });
      const second = await enrollmentTokens.list({ limit: 3, beforeId: first[2]!.id });
      assert.deepEqual(
        [...first, ...second].map((token) => token.id),
        ids,
      );
      assert.deepEqual(await enrollmentTokens.list({ limit: 3, beforeId: ids[4] }), []);
    });

    test('revokes for good and says whether there was one', async ({ enrollmentTokens }) => {
      const token = enrollmentToken();
      await enrollmentTokens.insert(token);
      assert.equal(await enrollmentTokens.revoke(token.id), true);
      assert.equal(await enrollmentTokens.revoke(token.id), true);
      assert.equal(await enrollmentTokens.revoke(newId()), false);
      assert.equal((await enrollmentTokens.findByHash(token.secretHash))?.revoked, true);
    });
  });

  describe(`${name}: API tokens`, () => {
    test('gives back what was stored, by hash', async ({ apiTokens }) => {
      const forever = apiToken();
      const bounded = apiToken({ role: 'admin', expiresAtMs: NOW + 5, usedAtMs: NOW + 1 });
      await apiTokens.insert(forever);
      await apiTokens.insert(bounded);
      assert.deepEqual(await apiTokens.findByHash(forever.secretHash), forever);
      assert.deepEqual(await apiTokens.findByHash(bounded.secretHash), bounded);
      assert.equal(await apiTokens.findByHash(hashOf('other')), undefined);
    });

    test('notes uses, never backwards', async ({ apiTokens }) => {
      const token = apiToken();
      await apiTokens.insert(token);
      await apiTokens.touch(token.id, NOW + 10);
      await apiTokens.touch(token.id, NOW + 5);
      await apiTokens.touch(newId(), NOW);
      assert.equal((await apiTokens.findByHash(token.secretHash))?.usedAtMs, NOW + 10);
    });

    test('lists newest first and revokes', async ({ apiTokens }) => {
      const older = apiToken();
      const newer = apiToken();
      await apiTokens.insert(older);
      await apiTokens.insert(newer);
      assert.deepEqual(await apiTokens.list({ limit: 10, beforeId: undefined }), [newer, older]);
      assert.deepEqual(await apiTokens.list({ limit: 10, beforeId: newer.id }), [older]);
      assert.equal(await apiTokens.revoke(older.id), true);
      assert.equal(await apiTokens.revoke(newId()), false);
      assert.equal((await apiTokens.findByHash(older.secretHash))?.revoked, true);
    });
  });

  describe(`${name}: agent identities`, () => {
    test('stores and finds', async ({ agentIdentities }) => {
      const withKey = identity({
        agentId: 'host-2',
        publicKeyHash: undefined,
        certificates: [],
        apiKeyHash: hashOf('k'),
      });
      assert.equal(await agentIdentities.find('host-1'), undefined);
      assert.equal(await agentIdentities.save({ identity: identity(), spendTokenId: undefined, nowMs: NOW }), 'saved');
      assert.equal(await agentIdentities.save({ identity: withKey, spendTokenId: undefined, nowMs: NOW }), 'saved');
      assert.deepEqual(await agentIdentities.find('host-1'), identity());
      assert.deepEqual(await agentIdentities.find('host-2'), withKey);
    });

    test('refuses a change made on an old version', async ({ agentIdentities }) => {
      const save = (patch: Partial<AgentIdentity>) =>
        agentIdentities.save({ identity: identity(patch), spendTokenId: undefined, nowMs: NOW });
      assert.equal(await save({ version: 2 }), 'conflict');
      assert.equal(await save({ version: 1 }), 'saved');
      assert.equal(await save({ version: 1 }), 'conflict');
      assert.equal(await save({ version: 2, instanceId: 'replica-2', certificates: [] }), 'saved');
      assert.equal(await save({ version: 2 }), 'conflict');
      assert.deepEqual(
        await agentIdentities.find('host-1'),
        identity({ version: 2, instanceId: 'replica-2', certificates: [] }),
      );
    });

    test('takes a use with the change, or neither', async ({ agentIdentities, enrollmentTokens }) => {
      const token = enrollmentToken({ usesTotal: 2, usesLeft: 2 });
      await enrollmentTokens.insert(token);
      const enrol = (agentId: string, nowMs = NOW) =>
        agentIdentities.save({ identity: identity({ agentId }), spendTokenId: token.id, nowMs });
      assert.equal(await enrol('a'), 'saved');
      assert.equal(await enrol('a'), 'conflict');
      assert.equal((await enrollmentTokens.findByHash(token.secretHash))?.usesLeft, 1);
      assert.equal(await enrol('late', token.expiresAtMs), 'token_spent');
      assert.equal(await enrol('b'), 'saved');
      assert.equal(await enrol('c'), 'token_spent');
      assert.equal(await agentIdentities.find('c'), undefined);
      assert.equal(await agentIdentities.find('late'), undefined);
      assert.equal((await enrollmentTokens.findByHash(token.secretHash))?.usesLeft, 0);
    });

    test('takes no use of a revoked or unknown token', async ({ agentIdentities, enrollmentTokens }) => {
      const token = enrollmentToken();
      await enrollmentTokens.insert(token);
      await enrollmentTokens.revoke(token.id);
      for (const spendTokenId of [token.id, newId()]) {
        assert.equal(await agentIdentities.save({ identity: identity(), spendTokenId, nowMs: NOW }), 'token_spent');
      }
      assert.equal(await agentIdentities.find('host-1'), undefined);
    });

    test('gives the last use to exactly one of many at once', async ({ agentIdentities, enrollmentTokens }) => {
      const token = enrollmentToken({ usesTotal: 3, usesLeft: 3 });
      await enrollmentTokens.insert(token);
      const outcomes = await Promise.all(
        Array.from({ length: 12 }, (_, i) =>
          agentIdentities.save({ identity: identity({ agentId: `h${i}` }), spendTokenId: token.id, nowMs: NOW }),
        ),
      );
      assert.equal(outcomes.filter((outcome) => outcome === 'saved').length, 3);
      assert.equal(outcomes.filter((outcome) => outcome === 'token_spent').length, 9);
    });

    test('revokes for good', async ({ agentIdentities }) => {
      await agentIdentities.save({ identity: identity(), spendTokenId: undefined, nowMs: NOW });
      assert.equal(await agentIdentities.revoke('host-1'), true);
      assert.equal(await agentIdentities.revoke('host-1'), true);
      assert.equal(await agentIdentities.revoke('nobody'), false);
      assert.deepEqual(await agentIdentities.find('host-1'), identity({ revoked: true, version: 2 }));
    });

    test('takes one replica its certificates, and the tokens it knows their uses', async (repositories) => {
      const { agentIdentities, enrollmentTokens } = repositories;
      const [known, other] = [enrollmentToken({ usesLeft: 2 }), enrollmentToken()];
      for (const token of [known, other]) await enrollmentTokens.insert(token);
      const kept = certificate('2a', 'replica-2', other.id);
      const lapsed = certificate('3a', 'replica-3', '', NOW);
      const lost = [certificate('1a', 'replica-1', known.id), certificate('1b', 'replica-1', known.id)];
      const stored = identity({ certificates: [lost[0]!, kept, lapsed, lost[1]!] });
      await agentIdentities.save({ identity: stored, spendTokenId: undefined, nowMs: NOW });
      const revoke = async (instanceId: string) => await agentIdentities.revokeReplica('host-1', instanceId, NOW);
      assert.equal(await agentIdentities.revokeReplica('nobody', 'replica-1', NOW), 'missing');
      assert.deepEqual([await revoke('replica-9'), await revoke('replica-3')], ['missing', 'missing']);
      assert.deepEqual(await agentIdentities.find('host-1'), stored);
      assert.equal(await revoke('replica-1'), 'revoked');
      const left = { ...stored, certificates: [kept], publicKeyHash: undefined, version: 2 };
      assert.deepEqual(await agentIdentities.find('host-1'), left);
      assert.equal((await enrollmentTokens.findByHash(known.secretHash))?.revoked, true);
      assert.equal((await enrollmentTokens.findByHash(other.secretHash))?.revoked, false);
      // The id of an agent without credentials would be anybody's.
      assert.equal(await revoke('replica-2'), 'last');
      assert.deepEqual(await agentIdentities.find('host-1'), left);
      const keyed = { ...left, apiKeyHash: hashOf('k'), version: 3 };
      await agentIdentities.save({ identity: keyed, spendTokenId: undefined, nowMs: NOW });
      assert.equal(await revoke('replica-2'), 'revoked');
      assert.deepEqual(await agentIdentities.find('host-1'), { ...keyed, certificates: [], version: 4 });
    });
  });
}
