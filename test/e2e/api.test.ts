// The public API as strangers use it: buf curl by reflection, plain curl with JSON, health; and wrong input.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { artifactOf } from '../controller/services/program-fixture.ts';
import { type Fleet, startFleet } from '../fixtures/fleet.ts';

const run = promisify(execFile);
const BUF = join(import.meta.dirname, '../../node_modules/.bin/buf');

let fleet: Fleet;
let ca: string;
let token: string;
before(async () => {
  fleet = await startFleet();
  const context = JSON.parse(await readFile(fleet.context, 'utf8')) as { ca: string; token: string };
  ca = join(fleet.folder, 'ca.pem');
  await writeFile(ca, context.ca);
  token = context.token;
  await fleet.enrolled('api-1');
});
after(() => fleet?.[Symbol.asyncDispose]());

interface CurlAnswer {
  readonly status: number;
  readonly body: { code?: string; message?: string; [key: string]: unknown };
}

async function curl(path: string, body: string, headers: readonly string[] = []): Promise<CurlAnswer> {
  const all = ['content-type: application/json', `authorization: Bearer ${token}`, ...headers];
  const args = ['-sS', '--cacert', ca, '-w', '\n%{http_code}', '-d', body];
  const { stdout } = await run('curl', [...args, ...all.flatMap((header) => ['-H', header]), `${fleet.url}/${path}`]);
  const cut = stdout.lastIndexOf('\n');
  return { status: Number(stdout.slice(cut + 1)), body: JSON.parse(stdout.slice(0, cut)) as CurlAnswer['body'] };
}

async function bufCurl(protocol: string, method: string, data: string): Promise<Record<string, unknown>> {
  const args = ['curl', '--cacert', ca, '--protocol', protocol, '-H', `authorization: Bearer ${token}`, '--data', data];
  const { stdout } = await run(BUF, [...args, `${fleet.url}/${method}`]);
  return JSON.parse(stdout) as Record<string, unknown>;
}

test('buf curl finds the services by reflection and calls them in all three protocols', async () => {
  for (const protocol of ['grpc', 'grpcweb', 'connect']) {
    const answer = await bufCurl(protocol, 'longline.fleet.v1.AgentService/ListAgents', '{}');
    const agents = answer['agents'] as { id: string; state: string }[];
    assert.deepEqual(
      agents.map(({ id, state }) => ({ id, state })),
      [{ id: 'api-1', state: 'AGENT_STATE_ONLINE' }],
    );
  }
});

test('health is served', async () => {
  assert.deepEqual(await bufCurl('grpc', 'grpc.health.v1.Health/Check', '{}'), { status: 'SERVING' });
});

test('plain curl with JSON works over HTTP/1.1 and HTTP/2', async () => {
  const { status, body } = await curl('longline.fleet.v1.AgentService/GetAgent', '{"agentId":"api-1"}');
  assert.equal(status, 200);
  assert.equal((body['agent'] as { id: string }).id, 'api-1');
});

test('wrong input gets an answer that names field, value and what would be right', async () => {
  const submit = 'longline.fleet.v1.JobService/SubmitJob';
  const cases: readonly (readonly [string, string, number, RegExp])[] = [
    ['longline.fleet.v1.AgentService/GetAgent', '{"agentId":"nobody"}', 404, /nobody/],
    ['longline.fleet.v1.AgentService/GetAgent', '{"agentid":', 400, /./],
    ['longline.fleet.v1.AgentService/ListAgents', '{"pageSize":-1}', 400, /page_size.*-1/],
    ['longline.fleet.v1.AgentService/ListAgents', '{"pageToken":"nonsense"}', 400, /page_token/],
    [submit, '{}', 400, /job: is missing/],
    [submit, '{"job":{"spec":{"argv":["true"]}}}', 400, /target/],
    [submit, '{"job":{"target":{"agentId":"api-1"},"spec":{}}}', 400, /argv/],
    [submit, '{"job":{"target":{"agentId":"nobody"},"spec":{"argv":["true"]}}}', 404, /nobody/],
    [submit, '{"job":{"target":{"agentId":"api-1"},"spec":{"argv":["true"],"env":{"1X":"y"}}}}', 400, /env.*1X/],
    [submit, '{"job":{"target":{"anyOf":{"matchLabels":{"a":"b"}}},"spec":{"argv":["true"]}}}', 404, /match/],
    ['longline.fleet.v1.JobService/GetJob', '{"jobId":"nope"}', 404, /nope/],
  ];
  for (const [method, body, status, message] of cases) {
    const answer = await curl(method, body);
    assert.equal(answer.status, status, `${method} ${body}: ${JSON.stringify(answer.body)}`);
    assert.match(answer.body.message ?? '', message, `${method} ${body}`);
  }
});

test('artifacts and programs are put with buf curl and plain curl, and wrong ones are refused', async () => {
  const { bytes, digest } = await artifactOf({ name: 'curled' }, 5000);
  const messages = [bytes.subarray(0, 1000), bytes.subarray(1000)].map((data) => {
    return JSON.stringify({ data: Buffer.from(data).toString('base64') });
  });
  const service = 'longline.fleet.v1.ProgramService';
  const uploaded = await bufCurl('grpc', `${service}/UploadArtifact`, messages.join('\n'));
  assert.deepEqual([uploaded['created'], (uploaded['artifact'] as { digest: string }).digest], [true, digest]);
  const headers = ['-H', `authorization: Bearer ${token}`];
  const url = `${fleet.url}/registry/v1/artifacts/${digest}`;
  const { stdout } = await run('curl', ['-sS', '--cacert', ca, ...headers, url], { encoding: 'buffer' });
  assert.equal(Buffer.compare(stdout, bytes), 0);
  const program = (spec: object) =>
    JSON.stringify({ agentId: 'api-1', validateOnly: true, spec: { name: 'p', ...spec } });
  const checked = await curl(`${service}/PutProgram`, program({ artifact: digest }));
  assert.deepEqual([checked.status, checked.body['changed']], [200, true], JSON.stringify(checked.body));
  for (const [method, body, status, message] of [
    ['PutProgram', program({ artifact: 'sha256:1' }), 400, /spec\.artifact.*sha256:1/],
    ['PutProgram', program({ artifact: `sha256:${'0'.repeat(64)}` }), 400, /not stored here; upload it first/],
    ['PutProgram', program({ artifact: digest, attach: ['eth0'] }), 400, /spec\.attach\[0\].*eth0/],
    ['PutProgram', program({ artifact: digest, parameters: { limit: '1001' } }), 400, /spec\.parameters\.limit.*1001/],
    ['GetProgram', '{"agentId":"api-1","name":"none"}', 404, /none/],
    ['GetArtifact', `{"digest":"${'f'.repeat(64)}"}`, 404, /ffff/],
    ['GetArtifact', '{"digest":"../../etc/passwd"}', 400, /digest.*passwd/],
    ['RollBackProgram', '{"agentId":"nobody","name":"p"}', 404, /nobody/],
    ['ListRollbacks', '{"pageToken":"nonsense"}', 400, /page_token/],
  ] as const) {
    const answer = await curl(`${service}/${method}`, body);
    assert.equal(answer.status, status, `${method} ${body}: ${JSON.stringify(answer.body)}`);
    assert.match(answer.body.message ?? '', message, `${method} ${body}`);
  }
});

test('without a valid token nothing is told', async () => {
  for (const header of ['authorization:', 'authorization: Bearer lla1.wrong', 'authorization: Basic x']) {
    const args = [
      '-sS',
      '--cacert',
      ca,
      '-o',
      '/dev/null',
      '-w',
      '%{http_code}',
      '-H',
      'content-type: application/json',
    ];
    const url = `${fleet.url}/longline.fleet.v1.AgentService/ListAgents`;
    const { stdout } = await run('curl', [...args, '-H', header, '-d', '{}', url]);
    assert.equal(stdout, '401', header);
  }
});

test('a viewer reads and may not act', async () => {
  const made = await fleet.longline('token', 'api', 'create', '--name', 'reader', '--role', 'viewer', '--json');
  const viewer = made.json<{ token: string }>().token;
  const as = [`authorization: Bearer ${viewer}`];
  const headers = ['content-type: application/json', ...as].flatMap((header) => ['-H', header]);
  const ask = async (method: string, body: string) =>
    (
      await run('curl', [
        '-sS',
        '--cacert',
        ca,
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        ...headers,
        '-d',
        body,
        `${fleet.url}/${method}`,
      ])
    ).stdout;
  assert.equal(await ask('longline.fleet.v1.AgentService/ListAgents', '{}'), '200');
  assert.equal(await ask('longline.fleet.v1.AgentService/DrainAgent', '{"agentId":"api-1"}'), '403');
  assert.equal(await ask('longline.fleet.v1.TokenService/ListApiTokens', '{}'), '403');
});
