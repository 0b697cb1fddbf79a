// The methods of ProgramService for artifacts: they are stored and read here, and judged by each agent.
import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import {
  type Artifact,
  ArtifactSchema,
  type ProgramService,
  type UploadArtifactRequest,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { ProgramMetadataSchema } from '#gen/longline/v1/program_pb.js';
import type { Clock } from '../../core/clock.ts';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { ARTIFACT_DIGEST, ARTIFACT_DIGEST_FORM } from '../../core/programs/program-spec.ts';
import { artifactBytes, checkedOffset, notStored } from '../programs/artifact-bytes.ts';
import type { ArtifactIntake } from '../programs/artifact-intake.ts';
import type { ArtifactRecord, ArtifactRepository } from '../store/artifact.ts';
import { programNameViolations } from './program-filter.ts';
import { pageQuery } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { shown } from './shape.ts';

const MAX_MESSAGE_BYTES = 1024 * 1024;

/** Longest silence of somebody who uploads. */
const STALL_MS = 60_000;

const PREFIX = /^(sha256:)?([0-9a-f]{8,64})$/;
const PREFIX_FORM = `${ARTIFACT_DIGEST_FORM}, or at least the first 8 of them`;

/** What the methods are made from. */
export interface ArtifactParts extends ServiceDependencies {
  readonly intake: ArtifactIntake;
}

type ArtifactMethods = Pick<
  ServiceImpl<typeof ProgramService>,
  'uploadArtifact' | 'downloadArtifact' | 'getArtifact' | 'listArtifacts' | 'deleteArtifact'
>;

/** An artifact. */
export function artifactView({ createdAtMs, digest, metadata, signers, size }: ArtifactRecord): Artifact {
  return create(ArtifactSchema, {
    digest,
    size: BigInt(size),
    metadata: fromBinary(ProgramMetadataSchema, metadata),
    signers: [...signers],
    createTime: timestampFromMs(createdAtMs),
  });
}

/** What is wrong with the digest of an artifact. */
export function digestViolations(digest: string, field: string): readonly FieldViolation[] {
  return ARTIFACT_DIGEST.test(digest)
    ? []
    : [{ field, description: `${shown(digest)} must be ${ARTIFACT_DIGEST_FORM}` }];
}

/** The one artifact with this digest, or whose digest begins so. Throws `not_found`, and `invalid` if there are several. */
export async function findArtifact(artifacts: ArtifactRepository, digest: string): Promise<ArtifactRecord> {
  const hex = PREFIX.exec(digest)?.[2];
  if (hex === undefined) {
    throw invalid([{ field: 'digest', description: `${shown(digest)} must be ${PREFIX_FORM}` }]);
  }
  const [found, other] = await artifacts.startingWith(`sha256:${hex}`, 2);
  if (found === undefined) throw notStored(`sha256:${hex}`);
  if (other === undefined) return found;
  const description = `${shown(digest)} is ambiguous: ${found.digest} and ${other.digest} both begin so; give more digits`;
  throw invalid([{ field: 'digest', description }]);
}

/** Forgets an artifact. Throws `wrong_state` while somebody wants it. */
async function deleteArtifact(artifacts: ArtifactRepository, digest: string): Promise<void> {
  const violations = digestViolations(digest, 'digest');
  if (violations.length > 0) throw invalid(violations);
  const outcome = await artifacts.delete(digest);
  if (outcome.kind === 'missing') throw notStored(digest);
  if (outcome.kind === 'wanted') {
    throw new LonglineError('wrong_state', `artifact ${digest} is wanted by ${outcome.by}; take that away first`);
  }
}

async function stored(artifacts: ArtifactRepository, digest: string): Promise<ArtifactRecord> {
  const violations = digestViolations(digest, 'digest');
  if (violations.length > 0) throw invalid(violations);
  const artifact = await artifacts.get(digest);
  if (artifact === undefined) throw notStored(digest);
  return artifact;
}

/** Artifacts over the store. */
export function artifactMethods({ clock, intake, store }: ArtifactParts): ArtifactMethods {
  const { artifacts } = store;
  return {
    async uploadArtifact(requests: AsyncIterable<UploadArtifactRequest>) {
      using upload = intake.begin();
      for await (const { data } of withoutStalls(requests, clock)) {
        if (data.length > MAX_MESSAGE_BYTES) {
          const description = `has ${data.length} bytes; at most ${MAX_MESSAGE_BYTES} a message`;
          throw invalid([{ field: 'data', description }]);
        }
        upload.take(data);
      }
      const { artifact, created } = await upload.finish();
      return { artifact: artifactView(artifact), created };
    },

    async *downloadArtifact({ digest, offset }) {
      const { size } = await stored(artifacts, digest);
      const from = checkedOffset(offset, size);
      for await (const data of artifactBytes(artifacts, digest, from, size)) yield { data };
    },

    async getArtifact({ digest }) {
      return { artifact: artifactView(await findArtifact(artifacts, digest)) };
    },

    async listArtifacts(request) {
      const { name } = request;
      const violations = name === '' ? [] : programNameViolations(name, 'name');
      if (violations.length > 0) throw invalid(violations);
      const page = await artifacts.list({ name, ...pageQuery(request) });
      return { artifacts: page.items.map(artifactView), nextPageToken: page.nextPageToken };
    },

    async deleteArtifact({ digest }) {
      await deleteArtifact(artifacts, digest);
      return {};
    },
  };
}

/** Messages as they come; throws `late` if none comes for too long. */
async function* withoutStalls<T>(messages: AsyncIterable<T>, clock: Clock): AsyncGenerator<T, void, undefined> {
  const iterator = messages[Symbol.asyncIterator]();
  for (;;) {
    const over = new AbortController();
    const late = clock.sleep(STALL_MS, over.signal).then(
      () => 'late' as const,
      () => 'late' as const,
    );
    const next = await Promise.race([iterator.next(), late]).finally(() => over.abort());
    if (next === 'late')
      throw new LonglineError('late', `no bytes came for ${STALL_MS / 1000} s; upload the artifact again`);
    if (next.done) return;
    yield next.value;
  }
}
