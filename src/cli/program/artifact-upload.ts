// Artifacts on their way to a controller. What is named is a file, or the digest of one that is there already.
import { type FileHandle, open } from 'node:fs/promises';
import { create } from '@bufbuild/protobuf';
import { type Artifact, UploadArtifactRequestSchema } from '#gen/longline/fleet/v1/program_service_pb.js';
import { LonglineError } from '../../core/errors.ts';
import type { Fleet } from '../fleet-connection.ts';

const PIECE_BYTES = 256 * 1024;
/** What a controller takes; a larger file is refused before it is sent. */
const MOST_BYTES = 16 * 1024 * 1024;
const DIGEST = /^(sha256:)?[0-9a-f]{8,64}$/;

/** An artifact that the controller has, and whether it was new to it. */
export interface StoredArtifact {
  readonly artifact: Artifact;
  readonly created: boolean;
}

/** The artifact that a digest, or a prefix of one, names; or a file, which is uploaded. */
export async function storedArtifact(fleet: Fleet, fileOrDigest: string): Promise<StoredArtifact> {
  if (DIGEST.test(fileOrDigest)) {
    const { artifact } = await fleet.programs.getArtifact({ digest: fileOrDigest });
    return { artifact: artifact!, created: false };
  }
  return await uploadArtifact(fleet, fileOrDigest);
}

/** Uploads a file. */
export async function uploadArtifact(fleet: Fleet, path: string): Promise<StoredArtifact> {
  // Opened before the call is made: what goes wrong while its messages are asked for is taken for the connection's fault.
  await using file = await opened(path);
  await fleet.bringUp();
  const { artifact, created } = await fleet.streams.programs.uploadArtifact(pieces(file));
  return { artifact: artifact!, created };
}

async function opened(path: string): Promise<FileHandle> {
  const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
    const message = `${path}: can't be read: ${cause.code === 'ENOENT' ? 'there is no such file' : cause.message}`;
    throw new LonglineError(cause.code === 'ENOENT' ? 'not_found' : 'invalid', message, { cause });
  });
  const facts = await file.stat();
  if (facts.isFile() && facts.size <= MOST_BYTES) return file;
  await file.close();
  if (!facts.isFile()) throw new LonglineError('invalid', `${path}: is no file; give an artifact.tar.zst`);
  throw new LonglineError('limit', `${path}: has ${facts.size} bytes; an artifact has at most ${MOST_BYTES}`);
}

async function* pieces(file: FileHandle) {
  for (;;) {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(PIECE_BYTES), 0, PIECE_BYTES);
    if (bytesRead === 0) return;
    yield create(UploadArtifactRequestSchema, { data: Uint8Array.from(buffer.subarray(0, bytesRead)) });
  }
}
