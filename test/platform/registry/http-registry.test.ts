import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import type { RegistryAnswer } from '../../../src/capabilities/programs/ports.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { LonglineRegistry } from '../../fixtures/longline-registry.ts';
import { makePki } from '../../link/certificates.ts';
import { failsWith, never, registryClient } from './registry-harness.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

function namesOf(answer: RegistryAnswer): readonly string[] {
  assert.equal(answer.kind, 'programs');
  return answer.kind === 'programs' ? answer.specs.map((spec) => fromBinary(ProgramSpecSchema, spec).name) : [];
}

suite('a poll of a registry', () => {
  test('gives the programs of this host, and says when nothing changed', async () => {
    await using registry = await LonglineRegistry.start();
    registry.programs = [
      { name: 'drop', artifact: DIGEST, attach: ['xdp:eth0'], parameters: { limit: '100' }, ttl: '60s' },
    ];
    using client = registryClient({ baseUrl: registry.url });
    const answer = await client.poll(never);
    assert.ok(answer.kind === 'programs');
    assert.deepEqual(answer.refused, []);
    const spec = fromBinary(ProgramSpecSchema, answer.specs[0]!);
    assert.deepEqual(
      [spec.name, spec.artifact, spec.attach, spec.parameters],
      ['drop', DIGEST, ['xdp:eth0'], { limit: '100' }],
    );
    assert.equal(spec.ttl?.seconds, 60n);
    assert.deepEqual(await client.poll(never), { kind: 'unchanged' });
    registry.programs = [];
    assert.deepEqual(namesOf(await client.poll(never)), []);
    const polled = ['healthz', 'hosts/host-1/programs'];
    assert.deepEqual(registry.paths, [...polled, ...polled, ...polled]);
    assert.equal(registry.requests[1]!.headers['if-none-match'], undefined);
    assert.ok(registry.requests[3]!.headers['if-none-match']?.startsWith('"'));
  });

  test('takes one connection for health and list', async () => {
    await using registry = await LonglineRegistry.start();
    using client = registryClient({ baseUrl: registry.url });
    await client.poll(never);
    assert.equal(registry.connections, 1);
  });

  test('sees a list without a tag as unchanged by its content', async () => {
    await using registry = await LonglineRegistry.start();
    registry.fault = (request, response) => {
      if (!request.url!.includes('hosts')) return false;
      response.end('{"programs": []}');
      return true;
    };
    using client = registryClient({ baseUrl: registry.url });
    assert.deepEqual(namesOf(await client.poll(never)), []);
    assert.deepEqual(await client.poll(never), { kind: 'unchanged' });
  });

  test('asks for its host by a name that may hold anything', async () => {
    await using registry = await LonglineRegistry.start();
    using client = registryClient({ baseUrl: registry.url }, { hostId: '../a b/?c' });
    await client.poll(never);
    assert.equal(registry.paths[1], 'hosts/..%2Fa%20b%2F%3Fc/programs');
  });

  test('tells what it can not make sense of, beside what it can', async () => {
    await using registry = await LonglineRegistry.start();
    registry.programs = [
      { name: 'good', artifact: DIGEST },
      { name: 'bad', artifact: 7 },
      'text',
      { name: 'odd', ttl: 'soon' },
    ];
    using client = registryClient({ baseUrl: registry.url });
    const answer = await client.poll(never);
    assert.deepEqual(namesOf(answer), ['good']);
    assert.ok(answer.kind === 'programs');
    assert.deepEqual(
      answer.refused.map(({ item, error }) => [item, error.reason]),
      [
        ['bad', 'invalid'],
        ['programs[2]', 'invalid'],
        ['odd', 'invalid'],
      ],
    );
  });

  test('fails where the registry is down, ill, or says what is no list; then what it said before is asked for anew', async () => {
    await using registry = await LonglineRegistry.start();
    registry.programs = [{ name: 'good', artifact: DIGEST }];
    using client = registryClient({ baseUrl: registry.url }, { limits: { maxListBytes: 10_000 } });
    await client.poll(never);
    const answers: readonly [string, number, string, RegExp][] = [
      ['healthz', 503, '', /healthz is not healthy: HTTP 503/],
      ['hosts', 500, '', /programs gives no list of programs: HTTP 500/],
      ['hosts', 404, '', /HTTP 404/],
      ['hosts', 401, '', /HTTP 401; it doesn't take this agent's credentials/],
      ['hosts', 204, '', /HTTP 204/],
      ['hosts', 200, '<html>', /sent 6 bytes that are no JSON/],
      ['hosts', 200, '[]', /no list: it must be \{"programs"/],
      ['hosts', 200, '{"programs": {}}', /no list/],
      ['hosts', 200, `{"programs": [${'{},'.repeat(1000)}{}]}`, /lists 1001 programs/],
      ['hosts', 200, `{"programs": ["${'x'.repeat(20_000)}"]}`, /sends more than 10000 bytes/],
    ];
    for (const [path, status, body, message] of answers) {
      registry.fault = (request, response) => {
        if (!request.url!.includes(path)) return false;
        response.writeHead(status, { 'retry-after': '7' }).end(body);
        return true;
      };
      await assert.rejects(client.poll(never), failsWith('unavailable', message));
    }
    registry.fault = () => false;
    assert.deepEqual(await client.poll(never), { kind: 'unchanged' });
    const port = Number(new URL(registry.url).port);
    await registry[Symbol.asyncDispose]();
    await assert.rejects(
      client.poll(never),
      failsWith('unavailable', new RegExp(`healthz: connect ECONNREFUSED .*:${port}`)),
    );
  });

  test('says how long an overloaded registry wants to be left alone', async () => {
    await using registry = await LonglineRegistry.start();
    registry.fault = (_, response) => {
      response.writeHead(429, { 'retry-after': '120' }).end();
      return true;
    };
    using client = registryClient({ baseUrl: registry.url });
    const failure = await client.poll(never).then(
      () => undefined,
      (error: unknown) => error,
    );
    assert.ok(failure instanceof LonglineError);
    assert.deepEqual([failure.reason, failure.retryAfterMs], ['unavailable', 120_000]);
  });

  test('gives up on a registry that does not answer, or not on with it', async () => {
    await using registry = await LonglineRegistry.start();
    // Only the limit that it is about is short: a machine that stands still for a moment runs into any other.
    using hasty = registryClient({ baseUrl: registry.url }, { limits: { answerMs: 100 } });
    registry.fault = () => true;
    await assert.rejects(hasty.poll(never), failsWith('late', /healthz gave no answer within 100 ms/));
    using restless = registryClient({ baseUrl: registry.url }, { limits: { stallMs: 100 } });
    registry.fault = (_, response) => {
      response.writeHead(200, { 'content-length': 100 });
      response.write('{"programs"');
      return true;
    };
    await assert.rejects(restless.poll(never), failsWith('late', /healthz sent nothing for 100 ms/));
    using client = registryClient({ baseUrl: registry.url });
    registry.fault = (_, response) => {
      response.writeHead(200, { 'content-length': 100 });
      response.write('{"programs"', () => response.destroy());
      return true;
    };
    await assert.rejects(
      client.poll(never),
      failsWith('unavailable', /healthz: (aborted|ECONNRESET|the connection was closed)/),
    );
  });

  test('gives up on what is no HTTP, and on a peer that takes connections and says nothing', async () => {
    const sockets: Socket[] = [];
    let greeting = 'SSH-2.0-OpenSSH_9.2\r\n';
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      if (greeting !== '') socket.end(greeting);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    using client = registryClient({ baseUrl });
    await assert.rejects(client.poll(never), failsWith('unavailable', /healthz: Parse Error/));
    greeting = '';
    using hasty = registryClient({ baseUrl }, { limits: { answerMs: 200 } });
    await assert.rejects(hasty.poll(never), failsWith('late', /within 200 ms/));
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test('ends with its signal', async () => {
    await using registry = await LonglineRegistry.start();
    using client = registryClient({ baseUrl: registry.url });
    const stop = new AbortController();
    registry.fault = () => {
      stop.abort(new LonglineError('cancelled', 'the agent stops'));
      return true;
    };
    await assert.rejects(client.poll(stop.signal), failsWith('cancelled', /the agent stops/));
    await assert.rejects(client.poll(stop.signal), failsWith('cancelled', /the agent stops/));
  });
});

suite('redirects of a registry', () => {
  test('are followed a few times, with credentials for the same origin only', async () => {
    await using registry = await LonglineRegistry.start();
    await using other = await LonglineRegistry.start();
    registry.fault = ({ url = '' }, response) => {
      if (url.startsWith('/old')) response.writeHead(308, { location: url.replace('/old', '/registry/v1') }).end();
      else if (url.includes('hosts')) response.writeHead(307, { location: `${other.origin}${url}` }).end();
      else return false;
      return true;
    };
    other.programs = [{ name: 'there', artifact: DIGEST }];
    const headers = { authorization: 'Bearer t0ken', 'longline-agent-id': 'host-1' };
    using client = registryClient({ baseUrl: `${registry.origin}/old`, headers });
    assert.deepEqual(namesOf(await client.poll(never)), ['there']);
    assert.deepEqual(
      registry.requests.map((one) => one.headers.authorization),
      Array(4).fill('Bearer t0ken'),
    );
    assert.deepEqual(
      other.requests.map((one) => [one.headers.authorization, one.headers['longline-agent-id']]),
      [[undefined, undefined]],
    );
  });

  test('are not followed in circles, to nowhere, or out of encryption', async () => {
    const pki = await makePki();
    await using registry = await LonglineRegistry.start(pki);
    using client = registryClient({ baseUrl: registry.url, tls: { ca: pki.authority } });
    const locations: readonly [string, RegExp][] = [
      ['/registry/v1/healthz', /healthz redirects more than 5 times/],
      ['http://127.0.0.1:1/', /redirects to http:\/\/127\.0\.0\.1:1\/, which is not encrypted/],
      ['file:///etc/shadow', /redirects to "file:\/\/\/etc\/shadow", which is no http\(s\) URL/],
      ['http://', /redirects to "http:\/\/", which is no http\(s\) URL/],
    ];
    for (const [location, message] of locations) {
      registry.fault = (_, response) => {
        response.writeHead(302, { location }).end();
        return true;
      };
      await assert.rejects(client.poll(never), failsWith('unavailable', message));
    }
    assert.equal(registry.requests.length, 6 + 3);
  });
});

suite('a registry over TLS', () => {
  test('is shown the certificate of this host and trusted by the CA that was named', async () => {
    const pki = await makePki();
    const stranger = await makePki();
    await using registry = await LonglineRegistry.start(pki);
    const { certificate: cert, privateKey: key } = pki.agent;
    using client = registryClient({ baseUrl: registry.url, tls: { ca: pki.authority, cert, key } });
    assert.deepEqual(namesOf(await client.poll(never)), []);
    assert.deepEqual(
      registry.requests.map((one) => one.client),
      ['agent', 'agent'],
    );
    using anonymous = registryClient({ baseUrl: registry.url, tls: { ca: pki.authority } });
    await anonymous.poll(never);
    assert.equal(registry.requests.at(-1)!.client, undefined);
    using wary = registryClient({ baseUrl: registry.url, tls: { ca: stranger.authority, cert, key } });
    await assert.rejects(wary.poll(never), failsWith('unavailable', /certificate/));
    using plain = registryClient({ baseUrl: registry.url.replace('https', 'http') });
    await assert.rejects(plain.poll(never), failsWith('unavailable', /healthz/));
  });

  test('is shown new credentials as soon as they are there', async () => {
    const pki = await makePki();
    await using registry = await LonglineRegistry.start(pki);
    let tls: { ca: string; cert?: string; key?: string } = { ca: pki.authority };
    using client = registryClient(
      { baseUrl: registry.url },
      { access: async () => ({ baseUrl: registry.url, headers: {}, tls }) },
    );
    await client.poll(never);
    tls = { ca: pki.authority, cert: pki.agent.certificate, key: pki.agent.privateKey };
    await client.poll(never);
    assert.deepEqual(
      registry.requests.map((one) => one.client),
      [undefined, undefined, 'agent', 'agent'],
    );
  });
});

suite('what cannot be reached', () => {
  test('is named without what may be secret in it', async () => {
    await using registry = await LonglineRegistry.start();
    registry.fault = (_, response) => {
      response
        .writeHead(302, { location: `${registry.origin}/signed?X-Signature=${randomBytes(8).toString('hex')}` })
        .end();
      registry.fault = (_request, gone) => {
        gone.writeHead(500).end();
        return true;
      };
      return true;
    };
    using client = registryClient({ baseUrl: registry.url });
    await assert.rejects(client.poll(never), failsWith('unavailable', /\/signed is not healthy: HTTP 500$/));
  });
});
