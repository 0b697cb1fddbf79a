import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import fc from 'fast-check';
import { SignatureAlgorithm, type SignedPayload, SignedPayloadSchema } from '#gen/longline/v1/signature_pb.js';
import { type VerificationContext, verifyStatement } from '../../../src/agent/trust/statement-verification.ts';
import type { TrustEntry } from '../../../src/agent/trust/trust-file.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { signPayload } from '../../../src/core/signing/signature.ts';
import { generateSigningKey } from '../../../src/core/signing/signing-key.ts';
import { NOW_MS, nonce, signed, statementBytes, trustIn } from './statement-fixture.ts';

const key = generateSigningKey('ed25519', 'ops');
const secret = generateSigningKey('hmac-sha256', 'shared');
const stranger = generateSigningKey('ed25519', 'stranger');

function context(
  changes: Partial<VerificationContext> = {},
  entries: readonly TrustEntry[] = [trustIn(key), trustIn(secret)],
): VerificationContext {
  return {
    limits: { maxPayloadBytes: 1 << 20, maxLifetimeMs: 3_600_000, maxSkewMs: 60_000, allowedControllers: undefined },
    agent: { agentId: 'web-1', labels: { zone: 'eu' } },
    nowMs: NOW_MS,
    findKey: (keyId) => entries.find((entry) => entry.keyId === keyId),
    nonceSeen: () => false,
    ...changes,
  };
}

function refusal(payload: SignedPayload | undefined, where = context()): LonglineError {
  try {
    verifyStatement(payload, where);
  } catch (error) {
    assert.ok(error instanceof LonglineError, String(error));
    return error;
  }
  return assert.fail('it was believed');
}

function expectRefusal(
  payload: SignedPayload | undefined,
  reason: string,
  rule: string,
  message: RegExp,
  where = context(),
) {
  const error = refusal(payload, where);
  assert.deepEqual([error.reason, error.rule], [reason, rule], error.message);
  assert.match(error.message, message);
}

test('Ed25519 and HMAC statements are believed', () => {
  for (const one of [key, secret]) {
    const verified = verifyStatement(signed(statementBytes(), one), context());
    assert.equal(verified.signer?.keyId, one.keyId);
    assert.equal(verified.capability, 'jobs');
    assert.equal(verified.expiresAtMs, NOW_MS + 60_000);
  }
});

test('no bit of payload or signature can be flipped', () => {
  const payload = statementBytes();
  for (const one of [key, secret]) {
    const value = signPayload(one, 'application/vnd.longline.statement.v1+protobuf', payload);
    fc.assert(
      fc.property(fc.nat(payload.length - 1), fc.nat(value.length - 1), fc.nat(7), (at, signatureAt, bit) => {
        const flip = (bytes: Uint8Array, position: number) =>
          bytes.map((byte, index) => (index === position ? byte ^ (1 << bit) : byte));
        const edited = signed(payload, one);
        edited.payload = flip(payload, at);
        expectRefusal(edited, 'identity', 'statement.signatures', /signature by key .* is wrong/);
        const forged = signed(payload, one);
        forged.signatures[0]!.value = flip(value, signatureAt);
        expectRefusal(forged, 'identity', 'statement.signatures', /is wrong/);
      }),
      { numRuns: 80 },
    );
  }
});

test('what is signed as another type is no statement', () => {
  const payload = statementBytes();
  const other = signed(payload, key);
  other.payloadType = 'application/vnd.longline.audit-checkpoint.v1+json';
  expectRefusal(other, 'invalid', 'statement.type', /audit-checkpoint/);
  const bound = signed(payload, key);
  bound.signatures[0]!.value = signPayload(key, 'application/vnd.longline.audit-checkpoint.v1+json', payload);
  expectRefusal(bound, 'identity', 'statement.signatures', /is wrong/);
});

test('size and presence', () => {
  expectRefusal(undefined, 'invalid', 'statement', /no statement/);
  const large = create(SignedPayloadSchema, { payload: new Uint8Array((1 << 20) + 1) });
  expectRefusal(large, 'invalid', 'statement.size', /1048577 bytes; at most 1048576/);
});

test('keys: unknown ones are named, one trusted signature is enough, algorithms are not mixed up', () => {
  const payload = statementBytes();
  expectRefusal(signed(payload, stranger), 'identity', 'statement.signatures', /key "stranger" is not trusted here/);
  assert.equal(verifyStatement(signed(payload, stranger, key), context()).signer?.keyId, 'ops');
  // A public key is no secret: whoever claims HMAC must not get it used as one.
  const confused = signed(payload, key);
  confused.signatures[0]!.algorithm = SignatureAlgorithm.HMAC_SHA256;
  confused.signatures[0]!.value = signPayload({ ...secret, secret: key.publicKey! }, confused.payloadType, payload);
  expectRefusal(confused, 'identity', 'statement.signatures', /claims another algorithm/);
  const many = signed(payload, ...Array.from({ length: 9 }, () => key));
  expectRefusal(many, 'invalid', 'statement.signatures', /9 signatures; at most 8/);
});

test('garbage is verified before it is parsed', () => {
  const garbage = new Uint8Array([0xff, 0xff, 0xff]);
  expectRefusal(signed(garbage, stranger), 'identity', 'statement.signatures', /not trusted/);
  expectRefusal(signed(garbage, key), 'invalid', 'statement.form', /no longline.v1.Statement/);
});

test('what the entry of a key allows', () => {
  const payload = signed(statementBytes({}, { argv: ['id'], requiredScopes: ['deploy', 'db'] }), key);
  const under = (changes: Partial<TrustEntry>) => context({}, [trustIn(key, { scopes: ['deploy', 'db'], ...changes })]);
  assert.equal(verifyStatement(payload, under({})).signer?.keyId, 'ops');
  assert.equal(verifyStatement(payload, under({ controllers: ['*'] })).signer?.keyId, 'ops');
  const here = { matchLabels: { zone: 'eu' }, hasLabels: [], agentIds: [] };
  const elsewhere = { matchLabels: {}, hasLabels: ['gpu'], agentIds: [] };
  assert.equal(verifyStatement(payload, under({ selectors: [elsewhere, here] })).signer?.keyId, 'ops');
  expectRefusal(
    payload,
    'identity',
    'trust.ops.controllers',
    /may not speak for controller "main"; it may for: other/,
    under({ controllers: ['other'] }),
  );
  expectRefusal(payload, 'identity', 'trust.ops.selectors', /wants a label gpu/, under({ selectors: [elsewhere] }));
  expectRefusal(payload, 'identity', 'trust.ops.not_after', /trusted until/, under({ notAfterMs: NOW_MS }));
  expectRefusal(
    payload,
    'policy',
    'trust.ops.capabilities',
    /may not use jobs; it may use: programs/,
    under({ capabilities: ['programs'] }),
  );
  expectRefusal(payload, 'policy', 'trust.ops.scopes', /lacks the scopes "db"/, under({ scopes: ['deploy'] }));
});

test('rights of several keys do not add up', () => {
  const payload = signed(statementBytes({}, { argv: ['id'], requiredScopes: ['a', 'b'] }), key, secret);
  const halves = [trustIn(key, { scopes: ['a'] }), trustIn(secret, { scopes: ['b'] })];
  expectRefusal(payload, 'policy', 'trust.ops.scopes', /"b"/, context({}, halves));
  const second = [trustIn(key, { scopes: ['a'] }), trustIn(secret, { scopes: ['a', 'b'] })];
  assert.equal(verifyStatement(payload, context({}, second)).signer?.keyId, 'shared');
});

test('the agent takes commands of its controllers only', () => {
  const limits = { ...context().limits, allowedControllers: ['other'] };
  expectRefusal(
    signed(statementBytes(), key),
    'policy',
    'allowed_controllers',
    /"main" is not among those allowed: other/,
    context({ limits }),
  );
});

test('an id of a controller is bounded before a pattern is held against it', () => {
  const limits = { ...context().limits, allowedControllers: ['*-eu-*x'] };
  const at = context({ limits });
  const statement = (controllerId: string) => signed(statementBytes({ controllerId }));
  expectRefusal(statement('-eu-'.repeat(250_000)), 'invalid', 'statement.controller_id', /1000000 characters/, at);
  expectRefusal(statement('-eu-'.repeat(64)), 'policy', 'allowed_controllers', /not among those allowed/, at);
});

test('audience', () => {
  const audienceOf = (audience: object | undefined) => signed(statementBytes({ audience } as object), key);
  for (const audience of [{}, { agentIds: ['x', 'web-1'] }, { matchLabels: { zone: 'eu' } }, { hasLabels: ['zone'] }]) {
    assert.ok(verifyStatement(audienceOf(audience), context()).statement);
  }
  const rule = 'statement.audience';
  expectRefusal(audienceOf({ agentIds: ['x'] }), 'policy', rule, /names the agents x, and this is web-1/);
  expectRefusal(audienceOf({ matchLabels: { zone: 'us' } }), 'policy', rule, /zone=us, and this agent has zone=eu/);
  expectRefusal(audienceOf({ matchLabels: { toString: 'x' } }), 'policy', rule, /no label toString/);
  expectRefusal(audienceOf(undefined), 'invalid', rule, /names no audience/);
});

test('times', () => {
  const at = (issuedMs: number, expiresMs: number) =>
    signed(
      statementBytes({
        issueTime: timestampFromMs(NOW_MS + issuedMs),
        expireTime: timestampFromMs(NOW_MS + expiresMs),
      }),
      key,
    );
  assert.ok(verifyStatement(at(60_000, 70_000), context()));
  expectRefusal(at(60_001, 70_000), 'stale', 'statement.issue_time', /issued 1m in the future.*at most 1m is taken/);
  assert.ok(verifyStatement(at(-1000, 1), context()));
  expectRefusal(at(-1000, 0), 'late', 'statement.expire_time', /expired at 2026-01-02T03:04:05.000Z; it is/);
  assert.ok(verifyStatement(at(0, 3_600_000), context()));
  expectRefusal(at(0, 3_600_001), 'policy', 'signatures.max_lifetime', /at most 1h/);
  expectRefusal(at(20, 10), 'policy', 'signatures.max_lifetime', /must be more than 0/);
  const none = signed(statementBytes({ issueTime: undefined } as object), key);
  expectRefusal(none, 'invalid', 'statement.times', /lacks/);
  const absurd = signed(statementBytes({ expireTime: { seconds: 2n ** 62n, nanos: 0 } }), key);
  expectRefusal(absurd, 'invalid', 'statement.times', /years 0001 to 9999/);
});

test('nonces', () => {
  const of = (bytes: Uint8Array) => signed(statementBytes({ nonce: bytes }), key);
  for (const length of [0, 15, 65])
    expectRefusal(of(new Uint8Array(length)), 'invalid', 'statement.nonce', /must have 16 to 64/);
  const used = nonce();
  const seen = context({ nonceSeen: (bytes) => Buffer.from(bytes).equals(used) });
  expectRefusal(of(used), 'stale', 'statement.nonce', /replayed/, seen);
  assert.ok(verifyStatement(of(nonce()), seen));
});

test('unsigned statements pass identity but hold no scopes; a bad signature is never as good as none', () => {
  assert.equal(verifyStatement(signed(statementBytes()), context()).signer, undefined);
  const scoped = signed(statementBytes({}, { argv: ['id'], requiredScopes: ['a'] }));
  expectRefusal(scoped, 'identity', 'trust.scopes', /only a signing key can hold/);
  expectRefusal(signed(statementBytes(), stranger), 'identity', 'statement.signatures', /no trusted signature/);
});

test('an action that is not known is unsupported', () => {
  expectRefusal(signed(statementBytes({ action: {} }), key), 'unsupported', 'statement.action', /no action/);
});
