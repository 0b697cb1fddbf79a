import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { constants, type createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { preAuthEncoding } from '../../../src/core/dsse.ts';
import { LonglineError, type Reason } from '../../../src/core/errors.ts';
import {
  ARTIFACT_PAYLOAD_TYPE,
  type ArtifactKey,
  generateArtifactKey,
  publicHalf,
  readPublicKey,
  readSigningKey,
  signMetadata,
} from '../../../src/core/programs/artifact-key.ts';
import {
  ARTIFACT_ALGORITHMS,
  type ArtifactSignature,
  readSignatures,
  writeSignatures,
} from '../../../src/core/programs/signatures.ts';
import { type VerificationRequest, verifyArtifact } from '../../../src/core/programs/verification.ts';
import { formatKeyFile, formatPublicKeyFile } from '../../../src/core/signing/key-file.ts';
import { ed25519KeyId, generateSigningKey } from '../../../src/core/signing/signing-key.ts';
import { pemOf } from '../../fixtures/pem.ts';

const metadataBytes = new TextEncoder().encode('{"name":"drop"}');
const encoded = preAuthEncoding(ARTIFACT_PAYLOAD_TYPE, metadataBytes);
const NOW = Date.parse('2026-06-01T00:00:00Z');
const folder = mkdtempSync(join(tmpdir(), 'verification-'));
after(() => rmSync(folder, { recursive: true }));

const pairs = ARTIFACT_ALGORITHMS.map((algorithm) => {
  const { privatePem, publicPem } = generateArtifactKey(algorithm);
  const signing = readSigningKey(privatePem);
  const signature = { keyId: signing.keyId, algorithm, signature: signMetadata(signing, metadataBytes) };
  return { algorithm, privatePem, publicPem, signing, key: publicHalf(signing), signature };
});
const [ed25519, ecdsa, rsa] = pairs as [(typeof pairs)[number], (typeof pairs)[number], (typeof pairs)[number]];

const verify = (more: Partial<VerificationRequest>) =>
  verifyArtifact({
    metadataBytes,
    signatures: [],
    expiresAtMs: undefined,
    keys: pairs.map(({ key }) => key),
    nowMs: NOW,
    allowUnsigned: false,
    ...more,
  });

function refused(more: Partial<VerificationRequest>, reason: Reason, message: RegExp): void {
  assert.throws(
    () => verify(more),
    (error: unknown) => {
      assert.ok(error instanceof LonglineError, String(error));
      assert.equal(error.reason, reason, error.message);
      assert.match(error.message, message);
      return true;
    },
  );
}

describe('signatures of artifacts', () => {
  for (const { algorithm, publicPem, signing, signature } of pairs) {
    it(`hold with ${algorithm}, by keys read from PEM`, () => {
      const key = readPublicKey(publicPem);
      assert.equal(key.keyId, signing.keyId);
      assert.ok(key.keyId.startsWith(`${algorithm}-`));
      assert.deepEqual(verify({ signatures: [signature], keys: [key] }).signers, [key.keyId]);
    });

    it(`do not hold with ${algorithm} once a bit differs`, () => {
      const bits = fc.nat({ max: signature.signature.length * 8 - 1 });
      fc.assert(
        fc.property(bits, (bit) => {
          const changed = Uint8Array.from(signature.signature);
          changed[bit >> 3]! ^= 1 << (bit & 7);
          refused(
            { signatures: [{ ...signature, signature: changed }] },
            'identity',
            /is wrong: the metadata was changed/,
          );
        }),
        { numRuns: 40 },
      );
      refused(
        { signatures: [signature], metadataBytes: new TextEncoder().encode('{"name":"dRop"}') },
        'identity',
        /wrong/,
      );
      refused({ signatures: [{ ...signature, signature: new Uint8Array() }] }, 'identity', /is wrong/);
    });
  }

  it('hold as openssl makes them', () => {
    const path = (name: string) => join(folder, name);
    writeFileSync(path('payload'), encoded);
    for (const { privatePem, key, signature, algorithm } of [ecdsa, rsa]) {
      writeFileSync(path('key.pem'), privatePem, { mode: 0o600 });
      const padding = ['-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:32'];
      const options = algorithm === 'rsa-pss' ? padding : [];
      execFileSync('openssl', [
        'dgst',
        '-sha256',
        '-sign',
        path('key.pem'),
        ...options,
        '-out',
        path('sig'),
        path('payload'),
      ]);
      const made = { ...signature, signature: new Uint8Array(readFileSync(path('sig'))) };
      assert.deepEqual(verify({ signatures: [made] }).signers, [key.keyId]);
    }
    writeFileSync(path('key.pem'), ed25519.privatePem, { mode: 0o600 });
    execFileSync('openssl', [
      'pkeyutl',
      '-sign',
      '-rawin',
      '-inkey',
      path('key.pem'),
      '-in',
      path('payload'),
      '-out',
      path('sig'),
    ]);
    const made = { ...ed25519.signature, signature: new Uint8Array(readFileSync(path('sig'))) };
    assert.deepEqual(verify({ signatures: [made] }).signers, [ed25519.key.keyId]);
  });

  it('hold with r and s of ECDSA as they are, and with no other salt or padding of RSA', () => {
    const raw = sign('sha256', encoded, { key: ecdsa.signing.privateKey, dsaEncoding: 'ieee-p1363' });
    assert.equal(raw.length, 64);
    assert.deepEqual(verify({ signatures: [{ ...ecdsa.signature, signature: raw }] }).signers, [ecdsa.key.keyId]);
    const salted = sign('sha256', encoded, {
      key: rsa.signing.privateKey,
      padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength: 20,
    });
    refused({ signatures: [{ ...rsa.signature, signature: salted }] }, 'identity', /is wrong/);
    const older = sign('sha256', encoded, rsa.signing.privateKey);
    refused({ signatures: [{ ...rsa.signature, signature: older }] }, 'identity', /is wrong/);
  });

  it('are told of by key: unknown, of another kind, expired', () => {
    const stranger = { ...ed25519.signature, keyId: 'stranger' };
    refused({ signatures: [stranger] }, 'identity', /key "stranger" is not known here/);
    refused({ signatures: [ed25519.signature], keys: [] }, 'identity', /is not known here/);
    refused(
      { signatures: [{ ...ed25519.signature, algorithm: 'rsa-pss' }] },
      'identity',
      /of ed25519, and the signature claims rsa-pss/,
    );
    const ended = { ...ed25519.key, expiresAtMs: NOW };
    refused({ signatures: [ed25519.signature], keys: [ended] }, 'identity', /expired at 2026-06-01T00:00:00\.000Z/);
    refused(
      { signatures: [stranger, { ...rsa.signature, keyId: ecdsa.key.keyId }] },
      'identity',
      /stranger.*; .*claims rsa-pss/,
    );
    // Of several keys by one name the right one is found.
    const namesake = {
      ...publicHalf(readSigningKey(generateArtifactKey('ed25519').privatePem)),
      keyId: ed25519.key.keyId,
    };
    assert.equal(verify({ signatures: [ed25519.signature], keys: [namesake, ed25519.key] }).signers.length, 1);
  });

  it('count if one of them is good, and until the first end of what they rest on', () => {
    const key = { ...ed25519.key, expiresAtMs: NOW + 5000 };
    const found = verify({
      signatures: [{ ...rsa.signature, keyId: 'stranger' }, ed25519.signature, ecdsa.signature],
      keys: [key, ecdsa.key],
      expiresAtMs: NOW + 9000,
    });
    assert.deepEqual(found.signers, [ecdsa.key.keyId, key.keyId].sort());
    assert.equal(found.holdsUntilMs, NOW + 5000);
    assert.equal(verify({ signatures: [ecdsa.signature] }).holdsUntilMs, undefined);
  });

  it('are missed unless the host allows it, and never pass for none', () => {
    refused({}, 'policy', /is not signed, and this host takes none/);
    assert.deepEqual(verify({ allowUnsigned: true }).signers, []);
    refused(
      { allowUnsigned: true, signatures: [{ ...ed25519.signature, keyId: 'stranger' }] },
      'identity',
      /not known/,
    );
    refused({ allowUnsigned: true, expiresAtMs: NOW }, 'policy', /the artifact expired at 2026-06-01/);
    refused({ signatures: [ed25519.signature], expiresAtMs: NOW - 1 }, 'policy', /it has to be signed anew/);
  });
});

describe('signatures.json', () => {
  const write = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

  it('is written in one form and read back', () => {
    const signatures = pairs.map(({ signature }) => signature);
    const text = writeSignatures(signatures);
    assert.deepEqual(writeSignatures([...signatures].reverse()), text);
    const byId = (one: ArtifactSignature, other: ArtifactSignature) => (one.keyId < other.keyId ? -1 : 1);
    assert.deepEqual(readSignatures(text), [...signatures].sort(byId));
  });

  it('is refused with what is wrong', () => {
    const good = { keyId: 'a', algorithm: 'ed25519', signature: 'AAAA' };
    const bad = (value: unknown, message: RegExp) => assert.throws(() => readSignatures(write(value)), message);
    bad({}, /must be a list/);
    bad(
      Array.from({ length: 9 }, (_, place) => ({ ...good, keyId: `k${place}` })),
      /has 9 signatures; at most 8/,
    );
    bad([good, good], /signatures\[1\]\.keyId: "a" is there twice/);
    bad([{ ...good, keyId: 'a b' }], /signatures\[0\]\.keyId: must be 1 to 128/);
    bad([{ ...good, algorithm: 'hmac' }], /must be one of ed25519, ecdsa-p256, rsa-pss/);
    bad([{ ...good, signature: 'A' }], /must be base64/);
    bad([{ ...good, signature: '' }], /must be base64 of 1 to/);
    bad([{ ...good, signature: 'A'.repeat(4000) }], /must be base64 of 1 to 1024/);
    bad([{ ...good, also: 1 }], /signatures\[0\]\.also: unknown/);
    bad([null], /keyId: must be/);
    assert.throws(() => readSignatures(Buffer.from('ff', 'hex')), /is no JSON/);
  });
});

describe('keys of artifacts', () => {
  it('are read from what there is', () => {
    const own = generateSigningKey('ed25519', 'ops-2026');
    const text = formatPublicKeyFile({ keyId: own.keyId, publicKey: own.publicKey! });
    assert.equal(readPublicKey(text).keyId, 'ops-2026');
    const base64 = Buffer.from(own.publicKey!).toString('base64');
    const raw = readPublicKey(`${base64}\n`);
    assert.equal(raw.algorithm, 'ed25519');
    assert.equal(raw.keyId, ed25519KeyId(own.publicKey!));
    assert.deepEqual(raw.publicKey, readPublicKey(text).publicKey);
    assert.equal(readPublicKey(base64, 'named').keyId, 'named');
    const signing = readSigningKey(formatKeyFile(own));
    assert.equal(signing.keyId, 'ops-2026');
    const signature = {
      keyId: signing.keyId,
      algorithm: signing.algorithm,
      signature: signMetadata(signing, metadataBytes),
    };
    assert.deepEqual(verify({ signatures: [signature], keys: [readPublicKey(text)] }).signers, ['ops-2026']);
  });

  it('are refused if they are of another kind, too weak, private, or no keys', () => {
    const pem = (key: ReturnType<typeof createPublicKey>) => String(key.export({ type: 'spki', format: 'pem' }));
    const bad = (text: string, message: RegExp, read: (text: string) => unknown = readPublicKey) =>
      assert.throws(
        () => read(text),
        (error: unknown) => error instanceof LonglineError && error.reason === 'invalid' && message.test(error.message),
      );
    bad(pem(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey), /1024 bits; must be RSA keys of 2048/);
    bad(pem(generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey), /of type ec secp384r1/);
    bad(pem(generateKeyPairSync('x25519').publicKey), /of type x25519/);
    bad(ed25519.privatePem, /it is a private key/);
    bad(formatKeyFile(generateSigningKey('ed25519')), /private key file/);
    bad(Buffer.alloc(32).toString('base64'), /small order/);
    bad(Buffer.alloc(31, 7).toString('base64'), /has 31 bytes; an Ed25519 public key has 32/);
    bad('-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----', /can't be read/);
    bad('', /type: missing/);
    bad(pemOf('PRIVATE KEY', Buffer.from('secret')), /can't be read; must be a private key in PEM/, readSigningKey);
    bad(formatKeyFile(generateSigningKey('hmac-sha256')), /no private Ed25519 key/, readSigningKey);
    bad(ed25519.publicPem, /can't be read|no private/, readSigningKey);
  });
});

describe('changed artifacts', () => {
  it('never pass, whatever is changed in metadata or signatures', () => {
    const keys: readonly ArtifactKey[] = pairs.map(({ key }) => key);
    const signatures = pairs.map(({ signature }) => signature);
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = Uint8Array.from(metadataBytes);
        changed[at % changed.length]! ^= change;
        refused({ metadataBytes: changed, signatures, keys }, 'identity', /is wrong/);
      }),
      { numRuns: 50 },
    );
  });
});
