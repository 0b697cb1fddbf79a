import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Secret } from '../../src/core/config/secret.ts';
import { LonglineError } from '../../src/core/errors.ts';
import { createLogger, type LogLevel, redact } from '../../src/telemetry/logger.ts';

function recording(level: LogLevel = 'debug') {
  const lines: Record<string, unknown>[] = [];
  const log = createLogger({
    level,
    name: 'test',
    destination: { write: (line) => void lines.push(JSON.parse(line)) },
  });
  return { log, lines };
}

it('writes one JSON object a line, with level, time, message and facts', () => {
  const { log, lines } = recording();
  log.child({ agentId: 'host-1' }).info('connected', { streams: 3, seq: 7n, bytes: new Uint8Array(5) });
  const [line] = lines;
  assert.deepEqual(
    [
      line?.['level'],
      line?.['msg'],
      line?.['name'],
      line?.['agentId'],
      line?.['streams'],
      line?.['seq'],
      line?.['bytes'],
    ],
    ['info', 'connected', 'test', 'host-1', 3, '7', '[5 bytes]'],
  );
  assert.equal(new Date(String(line?.['time'])).toISOString(), line?.['time']);
});

it('leaves out what is below its level', () => {
  const { log, lines } = recording('warn');
  log.debug('a');
  log.info('b');
  log.warn('c');
  log.error('d');
  assert.deepEqual(
    lines.map((line) => line['msg']),
    ['c', 'd'],
  );
  const silent = recording('silent');
  silent.log.error('e');
  assert.deepEqual(silent.lines, []);
});

it('strikes secrets out, by name and by look, wherever they are', () => {
  const secret = 'A'.repeat(43);
  const { log, lines } = recording();
  const key = `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----`;
  log.child({ token: secret }).error(`failed with lla1.${secret}`, {
    headers: [{ Authorization: `Bearer ${secret}` }, `authorization: Bearer ${secret}`],
    nested: { deep: { api_key: secret, note: `lle1.${secret}.${secret}` } },
    err: new Error(`bad ${key}`, { cause: new LonglineError('identity', `lla1.${secret}`) }),
  });
  const text = JSON.stringify(lines);
  assert.doesNotMatch(text, /AAAA/);
  assert.match(text, /\[redacted\]/);
  assert.match(text, /"reason":"identity"/);
});

it('bounds depth and length, and survives cycles', () => {
  const cycle: Record<string, unknown> = {};
  cycle['self'] = cycle;
  const { log, lines } = recording();
  log.info('x'.repeat(50_000), { cycle, many: Array.from({ length: 1000 }, (_, i) => i) });
  assert.ok(JSON.stringify(lines).length < 10_000);
  assert.match(JSON.stringify(redact(cycle)), /\[deeper\]/);
});

it('takes another level while it runs, its children too', () => {
  const { log, lines } = recording('info');
  const child = log.child({ capability: 'jobs' });
  child.debug('unheard');
  log.setLevel('debug');
  child.debug('heard');
  log.setLevel('error');
  child.warn('unheard');
  assert.deepEqual(
    lines.map((line) => line['msg']),
    ['heard'],
  );
});

it('strikes out secrets under whatever name has them, and leaves what only sounds like one', () => {
  const { log, lines } = recording();
  const value = 'hidden-value';
  const names = [
    'http.token',
    'sessionToken',
    'vault_secret_id',
    'natsPassword',
    'registration-token',
    'API_KEY',
    'pem',
  ];
  log.info('settings', { config: Object.fromEntries(names.map((name) => [name, value])), secret: new Secret(value) });
  log.info('ids', { tokenId: 'id-1', keyId: 'id-2', publicKey: 'id-3', secret_name: 'id-4' });
  assert.doesNotMatch(JSON.stringify(lines), /hidden-value/);
  assert.deepEqual(
    ['tokenId', 'keyId', 'publicKey', 'secret_name'].map((name) => lines[1]?.[name]),
    ['id-1', 'id-2', 'id-3', 'id-4'],
  );
});

it('strikes user and password out of URLs, wherever they stand', () => {
  const { log, lines } = recording();
  log.error('cannot reach nats://agent:hunter2@nats.example.net:4222', {
    url: 'https://hunter2@registry.example.net/v2',
    err: new Error('connect redis://:hunter2@10.0.0.1:6379/0 failed'),
    mail: 'ops@example.net',
  });
  const text = JSON.stringify(lines);
  assert.doesNotMatch(text, /hunter2/);
  assert.match(text, /nats:\/\/\[redacted\]@nats\.example\.net:4222/);
  assert.equal(lines[0]?.['mail'], 'ops@example.net');
});
