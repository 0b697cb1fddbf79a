import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { describeAddress, parseEngineAddress } from '../../../src/platform/docker/engine-address.ts';

const TLS = { ca: 'ca', cert: 'cert', key: 'key' };

suite('engine address', () => {
  test('takes unix sockets and loopback TCP', () => {
    assert.deepEqual(parseEngineAddress('unix:///run/docker.sock'), { kind: 'unix', socketPath: '/run/docker.sock' });
    for (const [text, host, port] of [
      ['tcp://127.0.0.1:1234', '127.0.0.1', 1234],
      ['tcp://localhost', 'localhost', 2375],
      ['tcp://[::1]:99/', '::1', 99],
    ] as const) {
      assert.deepEqual(parseEngineAddress(text), { kind: 'tcp', host, port, tls: undefined });
    }
  });

  test('goes beyond loopback only with TLS', () => {
    const remote = 'tcp://engine.example:2376';
    assert.throws(() => parseEngineAddress(remote), { reason: 'invalid', message: /engine\.example.*TLS/ });
    assert.deepEqual(parseEngineAddress(remote, TLS), { kind: 'tcp', host: 'engine.example', port: 2376, tls: TLS });
    assert.equal(parseEngineAddress('tcp://engine.example', TLS).kind, 'tcp');
  });

  test('refuses other forms, naming them', () => {
    for (const text of [
      '',
      'docker.sock',
      'unix://run/docker.sock',
      'http://127.0.0.1',
      'tcp://',
      'tcp://u@127.0.0.1',
      'tcp://127.0.0.1/x',
      'npipe:////./pipe/x',
    ]) {
      assert.throws(() => parseEngineAddress(text), { reason: 'invalid', message: /engine address/ }, text);
    }
  });

  test('shows an address as it was given', () => {
    for (const text of ['unix:///run/docker.sock', 'tcp://127.0.0.1:1234', 'tcp://[::1]:99']) {
      assert.equal(describeAddress(parseEngineAddress(text)), text);
    }
  });
});
