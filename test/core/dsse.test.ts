import assert from 'node:assert/strict';
import { test } from 'node:test';
import { preAuthEncoding } from '../../src/core/dsse.ts';

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('utf8');

test('the published vector of the DSSE specification', () => {
  const encoded = preAuthEncoding('http://example.com/HelloWorld', Buffer.from('hello world'));
  assert.equal(text(encoded), 'DSSEv1 29 http://example.com/HelloWorld 11 hello world');
});

test('lengths are bytes, not characters, and payload bytes pass unchanged', () => {
  const payload = new Uint8Array([0, 255, 32, 10]);
  const encoded = preAuthEncoding('té', payload);
  assert.deepEqual(Buffer.from(encoded), Buffer.concat([Buffer.from('DSSEv1 3 té 4 '), payload]));
  assert.equal(text(preAuthEncoding('', new Uint8Array())), 'DSSEv1 0  0 ');
});

test('type and payload cannot be shifted into each other', () => {
  const one = preAuthEncoding('a', Buffer.from('b 1 c'));
  const other = preAuthEncoding('a 5 b', Buffer.from('c'));
  assert.notDeepEqual(one, other);
});
