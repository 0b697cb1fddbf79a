import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ArtifactKey, ArtifactKeys } from '../../../src/capabilities/programs/ports.ts';
import { VerificationCache } from '../../../src/capabilities/programs/verification-cache.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import {
  generateArtifactKey,
  publicHalf,
  readSigningKey,
  signMetadata,
} from '../../../src/core/programs/artifact-key.ts';

const metadataBytes = new TextEncoder().encode('{}');
const signing = readSigningKey(generateArtifactKey('ed25519').privatePem);
const signature = {
  keyId: signing.keyId,
  algorithm: signing.algorithm,
  signature: signMetadata(signing, metadataBytes),
};
const signed = (digest: string) => ({ digest, metadataBytes, signatures: [signature] });
const { signal } = new AbortController();

class Keys implements ArtifactKeys {
  version = '1';
  asked = 0;
  given: readonly ArtifactKey[] | undefined = [publicHalf(signing)];

  keys(): Promise<readonly ArtifactKey[]> {
    this.asked++;
    if (this.given === undefined) return Promise.reject(new LonglineError('unavailable', 'no keys'));
    return Promise.resolve(this.given);
  }
}

const question = { expiresAtMs: undefined, nowMs: 1000, allowUnsigned: false };

describe('what was verified', () => {
  it('is not verified again while keys and policy are the same', async () => {
    const keys = new Keys();
    const cache = new VerificationCache(keys);
    for (let time = 0; time < 3; time++) {
      assert.deepEqual(await cache.verify({ ...question, artifact: signed('a') }, signal), [signing.keyId]);
    }
    assert.equal(keys.asked, 1);
    await cache.verify({ ...question, artifact: signed('b') }, signal);
    await cache.verify({ ...question, artifact: signed('a'), allowUnsigned: true }, signal);
    assert.equal(keys.asked, 3);
  });

  it('is judged anew once the keys are others', async () => {
    const keys = new Keys();
    const cache = new VerificationCache(keys);
    await cache.verify({ ...question, artifact: signed('a') }, signal);
    keys.given = [];
    keys.version = '2';
    await assert.rejects(cache.verify({ ...question, artifact: signed('a') }, signal), /is not known here/);
    keys.given = undefined;
    await assert.rejects(cache.verify({ ...question, artifact: signed('a') }, signal), { reason: 'unavailable' });
  });

  it('is judged anew once artifact or key have expired', async () => {
    const keys = new Keys();
    const cache = new VerificationCache(keys);
    const artifact = signed('a');
    await cache.verify({ ...question, artifact, expiresAtMs: 2000 }, signal);
    await cache.verify({ ...question, artifact, expiresAtMs: 2000, nowMs: 1999 }, signal);
    assert.equal(keys.asked, 1);
    const late = cache.verify({ ...question, artifact, expiresAtMs: 2000, nowMs: 2000 }, signal);
    await assert.rejects(late, { reason: 'policy' });
    keys.given = [{ ...publicHalf(signing), expiresAtMs: 3000 }];
    keys.version = '2';
    await cache.verify({ ...question, artifact, nowMs: 2999 }, signal);
    await assert.rejects(cache.verify({ ...question, artifact, nowMs: 3000 }, signal), /expired at 1970/);
  });

  it('is never a refusal, and needs no keys where nobody signed', async () => {
    const keys = new Keys();
    keys.given = undefined;
    const cache = new VerificationCache(keys);
    const artifact = { digest: 'a', metadataBytes, signatures: [] };
    await assert.rejects(cache.verify({ ...question, artifact }, signal), { reason: 'policy' });
    assert.deepEqual(await cache.verify({ ...question, artifact, allowUnsigned: true }, signal), []);
    await assert.rejects(cache.verify({ ...question, artifact }, signal), { reason: 'policy' });
    assert.equal(keys.asked, 0);
  });

  it('is forgotten once it is too much', async () => {
    const keys = new Keys();
    const cache = new VerificationCache(keys);
    for (let place = 0; place < 300; place++) await cache.verify({ ...question, artifact: signed(`${place}`) }, signal);
    assert.equal(keys.asked, 300);
    await cache.verify({ ...question, artifact: signed('299') }, signal);
    assert.equal(keys.asked, 300);
    await cache.verify({ ...question, artifact: signed('0') }, signal);
    assert.equal(keys.asked, 301);
  });
});
