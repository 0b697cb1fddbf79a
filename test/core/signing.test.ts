import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../src/core/errors.ts';
import { decodeEd25519PublicKey, ed25519PublicKeyFault } from '../../src/core/signing/ed25519-public-key.ts';
import { formatKeyFile, formatPublicKeyFile, parseKeyFile } from '../../src/core/signing/key-file.ts';
import {
  ed25519VerificationKey,
  signPayload,
  type VerificationKey,
  verifyEncoded,
  verifyPayload,
} from '../../src/core/signing/signature.ts';
import { ed25519Key, ed25519KeyId, generateSigningKey, type SigningKey } from '../../src/core/signing/signing-key.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));

function verificationOf(key: SigningKey): VerificationKey {
  return key.publicKey === undefined
    ? { algorithm: 'hmac-sha256', secret: key.secret }
    : ed25519VerificationKey(key.publicKey);
}

test('the second vector of RFC 8032, 7.1', () => {
  const key = ed25519Key(hex('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb'));
  assert.deepEqual(key.publicKey, hex('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c'));
  const signature = hex(
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  );
  assert.equal(verifyEncoded(verificationOf(key), hex('72'), signature), true);
  assert.equal(verifyEncoded(verificationOf(key), hex('73'), signature), false);
});

for (const algorithm of ['ed25519', 'hmac-sha256'] as const) {
  test(`${algorithm}: no bit of payload, type or signature can be flipped`, () => {
    const key = generateSigningKey(algorithm);
    const verification = verificationOf(key);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.nat(), fc.nat(), (payload, at, bit) => {
        const signature = signPayload(key, 'type/a', payload);
        assert.equal(verifyPayload(verification, 'type/a', payload, signature), true);
        assert.equal(verifyPayload(verification, 'type/b', payload, signature), false);
        const flip = (bytes: Uint8Array) =>
          bytes.map((byte, index) => (index === at % bytes.length ? byte ^ (1 << (bit % 8)) : byte));
        assert.equal(verifyPayload(verification, 'type/a', flip(payload), signature), false);
        assert.equal(verifyPayload(verification, 'type/a', payload, flip(signature)), false);
        assert.equal(verifyPayload(verification, 'type/a', payload, signature.subarray(1)), false);
      }),
      { numRuns: 60 },
    );
  });
}

test('a signature with S + L in place of S is refused', () => {
  const key = generateSigningKey('ed25519');
  const payload = Buffer.from('x');
  const signature = signPayload(key, 't', payload);
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const scalar = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString('hex')}`) + order;
  const malleable = new Uint8Array(signature);
  malleable.set(Buffer.from(scalar.toString(16).padStart(64, '0'), 'hex').reverse(), 32);
  assert.equal(verifyPayload(verificationOf(key), 't', payload, signature), true);
  assert.equal(verifyPayload(verificationOf(key), 't', payload, malleable), false);
});

test('public keys of small order, in non-canonical form or of another length are refused', () => {
  for (const [bad, why] of [
    ['00'.repeat(32), /small order/],
    [`01${'00'.repeat(31)}`, /small order/],
    [`01${'00'.repeat(30)}80`, /small order/],
    [`ec${'ff'.repeat(30)}7f`, /small order/],
    ['c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa', /small order/],
    [`ee${'ff'.repeat(30)}7f`, /canonical/],
    ['ff'.repeat(32), /canonical/],
    ['00'.repeat(31), /31 bytes/],
  ] as const) {
    assert.match(ed25519PublicKeyFault(hex(bad)) ?? '', why);
  }
  assert.equal(ed25519PublicKeyFault(generateSigningKey('ed25519').publicKey!), undefined);
  assert.throws(() => decodeEd25519PublicKey('not base64!'), /public_key.*not base64/);
});

test('key files keep their key', () => {
  for (const algorithm of ['ed25519', 'hmac-sha256'] as const) {
    const key = generateSigningKey(algorithm);
    const file = parseKeyFile(formatKeyFile(key));
    assert.equal(file.kind, 'private');
    assert.deepEqual({ ...file.key, privateKeyObject: 0 }, { ...key, privateKeyObject: 0 });
  }
  const key = generateSigningKey('ed25519');
  assert.equal(key.keyId, ed25519KeyId(key.publicKey!));
  assert.match(key.keyId, /^ed25519-[0-9a-f]{16}$/);
  const shared = { keyId: key.keyId, publicKey: key.publicKey! };
  assert.deepEqual(parseKeyFile(formatPublicKeyFile(shared)), { kind: 'public', key: shared });
});

test('bad key files are refused without showing the secret', () => {
  const good = formatKeyFile(generateSigningKey('ed25519'));
  const other = Buffer.from(generateSigningKey('ed25519').publicKey!).toString('base64');
  const secret = /secret = "([^"]+)"/.exec(good)![1]!;
  for (const [text, field] of [
    [good.replace('ed25519"', 'rsa"'), /type: got "rsa"/],
    [good.replace(/secret = .*/, 'secret = "c2hvcnQ="'), /secret: must be base64 of a 32-byte seed/],
    [good.replace(/secret = .*/, 'secret = 12345678'), /secret: must be a string/],
    [good.replace(/public_key = .*/, `public_key = "${other}"`), /public_key: doesn't belong/],
    [good.replace('type = "ed25519"', 'type = "hmac"'), /public_key: an HMAC key has none/],
    [`${good}extra = 1\n`, /extra: unknown key/],
    ['type = "ed25519"\nkey_id = "a"\n', /public_key: missing/],
  ] as const) {
    assert.throws(
      () => parseKeyFile(text),
      (error: unknown) => {
        assert.ok(error instanceof LonglineError);
        assert.equal(error.reason, 'invalid');
        assert.match(error.message, field);
        assert.ok(!error.message.includes(secret) && !error.message.includes('12345678'));
        return true;
      },
    );
  }
});
