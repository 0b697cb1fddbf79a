// No method of the public port is open by oversight.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { DescService } from '@bufbuild/protobuf';
import { Code, type ConnectError, createClient, createRouterTransport, type Interceptor } from '@connectrpc/connect';
import { ServerReflection } from '#gen/grpc/reflection/v1/reflection_pb.js';
import { ServerReflection as ServerReflectionV1Alpha } from '#gen/grpc/reflection/v1alpha/reflection_pb.js';
import { Health } from '#gen/health/v1/health_pb.js';
import { AgentService, file_longline_fleet_v1_agent_service } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { file_longline_fleet_v1_job_service } from '#gen/longline/fleet/v1/job_service_pb.js';
import { file_longline_fleet_v1_network_service } from '#gen/longline/fleet/v1/network_service_pb.js';
import { file_longline_fleet_v1_program_service } from '#gen/longline/fleet/v1/program_service_pb.js';
import { file_longline_fleet_v1_session_service } from '#gen/longline/fleet/v1/session_service_pb.js';
import { file_longline_fleet_v1_token_service } from '#gen/longline/fleet/v1/token_service_pb.js';
import { EnrollmentService } from '#gen/longline/link/v1/enrollment_pb.js';
import { AgentLinkService } from '#gen/longline/link/v1/link_pb.js';
import { toConnectError } from '../../../src/controller/front/errors.ts';
import { ApiTokens } from '../../../src/controller/identity/api-tokens.ts';
import { authorize, REQUIREMENTS } from '../../../src/controller/identity/authorization.ts';
import { type Clock, systemClock } from '../../../src/core/clock.ts';
import { memoryRepositories } from '../../fixtures/identity-memory.ts';

const fleet = [
  file_longline_fleet_v1_agent_service,
  file_longline_fleet_v1_job_service,
  file_longline_fleet_v1_network_service,
  file_longline_fleet_v1_program_service,
  file_longline_fleet_v1_session_service,
  file_longline_fleet_v1_token_service,
];
const FLEET_SERVICES = fleet.flatMap((file) => file.services);
const PUBLIC_SERVICES: DescService[] = [EnrollmentService, Health, ServerReflection, ServerReflectionV1Alpha];
const namesOf = (services: readonly DescService[]) =>
  services.flatMap((service) => service.methods.map((method) => `${service.typeName}/${method.name}`));

it('has an entry for every method, and none for what does not exist', () => {
  assert.deepEqual(Object.keys(REQUIREMENTS).sort(), namesOf([...FLEET_SERVICES, ...PUBLIC_SERVICES]).sort());
});

it('leaves no method of the fleet public, and asks for the role that its documentation names', () => {
  for (const service of FLEET_SERVICES) {
    for (const method of service.methods) {
      const required = REQUIREMENTS[`${service.typeName}/${method.name}`];
      assert.notEqual(required, 'public', method.name);
      if (/^(List|Get|Watch|Tail|Wait|Download)/.test(method.name) && !service.typeName.endsWith('TokenService')) {
        assert.equal(required, 'viewer', method.name);
      } else {
        assert.notEqual(required, 'viewer', method.name);
      }
    }
  }
});

it('refuses a method without an entry, whoever calls', async () => {
  const tokens = new ApiTokens(memoryRepositories().apiTokens, systemClock);
  const { token } = await tokens.create('root', 'admin', undefined);
  const transport = createRouterTransport((router) => void router.service(AgentLinkService, {}), {
    router: { interceptors: [convert, authorize(tokens, systemClock)] },
  });
  const stream = createClient(AgentLinkService, transport).control(noMessages(), {
    headers: { authorization: `Bearer ${token}` },
  });
  await assert.rejects(
    (async () => {
      for await (const _ of stream) assert.fail('got a message');
    })(),
    (error: ConnectError) => error.code === Code.PermissionDenied && /is open to nobody/.test(error.message),
  );
});

it('ends a long answer when its token stops being good', async () => {
  let nowMs = 0;
  const clock: Clock = { ...systemClock, monotonic: () => nowMs };
  const repositories = memoryRepositories();
  const tokens = new ApiTokens(repositories.apiTokens, clock);
  const { token, record } = await tokens.create('watcher', 'viewer', undefined);
  const transport = createRouterTransport(
    (router) =>
      router.service(AgentService, {
        async *watchAgents() {
          for (let i = 0; i < 100; i++) yield { change: { case: 'removedAgentId' as const, value: String(i) } };
        },
      }),
    { router: { interceptors: [convert, authorize(tokens, clock)] } },
  );
  let seen = 0;
  await assert.rejects(
    (async () => {
      for await (const _ of createClient(AgentService, transport).watchAgents(
        {},
        { headers: { authorization: `Bearer ${token}` } },
      )) {
        if (++seen === 3) {
          await repositories.apiTokens.revoke(record.id);
          nowMs += 60_000;
        }
      }
    })(),
    (error: ConnectError) => error.code === Code.Unauthenticated && /was revoked/.test(error.message),
  );
  assert.ok(seen < 100);
});

it('notes the use of a token to the minute', async () => {
  let nowMs = Date.UTC(2030, 0, 1, 12, 0, 59);
  const repositories = memoryRepositories();
  const tokens = new ApiTokens(repositories.apiTokens, { ...systemClock, now: () => nowMs });
  const { token, record } = await tokens.create('ci', 'viewer', undefined);
  const usedAt = async () => (await repositories.apiTokens.findByHash(record.secretHash))?.usedAtMs;
  assert.equal(await usedAt(), undefined);
  assert.deepEqual(await tokens.authenticate(`Bearer ${token}`), { tokenId: record.id, name: 'ci', role: 'viewer' });
  assert.equal(await usedAt(), Date.UTC(2030, 0, 1, 12, 0));
  nowMs += 2000;
  await tokens.authenticate(`bearer  ${token}`);
  assert.equal(await usedAt(), Date.UTC(2030, 0, 1, 12, 1));
});

async function* noMessages(): AsyncGenerator<never> {
  yield* [];
}

const convert: Interceptor = (next) => async (request) => {
  try {
    const response = await next(request);
    return response.stream ? { ...response, message: converted(response.message) } : response;
  } catch (error) {
    throw toConnectError(error);
  }
};

async function* converted<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toConnectError(error);
  }
}
