import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { HandlerContext } from '@connectrpc/connect';
import type { UploadArtifactRequest } from '#gen/longline/fleet/v1/program_service_pb.js';
import { ArtifactIntake } from '../../../src/controller/programs/artifact-intake.ts';
import { type ArtifactParts, artifactMethods } from '../../../src/controller/services/artifact-methods.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';

it('gives up an upload of which nothing more comes', async () => {
  const clock = fastClock(10_000);
  const store = { artifacts: { put: async () => assert.fail('nothing is stored') } };
  const intake = new ArtifactIntake({ store, clock });
  const methods = artifactMethods({ store, clock, intake } as unknown as ArtifactParts);
  const stuck = async function* () {
    yield { data: new Uint8Array(5) } as UploadArtifactRequest;
    await new Promise(() => undefined);
  };
  // More than may go on at once: each gives its place back.
  for (let round = 0; round < 6; round++) {
    await assert.rejects(
      async () => await methods.uploadArtifact(stuck(), {} as HandlerContext),
      (error: unknown) => error instanceof LonglineError && error.reason === 'late',
    );
  }
});
