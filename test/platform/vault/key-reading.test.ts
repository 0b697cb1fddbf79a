import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../../src/core/errors.ts';
import { readKeyCopy, writeKeyCopy } from '../../../src/platform/vault/key-copy.ts';
import { type KeyReading, readKvKeys, readTransitKeys } from '../../../src/platform/vault/key-reading.ts';

const { signal } = new AbortController();

/** Whatever Vault says: keys, or one kind of failure. */
async function onlyFails(read: () => Promise<KeyReading>): Promise<void> {
  try {
    const { keys } = await read();
    for (const { publicKey } of keys) assert.ok(publicKey.length > 40);
  } catch (error) {
    assert.ok(error instanceof LonglineError, String(error));
    assert.ok(['unavailable', 'invalid'].includes(error.reason), error.reason);
  }
}

describe('whatever Vault says', () => {
  const anything = fc.jsonValue().map((value) => (typeof value === 'object' && value !== null ? value : { value }));
  const transit = fc.record({
    type: fc.oneof(fc.constantFrom('ed25519', 'rsa-2048', 'ecdsa-p256'), fc.jsonValue()),
    min_decryption_version: fc.oneof(fc.integer(), fc.jsonValue()),
    keys: fc.oneof(
      fc.dictionary(
        fc.constantFrom('1', '2', '-1', 'x', '__proto__'),
        fc.oneof(
          fc.record({ public_key: fc.string() }),
          fc.base64String().map((text) => ({ public_key: text })),
        ),
      ),
      fc.jsonValue(),
    ),
  });

  it('gives keys or fails in one way', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(anything, transit), async (data) => {
        const vault = { read: () => Promise.resolve(data as Readonly<Record<string, unknown>>) };
        await onlyFails(() => readTransitKeys(vault, 'transit', 'longline', signal));
        await onlyFails(() => readKvKeys(vault, { mount: 'kv', path: 'keys', version: 1 }, signal));
        await onlyFails(() => readKvKeys(vault, { mount: 'kv', path: 'keys', version: 2 }, signal));
      }),
    );
  });

  it('has versions of keys that are numbers, and not too many keys', async () => {
    const read = (data: object) => readTransitKeys({ read: () => Promise.resolve({ ...data }) }, 't', 'k', signal);
    const head = { type: 'ed25519', min_decryption_version: 1 };
    await assert.rejects(read({ ...head, keys: { latest: { public_key: '' } } }), /not what it is documented to say/);
    const many = Object.fromEntries(Array.from({ length: 257 }, (_, place) => [place + 1, { public_key: '' }]));
    await assert.rejects(read({ ...head, keys: many }), /has 257 keys; at most 256/);
  });
});

describe('a copy of keys', () => {
  it('that is damaged is none, wherever it was cut', () => {
    const text = writeKeyCopy([], 'here');
    assert.deepEqual(readKeyCopy(text, 'here'), []);
    assert.equal(readKeyCopy(text, 'there'), undefined);
    for (let end = 0; end < text.trimEnd().length; end++) {
      assert.throws(() => readKeyCopy(text.slice(0, end), 'here'), { reason: 'invalid' });
    }
    for (const other of [
      'null',
      '[]',
      '{}',
      '{"format":1,"identity":"here"}',
      '{"format":1,"identity":"here","keys":7}',
    ]) {
      try {
        assert.equal(readKeyCopy(other, 'here'), undefined);
      } catch (error) {
        assert.ok(error instanceof LonglineError && error.reason === 'invalid', String(error));
      }
    }
  });
});
