import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { controlError, readControlMessage } from '../../../src/agent/network/control-message.ts';
import { JsonSplitter } from '../../../src/agent/network/json-splitter.ts';
import { LonglineError } from '../../../src/core/errors.ts';

const KEY = Buffer.alloc(32, 7).toString('base64');

/** As applications send it. */
const CONNECT = {
  action: 'connect',
  interface: 'wg0',
  mtu: 1280,
  dns: ['10.100.0.2'],
  privateKeyPath: '/etc/wireguard/private.key',
  peers: [
    {
      name: 'core',
      publicKey: KEY,
      endpoint: '203.0.113.10:51820',
      allowedIps: ['10.42.0.0/16', 'fd42:1::/48'],
      keepaliveSecs: 25,
    },
  ],
};

function refusal(message: unknown): ReturnType<typeof controlError> {
  try {
    readControlMessage(typeof message === 'string' ? message : JSON.stringify(message));
  } catch (error) {
    assert.ok(error instanceof LonglineError);
    return controlError(error);
  }
  return assert.fail('it was taken');
}

describe('control messages', () => {
  it('are read as applications send them', () => {
    const request = readControlMessage(JSON.stringify(CONNECT));
    assert.equal(request.action, 'connect');
    assert.ok(request.action === 'connect');
    const { spec } = request;
    assert.deepEqual([spec.name, spec.interface, spec.mtu, spec.dnsServers], ['wg0', 'wg0', 1280, ['10.100.0.2']]);
    assert.equal(spec.peers[0]!.persistentKeepaliveSecs, 25);
    assert.deepEqual(readControlMessage('{"action":"status"}'), { action: 'status', which: undefined });
    const disconnect = readControlMessage('{"action":"disconnect","interface":"wg0"}');
    assert.deepEqual(disconnect, { action: 'disconnect', which: 'wg0' });
  });

  it('that are wrong are told field by field', () => {
    assert.equal(refusal('{"action":').field, 'message');
    assert.equal(refusal('[]').field, 'message');
    assert.equal(refusal({ action: 'reboot' }).field, 'action');
    assert.equal(refusal({ action: 'disconnect' }).field, 'interface');
    assert.equal(refusal({ ...CONNECT, mtu: '1280' }).field, 'mtu');
    assert.equal(refusal({ ...CONNECT, peers: [{}] }).field, 'peers[0].publicKey');
    assert.match(refusal({ ...CONNECT, priority: 1 }).message, /unknown key; known here: .*privateKeyPath/);
  });

  it('name fields as the message does, whoever refuses them', () => {
    const violations = [{ field: 'peers[2].persistent_keepalive_secs', description: 'too long' }];
    const told = controlError(new LonglineError('invalid', 'x', { violations }));
    assert.deepEqual([told.field, told.message], ['peers[2].keepaliveSecs', 'too long']);
    const clash = controlError(new LonglineError('already_exists', 'interface: "wg0" is that of network a'));
    assert.deepEqual([clash.field, clash.message], ['interface', '"wg0" is that of network a']);
  });
});

describe('a stream of JSON objects', () => {
  it('is cut into them, however it arrives and is laid out', () => {
    const objects = fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { maxLength: 5 });
    fc.assert(
      fc.property(objects, fc.integer({ min: 1, max: 40 }), fc.boolean(), (values, size, pretty) => {
        const text = values.map((value) => `${JSON.stringify(value, null, pretty ? 2 : 0)}\n`).join(' ');
        const bytes = Buffer.from(text);
        const splitter = new JsonSplitter(1e6);
        const found: unknown[] = [];
        for (let at = 0; at < bytes.length; at += size) {
          for (const whole of splitter.take(bytes.subarray(at, at + size))) found.push(JSON.parse(whole));
        }
        assert.deepEqual(found, JSON.parse(JSON.stringify(values)));
        assert.ok(splitter.isEmpty);
      }),
    );
  });

  it('ends with an error where there is no object, a string without an end, or too much', () => {
    const take = (text: string, most = 100) => [...new JsonSplitter(most).take(Buffer.from(text))];
    assert.throws(() => take('hello\n'), /must be an object/);
    assert.throws(() => take('{"action":"sta\n'), /no end on its line/);
    assert.throws(() => take(`{"a":"${'x'.repeat(100)}`), /at most 100 bytes/);
  });
});
