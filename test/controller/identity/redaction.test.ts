import assert from 'node:assert/strict';
import { it } from 'node:test';
import { create, type DescMessage } from '@bufbuild/protobuf';
import { createClient, createRouterTransport } from '@connectrpc/connect';
import { file_longline_fleet_v1_agent_service } from '#gen/longline/fleet/v1/agent_service_pb.js';
import {
  file_longline_fleet_v1_job_service,
  JobService,
  WaitResultResponseSchema,
} from '#gen/longline/fleet/v1/job_service_pb.js';
import { file_longline_fleet_v1_network_service } from '#gen/longline/fleet/v1/network_service_pb.js';
import { file_longline_fleet_v1_session_service, SessionService } from '#gen/longline/fleet/v1/session_service_pb.js';
import { JobSchema } from '#gen/longline/v1/job_pb.js';
import { ApiTokens } from '../../../src/controller/identity/api-tokens.ts';
import { authorize, REQUIREMENTS } from '../../../src/controller/identity/authorization.ts';
import { reachable, redacted, SECRET_FIELDS } from '../../../src/controller/identity/redaction.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { memoryRepositories } from '../../fixtures/identity-memory.ts';

const SECRET = 'hunter2';
const spec = { argv: ['true'], env: { PASSWORD: SECRET, EMPTY: '' }, stdinData: Buffer.from(SECRET) };
const job = () => create(JobSchema, { id: 'j', spec });

it('hides values of variables and inline input from viewers alone, in single answers and in streams', async () => {
  const tokens = new ApiTokens(memoryRepositories().apiTokens, systemClock);
  const transport = createRouterTransport(
    (router) => {
      router.service(JobService, { getJob: () => ({ job: job() }), listJobs: () => ({ jobs: [job(), job()] }) });
      router.service(SessionService, {
        async *watchSessions() {
          const volumes = [{ name: 'share', driverOptions: { o: `username=u,password=${SECRET}` } }];
          const session = {
            id: 's',
            specHash: Buffer.from(SECRET),
            status: { specHash: Buffer.from(SECRET) },
            spec: { image: 'i', env: { PASSWORD: SECRET }, volumes },
          };
          yield { change: { case: 'session' as const, value: session } };
        },
      });
    },
    { router: { interceptors: [authorize(tokens, systemClock)] } },
  );
  const jobs = createClient(JobService, transport);
  const sessions = createClient(SessionService, transport);
  for (const role of ['viewer', 'operator'] as const) {
    const { token } = await tokens.create(role, role, undefined);
    const as = { headers: { authorization: `Bearer ${token}` } };
    const answers: unknown[] = [await jobs.getJob({}, as), await jobs.listJobs({}, as)];
    for await (const answer of sessions.watchSessions({}, as)) answers.push(answer);
    const text = JSON.stringify(answers, (_key, value) =>
      typeof value === 'bigint' ? String(value) : value instanceof Uint8Array ? Buffer.from(value).toString() : value,
    );
    assert.equal(text.split('"PASSWORD"').length - 1, 4, 'names stay');
    assert.equal(text.split('"EMPTY":"[redacted]"').length - 1, role === 'viewer' ? 3 : 0);
    assert.equal(text.split(SECRET).length - 1, role === 'viewer' ? 0 : 10);
  }
});

it('leaves the message that it is given alone, and what is not set unset', () => {
  const given = create(WaitResultResponseSchema, { job: job() });
  const shown = redacted(WaitResultResponseSchema, given);
  assert.deepEqual(given.job?.spec?.env, spec.env);
  assert.deepEqual(shown.job?.spec?.env, { PASSWORD: '[redacted]', EMPTY: '[redacted]' });
  const plain = redacted(WaitResultResponseSchema, create(WaitResultResponseSchema, { job: { spec: {} } }));
  assert.equal(plain.job?.spec?.stdinData.length, 0);
});

it('knows every field of that kind that a viewer can be shown', () => {
  const shown = new Set<DescMessage>();
  for (const file of [
    file_longline_fleet_v1_agent_service,
    file_longline_fleet_v1_job_service,
    file_longline_fleet_v1_network_service,
    file_longline_fleet_v1_session_service,
  ]) {
    for (const method of file.services.flatMap((service) => service.methods)) {
      if (REQUIREMENTS[`${method.parent.typeName}/${method.name}`] === 'viewer') reachable(method.output, shown);
    }
  }
  const found = [...shown].flatMap(({ typeName, fields }) =>
    fields
      .filter(({ name }) => /^(env|stdin_data|password|secret|private_key|driver_options|spec_hash)$/.test(name))
      .map(({ name }) => `${typeName}.${name}`),
  );
  const listed = Object.entries(SECRET_FIELDS).flatMap(([type, names]) => names.map((name) => `${type}.${name}`));
  assert.deepEqual(found.sort(), listed.sort());
});
