import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ArtifactIntake } from '../../../src/controller/programs/artifact-intake.ts';
import type { ArtifactRecord, PutArtifactOutcome } from '../../../src/controller/store/artifact.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { artifactOf } from '../services/program-fixture.ts';

const is = (reason: string) => (error: unknown) => error instanceof LonglineError && error.reason === reason;

function intakeWith(put: (artifact: ArtifactRecord, bytes: Uint8Array) => Promise<PutArtifactOutcome>) {
  return new ArtifactIntake({ store: { artifacts: { put } }, clock: systemClock, mostBytes: 5 });
}

describe('taking artifacts in', () => {
  it('puts pieces of any size together in order', async () => {
    const { bytes } = await artifactOf({}, 150_000);
    const intake = intakeWith(async (artifact, stored) => {
      assert.equal(Buffer.compare(stored, bytes), 0);
      return { kind: 'stored', artifact };
    });
    for (const size of [1, 777, 65_536, 200_000]) {
      using upload = intake.begin();
      for (let at = 0; at < bytes.length; at += size) upload.take(bytes.subarray(at, at + size));
      assert.equal((await upload.finish()).created, true, `pieces of ${size}`);
    }
  });

  it('ends as soon as there is too much, and gives its room back once', () => {
    const intake = intakeWith(async () => assert.fail('nothing is stored'));
    const uploads = Array.from({ length: 4 }, () => intake.begin());
    assert.throws(() => intake.begin(), is('limit'));
    const [first] = uploads;
    for (let at = 0; at < 16; at++) first!.take(new Uint8Array(1024 * 1024));
    assert.throws(() => first!.take(new Uint8Array(1)), is('limit'));
    first![Symbol.dispose]();
    first![Symbol.dispose]();
    using _ = intake.begin();
    assert.throws(() => intake.begin(), is('limit'), 'one place was given back, not two');
    for (const upload of uploads) upload[Symbol.dispose]();
  });

  it('fails as the store does, and goes on with the next', async () => {
    const { bytes } = await artifactOf();
    const full = new LonglineError('unavailable', 'database x has no room: the disk is full');
    const answers = [
      async () => assert.fail(full),
      async () => ({ kind: 'full' as const, bytes: 3 }),
      async (artifact: ArtifactRecord) => ({ kind: 'stored' as const, artifact }),
    ];
    const intake = intakeWith(async (artifact) => await answers.shift()!(artifact));
    const once = async () => {
      using upload = intake.begin();
      upload.take(bytes);
      return await upload.finish();
    };
    const outcomes = await Promise.allSettled([once(), once(), once()]);
    assert.deepEqual(
      outcomes.map((one) => (one.status === 'rejected' ? one.reason.reason : one.value.created)),
      ['unavailable', 'limit', true],
    );
  });
});
