// TokenService: what it makes, lists and refuses.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { durationFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { type ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { Role, TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { toConnectError } from '../../../src/controller/front/errors.ts';
import { AgentKeys } from '../../../src/controller/identity/agent-keys.ts';
import { ApiTokens } from '../../../src/controller/identity/api-tokens.ts';
import { hashSecret } from '../../../src/controller/identity/secrets.ts';
import { tokenRoutes } from '../../../src/controller/identity/token-routes.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { parseEnrollmentToken } from '../../../src/core/enrollment-token.ts';
import type { LonglineError } from '../../../src/core/errors.ts';
import { newId } from '../../../src/core/ids.ts';
import { memoryRepositories } from '../../fixtures/identity-memory.ts';
import { fromConnectError } from '../front/received-errors.ts';

function bench() {
  const repositories = memoryRepositories();
  const apiTokens = new ApiTokens(repositories.apiTokens, systemClock);
  const agentKeys = new AgentKeys(repositories.agentIdentities, systemClock);
  const routes = tokenRoutes({
    repositories,
    apiTokens,
    agentKeys,
    pin: new Uint8Array(32).fill(7),
    clock: systemClock,
  });
  const transport = createRouterTransport((router) => void router.service(TokenService, routes), {
    router: {
      interceptors: [
        (next) => (request) => next(request).catch((error: unknown) => Promise.reject(toConnectError(error))),
      ],
    },
  });
  return { repositories, client: createClient(TokenService, transport) };
}

const fieldsOf = (call: Promise<unknown>): Promise<string[]> =>
  call.then(
    () => [],
    (error: ConnectError) => fromConnectError(error).violations.map(({ field }) => field),
  );

it('makes registration tokens with defaults, and stores a hash only', async () => {
  const { repositories, client } = bench();
  const { token, enrollmentToken } = await client.createEnrollmentToken({});
  const { secret, caSha256 } = parseEnrollmentToken(token);
  assert.deepEqual(new Uint8Array(caSha256), new Uint8Array(32).fill(7));
  assert.deepEqual([enrollmentToken?.usesLeft, enrollmentToken?.usesTotal], [1, 1]);
  const stored = await repositories.enrollmentTokens.findByHash(hashSecret(secret));
  assert.equal(stored?.id, enrollmentToken?.id);
  assert.equal((stored?.expiresAtMs ?? 0) - (stored?.createdAtMs ?? 0), 3_600_000);
  assert.doesNotMatch(JSON.stringify(stored), new RegExp(secret));
});

it('names every wrong field', async () => {
  const { client } = bench();
  const wrong = {
    ttl: durationFromMs(31 * 86_400_000),
    uses: 10_001,
    agentId: 'a b',
    labels: { 'bad key': 'x', ok: 'y'.repeat(256) },
  };
  assert.deepEqual(await fieldsOf(client.createEnrollmentToken(wrong)), [
    'labels["bad key"]',
    'labels["ok"]',
    'ttl',
    'uses',
    'agent_id',
  ]);
  assert.deepEqual(await fieldsOf(client.createEnrollmentToken({ ttl: durationFromMs(0) })), ['ttl']);
  assert.deepEqual(
    await fieldsOf(client.createApiToken({ name: 'a\nb', role: 9 as Role, ttl: durationFromMs(-1000) })),
    ['name', 'role', 'ttl'],
  );
  assert.deepEqual(await fieldsOf(client.listApiTokens({ pageSize: 1001, pageToken: 'x' })), [
    'page_size',
    'page_token',
  ]);
  assert.deepEqual(await fieldsOf(client.createAgentKey({ agentId: '', labels: { '': '' } })), [
    'labels[""]',
    'agent_id',
  ]);
});

it('lists newest first in pages, and shows what is revoked', async () => {
  const { client } = bench();
  const ids: string[] = [];
  for (let i = 0; i < 5; i++)
    ids.unshift((await client.createApiToken({ name: `t${i}`, role: Role.VIEWER })).apiToken!.id);
  await client.revokeApiToken({ id: ids[1]! });
  const first = await client.listApiTokens({ pageSize: 3 });
  const second = await client.listApiTokens({ pageSize: 3, pageToken: first.nextPageToken });
  assert.deepEqual(
    [...first.apiTokens, ...second.apiTokens].map(({ id }) => id),
    ids,
  );
  assert.equal(second.nextPageToken, '');
  assert.deepEqual(
    first.apiTokens.map(({ revoked }) => revoked),
    [false, true, false],
  );
  const { enrollmentToken } = await client.createEnrollmentToken({ uses: 3 });
  await client.revokeEnrollmentToken({ id: enrollmentToken!.id });
  const { enrollmentTokens } = await client.listEnrollmentTokens({});
  assert.deepEqual(
    enrollmentTokens.map(({ id, revoked, usesLeft }) => [id, revoked, usesLeft]),
    [[enrollmentToken!.id, true, 3]],
  );
});

it('ends API tokens when it is told to', async () => {
  const { client } = bench();
  const { apiToken } = await client.createApiToken({ name: 'short', role: Role.OPERATOR, ttl: durationFromMs(60_000) });
  assert.equal(timestampMs(apiToken!.expireTime!) - timestampMs(apiToken!.createTime!), 60_000);
  const forever = await client.createApiToken({ name: 'long', role: Role.ADMIN });
  assert.equal(forever.apiToken?.expireTime, undefined);
});

it('says when there is nothing to revoke', async () => {
  const { client } = bench();
  for (const call of [client.revokeApiToken({ id: newId() }), client.revokeEnrollmentToken({ id: 'x' })]) {
    await assert.rejects(call, (error: ConnectError) => fromConnectError(error).reason === 'not_found');
  }
});

it('makes agents with an API key, replaces the key, and keeps revoked ones out', async () => {
  const { repositories, client } = bench();
  const first = await client.createAgentKey({ agentId: 'host-1', labels: { zone: 'a' } });
  const second = await client.createAgentKey({ agentId: 'host-1' });
  assert.notEqual(first.apiKey, second.apiKey);
  const stored = await repositories.agentIdentities.find('host-1');
  assert.deepEqual(
    [stored?.apiKeyHash, stored?.labels, stored?.version],
    [hashSecret(second.apiKey), { zone: 'a' }, 2],
  );
  await repositories.agentIdentities.revoke('host-1');
  const refused = client.createAgentKey({ agentId: 'host-1' }).catch((error: ConnectError) => fromConnectError(error));
  assert.equal(((await refused) as LonglineError).reason, 'wrong_state');
});
