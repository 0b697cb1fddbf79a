// Gives an agent bytes of an artifact that is wanted of it, no faster than it reads. Fails with a status that says why, and ends when
// the agent leaves, or reads nothing for too long.
import { create } from '@bufbuild/protobuf';
import type { ServerWritableStream } from '@grpc/grpc-js';
import {
  type FetchArtifactRequest,
  type FetchArtifactResponse,
  FetchArtifactResponseSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import { ARTIFACT_DIGEST, ARTIFACT_DIGEST_FORM } from '../../core/programs/program-spec.ts';
import { drained } from '../front/drained.ts';
import { artifactBytes, checkedOffset, notStored } from '../programs/artifact-bytes.ts';
import { isWanted } from '../programs/wanted-artifacts.ts';
import type { LinkDependencies } from './link-options.ts';

/** A FetchArtifact call as grpc-js gives it. */
export type ArtifactCall = ServerWritableStream<FetchArtifactRequest, FetchArtifactResponse>;

/** Sends what was asked for. `signal` ends it early. */
export async function sendArtifact(
  { store, clock }: Pick<LinkDependencies, 'store' | 'clock'>,
  call: ArtifactCall,
  agentId: string,
  signal: AbortSignal,
): Promise<void> {
  const { digest, offset } = call.request;
  if (!ARTIFACT_DIGEST.test(digest)) {
    const description = `${JSON.stringify(digest.slice(0, 80))} must be ${ARTIFACT_DIGEST_FORM}`;
    throw invalid([{ field: 'digest', description }]);
  }
  // Before it is looked for: an agent must not learn what others have.
  if (!(await isWanted(store, agentId, digest))) {
    throw new LonglineError('policy', `no program that is wanted of agent ${agentId} has artifact ${digest}`);
  }
  const artifact = await store.artifacts.get(digest);
  if (artifact === undefined) throw notStored(digest);
  const size = BigInt(artifact.size);
  const from = checkedOffset(offset, artifact.size);
  if (from === artifact.size) call.write(create(FetchArtifactResponseSchema, { size }));
  for await (const data of artifactBytes(store.artifacts, digest, from, artifact.size)) {
    if (signal.aborted) throw new LonglineError('unavailable', 'the controller is leaving; fetch the rest later');
    if (call.cancelled || call.destroyed) return;
    if (!call.write(create(FetchArtifactResponseSchema, { size, data }))) await drained(call, clock, signal);
  }
}
