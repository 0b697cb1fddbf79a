// The registry at a real port of a real controller, by plain HTTP in both versions and with every kind of credentials.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { promisify } from 'node:util';
import { create } from '@bufbuild/protobuf';
import { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { ProgramService } from '#gen/longline/fleet/v1/program_service_pb.js';
import { Role, TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { type Controller, runController } from '../../../src/controller/controller.ts';
import type { ServiceParts } from '../../../src/controller/front/routes.ts';
import { openServices } from '../../../src/controller/services/open-services.ts';
import { parseEnrollmentToken } from '../../../src/core/enrollment-token.ts';
import { type AgentCredentials, enrollAgent, withConnect } from '../front/agent-client.ts';
import { until } from '../link/fleet-fixture.ts';
import { artifactOf } from '../services/program-fixture.ts';

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
}
interface Asked {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array;
  readonly identity?: AgentCredentials;
}

describe('the registry', () => {
  let folder: string;
  let controller: Controller;
  let context: { readonly url: string; readonly ca: string; readonly token: string };
  let agents: Agent;
  let operator: Record<string, string>;
  let viewer: Record<string, string>;
  let alice: AgentCredentials;
  let bob: AgentCredentials;
  const polled = new Map<string, string[]>();

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'longline-registry-'));
    const options = {
      dataDir: join(folder, 'data'),
      listen: '127.0.0.1:0',
      plaintextListen: '127.0.0.1:0',
      logLevel: 'silent',
      drainWindowMs: 200,
    } as const;
    const list = async (agentId: string) =>
      (polled.get(agentId) ?? []).map((artifact) => create(ProgramSpecSchema, { name: 'drop', artifact, renewal: 1n }));
    controller = await runController(options, {
      openServices: (parts: ServiceParts) => openServices(parts, { polled: list }),
    });
    context = JSON.parse(await readFile(controller.contextPath, 'utf8'));
    agents = new Agent({ keepAlive: false });
    const tokens = <T>(use: Parameters<typeof withConnect<typeof TokenService, T>>[2]) =>
      withConnect(context, TokenService, use, context.token);
    const bearer = async (role: 'viewer' | 'operator') => {
      const { token } = await tokens((client) =>
        client.createApiToken({ name: role, role: role === 'viewer' ? Role.VIEWER : Role.OPERATOR }),
      );
      return { authorization: `Bearer ${token}` };
    };
    operator = await bearer('operator');
    viewer = await bearer('viewer');
    const enroll = async (id: string) => {
      const { token } = await tokens((client) => client.createEnrollmentToken({}));
      return await enrollAgent(context, id, parseEnrollmentToken(token).secret);
    };
    [alice, bob] = [await enroll('alice'), await enroll('bob')];
  });
  after(async () => {
    agents.destroy();
    await controller[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const url = (path: string) => new URL(`/registry/v1/${path}`, context.url);
  /** `path` goes out as it is, which no client of URLs would do. */
  const ask = async (path: string, { method = 'GET', headers = {}, body, identity }: Asked = {}): Promise<Answer> => {
    const options: RequestOptions = { method, headers, agent: agents, ca: context.ca };
    if (identity !== undefined) Object.assign(options, { key: identity.key, cert: identity.chain });
    const outgoing = httpsRequest(context.url, {
      ...options,
      path: path.startsWith('/') ? path : `/registry/v1/${path}`,
    });
    outgoing.end(body);
    const [response] = await once(outgoing, 'response');
    const parts: Buffer[] = [];
    for await (const part of response) parts.push(part);
    return { status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) };
  };
  const keyOf = async (agentId: string) => {
    const made = await withConnect(
      context,
      TokenService,
      (client) => client.createAgentKey({ agentId }),
      context.token,
    );
    return made.apiKey;
  };
  const json = ({ body }: Answer) => JSON.parse(body.toString());
  const put = async (bytes: Uint8Array) => await ask('artifacts', { method: 'PUT', headers: operator, body: bytes });
  const refused = async (asked: Promise<Answer>, status: number, code: string) => {
    const answer = await asked;
    const { message } = json(answer);
    assert.deepEqual([answer.status, json(answer).code], [status, code], message);
    assert.equal(answer.headers['content-type'], 'application/json');
    assert.ok(message.length > 10, message);
    return answer;
  };

  it('says that it is there to anybody, and nothing else', async () => {
    assert.deepEqual(json(await ask('healthz')), { status: 'ok' });
    assert.equal((await ask('healthz', { identity: alice })).status, 200);
    for (const path of ['artifacts', 'hosts/alice/programs', `artifacts/sha256:${'0'.repeat(64)}`]) {
      const { headers } = await refused(ask(path), 401, 'unauthenticated');
      assert.equal(headers['www-authenticate'], 'Bearer');
      await refused(ask(path, { headers: { authorization: `Bearer lla1.${'x'.repeat(43)}` } }), 401, 'unauthenticated');
    }
  });

  it('has nothing where nothing is, whatever the path says', async () => {
    for (const path of [
      '',
      'nothing',
      'hosts',
      'hosts/alice',
      'hosts/alice/programs/x',
      'artifacts/a/b',
      'healthz/x',
    ]) {
      await refused(ask(path, { headers: viewer }), 404, 'not_found');
    }
    for (const segment of ['..%2f..%2fetc%2fpasswd', 'sha256:..', `sha256:${'0'.repeat(63)}%00`, '%2e%2e']) {
      await refused(ask(`artifacts/${segment}`, { headers: viewer }), 400, 'invalid_argument');
    }
    await refused(ask('artifacts/%zz', { headers: viewer }), 400, 'invalid_argument');
    await refused(ask('hosts/%2e%2e/programs', { headers: viewer }), 404, 'not_found');
    const { headers } = await refused(ask('artifacts', { method: 'DELETE', headers: operator }), 405, 'unimplemented');
    assert.equal(headers['allow'], 'GET, HEAD, PUT');
    await refused(ask('artifacts?page_size=x', { headers: viewer }), 400, 'invalid_argument');
    await refused(ask('artifacts?page_token=x', { headers: viewer }), 400, 'invalid_argument');
  });

  it('takes artifacts from operators, whole or not at all', async () => {
    const { bytes, digest } = await artifactOf({}, 200_000);
    const first = await put(bytes);
    assert.deepEqual([first.status, first.headers['location']], [201, `/registry/v1/artifacts/${digest}`]);
    assert.deepEqual([json(first).created, json(first).artifact.digest], [true, digest]);
    const again = await put(bytes);
    assert.deepEqual([again.status, json(again).created], [200, false]);
    const listed = json(await ask('artifacts?name=drop&page_size=1', { headers: viewer }));
    assert.deepEqual([listed.artifacts[0].digest, listed.artifacts[0].metadata.name], [digest, 'drop']);
    assert.deepEqual(json(await ask('artifacts?name=none', { headers: viewer })).artifacts, []);
    await refused(put(new Uint8Array()), 400, 'invalid_argument');
    await refused(put(Buffer.from('no artifact')), 400, 'invalid_argument');
    await refused(put(bytes.subarray(0, -1)), 400, 'invalid_argument');
    await refused(put(new Uint8Array(16 * 1024 * 1024 + 1)), 413, 'resource_exhausted');
    const upload = { method: 'PUT', body: bytes };
    await refused(ask('artifacts', { ...upload, headers: viewer }), 403, 'permission_denied');
    await refused(ask('artifacts', { ...upload, identity: alice }), 403, 'permission_denied');
    await refused(ask('artifacts', { identity: alice }), 403, 'permission_denied');
  });

  it('keeps nothing of an upload that breaks off, and has room for the next', async () => {
    const { bytes, digest } = await artifactOf({ name: 'broken' }, 200_000);
    for (let round = 0; round < 6; round++) {
      const outgoing = httpsRequest(url('artifacts'), {
        ...{ method: 'PUT', ca: context.ca, agent: agents },
        headers: { ...operator, 'content-length': bytes.length },
      });
      outgoing.on('error', () => undefined);
      await new Promise((resolve) => outgoing.write(bytes.subarray(0, 100_000), resolve));
      outgoing.destroy();
    }
    const gone = await ask(`artifacts/${digest}`, { headers: viewer });
    assert.equal(gone.status, 404);
    await until('room', async () => (await put(bytes)).status === 201);
  });

  it('gives bytes, parts of them, and only what somebody has not got yet', async () => {
    const { bytes, digest } = await artifactOf({ name: 'parts' }, 200_000);
    await put(bytes);
    const path = `artifacts/${digest}`;
    const etag = `"${digest}"`;
    const get = async (headers: Record<string, string> = {}, method = 'GET') =>
      await ask(path, { method, headers: { ...viewer, ...headers } });
    const whole = await get();
    assert.deepEqual([whole.status, whole.headers['etag'], whole.headers['accept-ranges']], [200, etag, 'bytes']);
    assert.equal(Buffer.compare(whole.body, bytes), 0);
    assert.equal((await ask(`artifacts/${encodeURIComponent(digest)}`, { headers: viewer })).status, 200);
    const head = await get({}, 'HEAD');
    assert.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, String(bytes.length), 0]);
    const part = await get({ range: 'bytes=70000-', 'if-range': etag });
    assert.deepEqual(
      [part.status, part.headers['content-range']],
      [206, `bytes 70000-${bytes.length - 1}/${bytes.length}`],
    );
    assert.equal(Buffer.compare(part.body, bytes.subarray(70_000)), 0);
    assert.equal(Buffer.compare((await get({ range: 'bytes=5-9' })).body, bytes.subarray(5, 10)), 0);
    assert.equal(Buffer.compare((await get({ range: 'bytes=-7' })).body, bytes.subarray(-7)), 0);
    const other = await get({ range: 'bytes=70000-', 'if-range': '"another"' });
    assert.deepEqual([other.status, other.body.length], [200, bytes.length]);
    const beyond = await refused(get({ range: `bytes=${bytes.length}-` }), 416, 'out_of_range');
    assert.equal(beyond.headers['content-range'], `bytes */${bytes.length}`);
    for (const range of ['bytes=9-5', 'bytes=0-1,3-4', 'nonsense'])
      assert.equal((await get({ range })).status, 200, range);
    const known = await get({ 'if-none-match': etag });
    assert.deepEqual([known.status, known.body.length, known.headers['etag']], [304, 0, etag]);
    await refused(ask(`artifacts/sha256:${'0'.repeat(64)}`, { headers: viewer }), 404, 'not_found');
    await refused(ask(`artifacts/${digest.slice(0, 20)}`, { headers: viewer }), 400, 'invalid_argument');
  });

  it('gives each agent its own list, and that only if it changed', async () => {
    const { bytes, digest } = await artifactOf({ name: 'listed' });
    await put(bytes);
    polled.set('alice', [digest]);
    const path = 'hosts/alice/programs';
    const first = await ask(path, { identity: alice });
    const spec = { name: 'drop', artifact: digest, renewal: '1' };
    assert.deepEqual([first.status, json(first)], [200, { programs: [spec] }]);
    const etag = String(first.headers['etag']);
    assert.match(etag, /^"[0-9a-f]{64}"$/);
    assert.equal((await ask(path, { identity: alice, headers: { 'if-none-match': etag } })).status, 304);
    polled.set('alice', []);
    const next = await ask(path, { identity: alice, headers: { 'if-none-match': etag } });
    assert.deepEqual([next.status, json(next)], [200, { programs: [] }]);
    assert.deepEqual(json(await ask(path, { headers: viewer })), { programs: [] });
    await refused(ask(path, { identity: bob }), 403, 'permission_denied');
    await refused(ask('hosts/nobody/programs', { headers: viewer }), 404, 'not_found');
    await refused(ask('hosts/nobody/programs', { identity: bob }), 403, 'permission_denied');
  });

  it('gives agents the artifacts that are for them, and says of no other whether it is there', async () => {
    const [listed, pushed, other] = [await artifactOf(), await artifactOf(), await artifactOf()];
    for (const { bytes } of [listed, pushed, other]) await put(bytes);
    polled.set('alice', [listed.digest]);
    await withConnect(
      context,
      ProgramService,
      (client) => client.putProgram({ agentId: 'alice', spec: { name: 'p', artifact: pushed.digest } }),
      context.token,
    );
    const get = async (digest: string, identity: AgentCredentials) => await ask(`artifacts/${digest}`, { identity });
    for (const { bytes, digest } of [listed, pushed]) {
      assert.equal(Buffer.compare((await get(digest, alice)).body, bytes), 0);
      await refused(get(digest, bob), 403, 'permission_denied');
    }
    await refused(get(other.digest, alice), 403, 'permission_denied');
    await refused(get(`sha256:${'0'.repeat(64)}`, alice), 403, 'permission_denied');
  });

  it('knows agents by API key where there is no certificate', async () => {
    const headers = { authorization: `Bearer ${await keyOf('keyed')}`, 'longline-agent-id': 'keyed' };
    assert.deepEqual(json(await ask('hosts/keyed/programs', { headers })), { programs: [] });
    await refused(ask('hosts/alice/programs', { headers }), 403, 'permission_denied');
    const stolen = { ...headers, 'longline-agent-id': 'alice' };
    await refused(ask('hosts/alice/programs', { headers: stolen }), 401, 'unauthenticated');
    await refused(ask('hosts/keyed/programs', { headers: { ...headers, ...operator } }), 401, 'unauthenticated');
  });

  it('is there for agents with API keys on the plaintext listener too, beside the link, and for nobody else', async () => {
    const apiKey = await keyOf('plain');
    const port = controller.plaintextPort!;
    const plain = async (path: string, headers: Record<string, string>) => {
      const outgoing = httpRequest({ host: '127.0.0.1', port, path, headers, agent: false });
      outgoing.end();
      const [response] = await once(outgoing, 'response');
      const parts: Buffer[] = [];
      for await (const part of response) parts.push(part);
      return { status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) };
    };
    const path = '/registry/v1/hosts/plain/programs';
    const headers = { authorization: `Bearer ${apiKey}`, 'longline-agent-id': 'plain' };
    assert.deepEqual(json(await plain(path, headers)), { programs: [] });
    await refused(plain('/registry/v1/hosts/alice/programs', headers), 403, 'permission_denied');
    await refused(plain(path, operator), 401, 'unauthenticated');
    await refused(plain(path, { ...operator, 'longline-agent-id': 'plain' }), 401, 'unauthenticated');
    await refused(plain('/longline.fleet.v1.AgentService/ListAgents', operator), 404, 'not_found');
    // Both ways of speaking, however the first bytes come.
    for (const [spoken, answered] of [
      [
        `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`,
        (said: Buffer) => said.toString().startsWith('HTTP/1.1 401 '),
      ],
      ['nonsense\r\n\r\n', (said: Buffer) => said.toString().startsWith('HTTP/1.1 400 ')],
      // Settings are of type 4.
      ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', (said: Buffer) => said[3] === 4],
    ] as const) {
      const socket = connectTcp(port, '127.0.0.1').setNoDelay(true);
      await once(socket, 'connect');
      for (const character of spoken) await new Promise((resolve) => socket.write(character, 'latin1', resolve));
      const [said] = (await once(socket, 'data')) as [Buffer];
      assert.ok(answered(said), said.toString('latin1'));
      socket.destroy();
    }
  });

  it('is all that agents reach over HTTP/1.1', async () => {
    for (const path of [
      '/longline.fleet.v1.AgentService/ListAgents',
      '/longline.link.v1.EnrollmentService/Renew',
      '/grpc.health.v1.Health/Check',
      '/sessions/x/view',
      '/',
    ]) {
      const asked = { method: 'POST', identity: alice, headers: { ...operator, 'content-type': 'application/json' } };
      await refused(ask(path, { ...asked, body: Buffer.from('{}') }), 404, 'not_found');
    }
    const socket = connectTls({
      ...{ host: '127.0.0.1', port: Number(new URL(context.url).port), servername: 'localhost', ca: context.ca },
      ...{ key: alice.key, cert: alice.chain, ALPNProtocols: ['http/1.1'] },
    });
    await once(socket, 'secureConnect');
    const upgrade =
      'GET /v1/sessions/x/tunnel HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n';
    socket.write(upgrade);
    const [answer] = await once(socket, 'data');
    assert.match(String(answer), /^HTTP\/1.1 403 /);
    socket.destroy();
  });

  it('hears a revoked agent no more, not even over a connection that it has', async () => {
    const { token } = await withConnect(
      context,
      TokenService,
      (client) => client.createEnrollmentToken({}),
      context.token,
    );
    const carol = await enrollAgent(context, 'carol', parseEnrollmentToken(token).secret);
    using held = Object.assign(new Agent({ keepAlive: true, maxSockets: 1, key: carol.key, cert: carol.chain }), {
      [Symbol.dispose]: () => held.destroy(),
    });
    const poll = async () => {
      const outgoing = httpsRequest(url('hosts/carol/programs'), { ca: context.ca, agent: held });
      outgoing.end();
      const [response] = await once(outgoing, 'response');
      response.resume();
      await once(response, 'end');
      return response.statusCode;
    };
    assert.equal(await poll(), 200);
    const [socket] = Object.values(held.freeSockets).flat();
    await withConnect(context, AgentService, (client) => client.revokeAgent({ agentId: 'carol' }), context.token);
    assert.equal(await poll(), 401);
    await until('its connection to be cut', () => socket!.destroyed);
  });

  it('works the same over HTTP/2, without a certificate', async () => {
    const { bytes, digest } = await artifactOf({ name: 'second' }, 300_000);
    const session = connectHttp2(context.url, { ca: context.ca });
    const over = async (headers: Record<string, string>, body?: Uint8Array) => {
      const stream = session.request({ ...operator, ...headers });
      stream.end(body);
      const [answer] = await once(stream, 'response');
      const parts: Buffer[] = [];
      for await (const part of stream) parts.push(part);
      return { status: answer[':status'], body: Buffer.concat(parts) };
    };
    const uploaded = await over({ ':method': 'PUT', ':path': '/registry/v1/artifacts' }, bytes);
    assert.equal(uploaded.status, 201);
    const path = `/registry/v1/artifacts/${digest}`;
    assert.equal(Buffer.compare((await over({ ':path': path })).body, bytes), 0);
    const part = await over({ ':path': path, range: 'bytes=1-3' });
    assert.deepEqual([part.status, part.body], [206, Buffer.from(bytes.subarray(1, 4))]);
    assert.equal((await over({ ':path': path, ':method': 'HEAD' })).body.length, 0);
    const large = await over({ ':method': 'PUT', ':path': '/registry/v1/artifacts' }, new Uint8Array(17 * 1024 * 1024));
    assert.equal(large.status, 413);
    session.close();
    await once(session, 'close');
  });

  it('goes on after somebody leaves in the middle of a download', async () => {
    const { bytes, digest } = await artifactOf({ name: 'left' }, 2_000_000);
    await put(bytes);
    const path = `/registry/v1/artifacts/${digest}`;
    for (let round = 0; round < 5; round++) {
      const outgoing = httpsRequest(context.url, { path, headers: viewer, ca: context.ca, agent: agents });
      outgoing.end();
      const [response] = await once(outgoing, 'response');
      await once(response, 'readable');
      outgoing.destroy();
      const session = connectHttp2(context.url, { ca: context.ca });
      const stream = session.request({ ...viewer, ':path': path });
      await once(stream, 'response');
      if (round % 2 === 0) stream.close();
      else session.destroy();
      if (!session.destroyed) session.close();
      await once(session, 'close');
    }
    assert.equal(Buffer.compare((await ask(path, { headers: viewer })).body, bytes), 0);
  });

  it('works with curl', async () => {
    const { bytes, digest } = await artifactOf({ name: 'curled' }, 2_000_000);
    const [ca, file, config] = ['ca.pem', 'artifact.tar.zst', 'curlrc'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    await writeFile(ca, context.ca);
    await writeFile(file, bytes);
    await writeFile(config, `header = "authorization: ${operator['authorization']}"\n`, { mode: 0o600 });
    const curl = async (...argv: string[]) =>
      (await promisify(execFile)('curl', ['-sS', '--cacert', ca, '-K', config, ...argv], { encoding: 'utf8' })).stdout;
    const uploaded = await curl('-T', file, String(url('artifacts')));
    assert.equal(JSON.parse(uploaded).artifact.digest, digest);
    const again = await curl('-X', 'PUT', '--data-binary', `@${file}`, String(url('artifacts')));
    assert.equal(JSON.parse(again).created, false);
    await curl('-o', `${file}.copy`, String(url(`artifacts/${digest}`)));
    assert.equal(Buffer.compare(await readFile(`${file}.copy`), bytes), 0);
    const failed = await curl('-w', '%{http_code}', '-T', config, String(url('artifacts')));
    assert.match(failed, /"code":"invalid_argument".*400$/s);
  });
});
