// Image references, and the tally of a pull, on lines as Docker and Podman send them.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { pullProgress, pullQuery, registryAuth, stallGuard } from '../../../src/platform/docker/image-pull.ts';
import { matchingDigest, parseImageReference } from '../../../src/platform/docker/image-reference.ts';

const DIGEST = `sha256:${'a1'.repeat(32)}`;

async function* bytes(...texts: readonly string[]) {
  for (const text of texts) yield Buffer.from(text);
}

async function progress(...texts: readonly string[]) {
  const steps = [];
  for await (const step of pullProgress('tool:1', bytes(...texts))) steps.push(step);
  return steps;
}

suite('image reference', () => {
  test('is completed as registries do', () => {
    for (const [text, registry, repository, tag, digest] of [
      ['busybox', 'docker.io', 'library/busybox', 'latest', undefined],
      ['team/tool:1.2', 'docker.io', 'team/tool', '1.2', undefined],
      ['localhost/tool', 'localhost', 'tool', 'latest', undefined],
      ['127.0.0.1:5000/a/b/c:x', '127.0.0.1:5000', 'a/b/c', 'x', undefined],
      [`ghcr.io/a/b@${DIGEST}`, 'ghcr.io', 'a/b', undefined, DIGEST],
      [`tool:1@${DIGEST}`, 'docker.io', 'library/tool', '1', DIGEST],
    ] as const) {
      assert.deepEqual(parseImageReference(text), { registry, repository, tag, digest });
    }
  });

  test('is refused when malformed, naming it', () => {
    for (const text of [
      '',
      'UPPER',
      'a b',
      'tool:',
      'tool@sha256:12',
      '/tool',
      'tool/',
      'a//b',
      '-x',
      'x'.repeat(600),
      'tool:1:2',
      '../etc',
    ]) {
      assert.throws(() => parseImageReference(text), { reason: 'invalid', message: /^image: .*right would be/ }, text);
    }
  });

  test("finds its digest among the engine's, in any spelling", () => {
    const other = `sha256:${'b2'.repeat(32)}`;
    const known = ['<none>@<none>', `quay.io/tool@${other}`, `tool@${DIGEST}`];
    assert.equal(matchingDigest(parseImageReference('docker.io/library/tool:9'), known), `tool@${DIGEST}`);
    assert.equal(matchingDigest(parseImageReference(`tool@${other}`), known), undefined);
    assert.equal(matchingDigest(parseImageReference('absent'), known), undefined);
  });

  test('always asks for one tag or digest, and hides credentials in a header', () => {
    assert.deepEqual(pullQuery(parseImageReference('tool')), { fromImage: 'docker.io/library/tool', tag: 'latest' });
    assert.equal(pullQuery(parseImageReference(`tool:1@${DIGEST}`)).tag, DIGEST);
    const header = registryAuth(parseImageReference('r.example/x'), { username: 'ü', password: '??>>~~' });
    assert.match(header, /^[A-Za-z0-9_-]+=*$/);
    assert.equal(header.length % 4, 0);
    const json = JSON.parse(Buffer.from(header, 'base64url').toString());
    assert.deepEqual(json, { username: 'ü', password: '??>>~~', serveraddress: 'r.example' });
  });
});

suite('pull progress', () => {
  test('adds layers up, split anywhere', async () => {
    const lines = [
      '{"status":"Pulling from tool","id":"1"}\n{"status":"Pulling fs layer","id":"a"}\n{"status":"Pulling fs layer","id":"b"}\r\n\n',
      '{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"a"}\n{"status":"Down',
      'loading","progressDetail":{"current":50,"total":200},"id":"b"}\n{"status":"Download complete","id":"a"}\n',
      '{"status":"Extracting","progressDetail":{"current":1,"total":9},"id":"a"}\n{"status":"Pull complete","id":"a"}\n',
      '{"status":"Already exists","id":"c"}\n{"status":"Status: Downloaded newer image for tool:1"}',
    ];
    const steps = await progress(...lines);
    const shown = steps.map((step) => [step.layersDone, step.layersTotal, step.bytesDone, step.bytesTotal].join(' '));
    assert.deepEqual(shown, [
      ...['0 1 0 0', '0 2 0 0', '0 2 10 100', '0 2 60 300', '0 2 150 300', '1 2 150 300', '2 3 150 300', '3 3 300 300'],
    ]);
  });

  test('throws what the stream says went wrong, by kind', async () => {
    for (const [message, reason] of [
      ['manifest for tool:1 not found: manifest unknown: manifest unknown', 'not_found'],
      ['pull access denied for tool, repository does not exist', 'identity'],
      ['unauthorized: authentication required', 'identity'],
      ['write /var/x: no space left on device', 'limit'],
      ['toomanyrequests: You have reached your pull rate limit', 'limit'],
      ['dial tcp: lookup registry.example: no such host', 'unavailable'],
      ['net/http: TLS handshake timeout', 'unavailable'],
    ] as const) {
      const line = `${JSON.stringify({ errorDetail: { message }, error: message })}\n`;
      await assert.rejects(progress('{"status":"Pulling fs layer","id":"a"}\n', line), { reason }, message);
      await assert.rejects(progress(`${JSON.stringify({ error: message })}\n`), { reason });
    }
  });

  test('refuses lines that are no objects', async () => {
    for (const text of ['not json\n', '[1]\n', '7', 'null\n', '{"a":']) {
      await assert.rejects(progress(text), { reason: 'internal', message: /no JSON object/ });
    }
    await assert.rejects(progress('x'.repeat(2_000_000)), { reason: 'internal', message: /longer than/ });
  });

  test('gives up a source that says nothing', async () => {
    async function* silent() {
      yield Buffer.from('{}\n');
      await new Promise(() => undefined);
    }
    const guarded = stallGuard('tool:1', silent(), 20);
    assert.equal((await guarded.next()).done, false);
    await assert.rejects(guarded.next(), { reason: 'unavailable', message: /no progress for 20 ms/ });
  });
});
