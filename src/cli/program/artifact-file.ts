// An artifact.tar.zst on disk, taken apart for people: read with the limits of an agent, since it may come from anywhere.
import { type FileHandle, open } from 'node:fs/promises';
import { fromJson } from '@bufbuild/protobuf';
import { type ProgramMetadata, ProgramMetadataSchema } from '#gen/longline/v1/program_pb.js';
import { LonglineError } from '../../core/errors.ts';
import { ARTIFACT_LIMITS, checkObject, type OpenArtifact, openArtifact } from '../../core/programs/artifact.ts';
import type { ArtifactMetadata } from '../../core/programs/metadata.ts';
import { readMetadata } from '../../core/programs/metadata-message.ts';

/** An artifact whose metadata makes sense and whose object is the one that it tells of. Signatures are not looked at. */
export interface ArtifactFile {
  readonly path: string;
  readonly size: number;
  readonly artifact: OpenArtifact;
  readonly message: ProgramMetadata;
  readonly metadata: ArtifactMetadata;
}

/** Reads one. Throws `not_found`, `limit`, or `invalid` with everything that is wrong, by path. */
export async function readArtifactFile(path: string): Promise<ArtifactFile> {
  const bytes = await readLimited(path, ARTIFACT_LIMITS.compressedBytes);
  try {
    const artifact = await openArtifact(bytes);
    const message = parseMetadata(artifact.metadataBytes);
    const metadata = readMetadata(message);
    checkObject(metadata, artifact.object);
    return { path, size: bytes.length, artifact, message, metadata };
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    const { reason, violations, retryable } = error;
    throw new LonglineError(reason, `${path}: ${error.message}`, { violations, retryable, cause: error });
  }
}

/** A file with at most so many bytes. */
export async function readLimited(path: string, mostBytes: number): Promise<Buffer> {
  await using file = await opened(path);
  const facts = await file.stat();
  if (!facts.isFile()) throw new LonglineError('invalid', `${path} is no file`);
  if (facts.size > mostBytes) {
    throw new LonglineError('limit', `${path} has ${facts.size} bytes; at most ${mostBytes}`, { retryable: false });
  }
  return await file.readFile();
}

async function opened(path: string): Promise<FileHandle> {
  return await open(path).catch((error: NodeJS.ErrnoException) => {
    const missing = error.code === 'ENOENT';
    const why = missing ? 'there is no such file' : error.message;
    throw new LonglineError(missing ? 'not_found' : 'invalid', `${path} can't be read: ${why}`, { cause: error });
  });
}

/** Fields that this version doesn't know are refused: one of them could be a limit. */
function parseMetadata(bytes: Uint8Array): ProgramMetadata {
  try {
    return fromJson(ProgramMetadataSchema, JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (error) {
    throw new LonglineError('invalid', `metadata.json: ${(error as Error).message}`, { cause: error });
  }
}
