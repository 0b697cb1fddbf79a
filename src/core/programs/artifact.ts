// artifact.tar.zst: a BPF object, what it says of itself, and who signed that, in one file with one digest. Opening is for bytes
// from anywhere: it takes bounded memory whatever they claim, and fails as `invalid` or `limit` before anything of them is used.
// It trusts nothing: metadata-message.ts reads what is said, verification.ts says who said it.
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, type ZstdOptions, zstdCompress, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { LonglineError } from '../errors.ts';
import { MAX_ARTIFACT_BYTES } from './artifact-source.ts';
import type { ArtifactMetadata } from './metadata.ts';
import { MAX_OBJECT_BYTES } from './metadata-message.ts';
import { type ArtifactSignature, readSignatures, writeSignatures } from './signatures.ts';
import { readTar, writeTar } from './tar.ts';
import { checkSingleFrame } from './zstd-frame.ts';

/** What an artifact may take. */
export interface ArtifactLimits {
  /** Of artifact.tar.zst. */
  readonly compressedBytes: number;
  /** Of the archive in it. */
  readonly unpackedBytes: number;
}

/** What is taken unless something else is said. */
export const ARTIFACT_LIMITS: ArtifactLimits = {
  compressedBytes: MAX_ARTIFACT_BYTES,
  unpackedBytes: MAX_OBJECT_BYTES,
};

/** Files of an artifact, in the order in which they are packed. */
export const METADATA_FILE = 'metadata.json';
export const OBJECT_FILE = 'program.bpf.o';
export const SIGNATURES_FILE = 'signatures.json';

const FILES: ReadonlyMap<string, number> = new Map([
  [METADATA_FILE, 256 * 1024],
  [OBJECT_FILE, MAX_OBJECT_BYTES],
  [SIGNATURES_FILE, 64 * 1024],
]);

/** What is in an artifact. */
export interface ArtifactParts {
  /** Serialised longline.v1.ProgramMetadata in ProtoJSON, as it was signed. */
  readonly metadataBytes: Uint8Array;
  /** ELF object. */
  readonly object: Uint8Array;
  /** Empty for one that nobody signed. */
  readonly signatures: readonly ArtifactSignature[];
}

/** An artifact that was opened. */
export interface OpenArtifact extends ArtifactParts {
  /** "sha256:" and 64 hex digits of the whole file. */
  readonly digest: string;
}

/** Binary logarithm of the memory that the decoder may take before it has seen anything: 64 MiB. */
const MAX_WINDOW_LOG = 26;

/** Of an artifact that is unpacked at once, packed or not. */
const SMALL_BYTES = 256 * 1024;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Digest of artifact.tar.zst. */
export function artifactDigest(bytes: Uint8Array): string {
  return `sha256:${sha256(bytes)}`;
}

/** Takes an artifact apart. Throws `limit` for one that is too large, `invalid` for anything else that is wrong with it. */
export async function openArtifact(bytes: Uint8Array, limits: ArtifactLimits = ARTIFACT_LIMITS): Promise<OpenArtifact> {
  if (bytes.length > limits.compressedBytes) {
    throw tooLarge(`the artifact has ${bytes.length} bytes; at most ${limits.compressedBytes}`);
  }
  const files = readTar(await unpack(bytes, limits), { files: FILES });
  const signatures = files.get(SIGNATURES_FILE);
  return {
    digest: artifactDigest(bytes),
    metadataBytes: required(files, METADATA_FILE),
    object: required(files, OBJECT_FILE),
    signatures: signatures === undefined ? [] : readSignatures(signatures),
  };
}

/** Makes artifact.tar.zst. The same parts give the same bytes with the same version of zstd. */
export async function packArtifact({ metadataBytes, object, signatures }: ArtifactParts): Promise<Uint8Array> {
  const archive = writeTar([
    { name: METADATA_FILE, data: metadataBytes },
    { name: OBJECT_FILE, data: object },
    ...(signatures.length === 0 ? [] : [{ name: SIGNATURES_FILE, data: writeSignatures(signatures) }]),
  ]);
  return new Uint8Array(
    await compress(archive, {
      params: { [constants.ZSTD_c_compressionLevel]: 19, [constants.ZSTD_c_checksumFlag]: 1 },
      pledgedSrcSize: archive.length,
    }),
  );
}

/** Throws `invalid` unless this is the object that the metadata tells of. */
export function checkObject(metadata: ArtifactMetadata, object: Uint8Array): void {
  if (object.length !== metadata.objectSize) {
    throw wrongObject('object_size', `the object has ${object.length} bytes; the metadata says ${metadata.objectSize}`);
  }
  const digest = sha256(object);
  if (digest !== metadata.objectSha256) {
    throw wrongObject('object_sha256', `the object has ${digest}; the metadata says ${metadata.objectSha256}`);
  }
}

async function unpack(bytes: Uint8Array, limits: ArtifactLimits): Promise<Uint8Array> {
  checkSingleFrame(bytes);
  try {
    const params = { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG };
    const maxOutputLength = Math.min(SMALL_BYTES, limits.unpackedBytes);
    const small = bytes.length <= SMALL_BYTES ? unpackSmall(bytes, { maxOutputLength, params }) : undefined;
    return small ?? (await decompress(bytes, { maxOutputLength: limits.unpackedBytes, params }));
  } catch (error) {
    if (isTooLarge(error)) {
      throw tooLarge(`the artifact has more than ${limits.unpackedBytes} bytes when it is unpacked`);
    }
    const message = `the artifact can't be unpacked: ${(error as Error).message}`;
    throw new LonglineError('invalid', message, { cause: error });
  }
}

/** On the spot: the way to a thread and back takes longer than the work. Undefined for what is not small when it is unpacked. */
function unpackSmall(bytes: Uint8Array, options: ZstdOptions): Uint8Array | undefined {
  try {
    return zstdDecompressSync(bytes, options);
  } catch (error) {
    if (isTooLarge(error)) return undefined;
    throw error;
  }
}

function isTooLarge(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE';
}

function required(files: ReadonlyMap<string, Uint8Array>, name: string): Uint8Array {
  const data = files.get(name);
  if (data !== undefined && data.length > 0) return data;
  throw new LonglineError('invalid', `the artifact has ${data === undefined ? 'no' : 'an empty'} ${name}`);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function wrongObject(field: string, description: string): LonglineError {
  return new LonglineError('invalid', description, { violations: [{ field, description }] });
}

function tooLarge(message: string): LonglineError {
  return new LonglineError('limit', message, { retryable: false });
}
