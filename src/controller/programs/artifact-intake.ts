// Takes artifacts in: collects the bytes of an upload within bounds, checks that they are an artifact, and stores them whole. It
// trusts no signature: that is for each agent. An upload that ends early leaves nothing behind. Fails as `invalid` for what is no
// artifact, and as `limit` for one that is too large, for too many uploads at once, and where all room is taken.
import { fromJson, toBinary } from '@bufbuild/protobuf';
import { ProgramMetadataSchema } from '#gen/longline/v1/program_pb.js';
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { ARTIFACT_LIMITS, checkObject, openArtifact } from '../../core/programs/artifact.ts';
import { readMetadata } from '../../core/programs/metadata-message.ts';
import type { ArtifactRecord, ArtifactRepository } from '../store/artifact.ts';

/** Uploads at once: each may hold a whole artifact in memory. */
const MAX_UPLOADS = 4;

/** When an upload that was refused may be tried again. */
const RETRY_MS = 1000;

/** Bytes of all artifacts together. */
const MAX_STORED_BYTES = 8 * 1024 ** 3;

/** What it is made from. */
export interface ArtifactIntakeParts {
  readonly store: { readonly artifacts: Pick<ArtifactRepository, 'put'> };
  readonly clock: Clock;
  /** Bytes of all artifacts together. */
  readonly mostBytes?: number;
}

/** What came of an upload. */
export interface Intake {
  readonly artifact: ArtifactRecord;
  /** False if it was there already. */
  readonly created: boolean;
}

/** Takes uploads, however they come. */
export class ArtifactIntake {
  readonly #parts: ArtifactIntakeParts;
  #uploads = 0;
  /** One is opened after another: that takes several times the memory of its bytes. */
  #opening: Promise<unknown> = Promise.resolve();

  constructor(parts: ArtifactIntakeParts) {
    this.#parts = parts;
  }

  /** Begins an upload. Dispose it, whatever comes of it. Throws `limit` if there are too many. */
  begin(): ArtifactUpload {
    if (this.#uploads >= MAX_UPLOADS) {
      const message = `${MAX_UPLOADS} artifacts are being uploaded already; try again soon`;
      throw new LonglineError('limit', message, { retryAfterMs: RETRY_MS });
    }
    this.#uploads += 1;
    let open = true;
    const end = (): void => {
      if (open) this.#uploads -= 1;
      open = false;
    };
    return new ArtifactUpload(async (bytes) => await this.#inTurn(bytes), end);
  }

  async #inTurn(bytes: Uint8Array): Promise<Intake> {
    const next = async (): Promise<Intake> => await this.#store(bytes);
    const stored = this.#opening.then(next, next);
    this.#opening = stored;
    return await stored;
  }

  async #store(bytes: Uint8Array): Promise<Intake> {
    const { store, clock, mostBytes = MAX_STORED_BYTES } = this.#parts;
    const read = await readArtifact(bytes);
    const outcome = await store.artifacts.put({ ...read, createdAtMs: clock.now() }, bytes, mostBytes);
    if (outcome.kind !== 'full') return { artifact: outcome.artifact, created: outcome.kind === 'stored' };
    const message = `the artifacts stored here have ${outcome.bytes} bytes, and ${bytes.length} more would be over ${mostBytes}; delete some first`;
    throw new LonglineError('limit', message, { retryable: false });
  }
}

/** One upload. */
export class ArtifactUpload implements Disposable {
  readonly #store: (bytes: Uint8Array) => Promise<Intake>;
  readonly #end: () => void;
  /** Grows by doubling: many small pieces take no more than their bytes. */
  #buffer: Uint8Array = new Uint8Array(64 * 1024);
  #size = 0;

  constructor(store: (bytes: Uint8Array) => Promise<Intake>, end: () => void) {
    this.#store = store;
    this.#end = end;
  }

  /** Takes bytes, in order. Throws `limit` as soon as there are too many. */
  take(bytes: Uint8Array): void {
    const size = this.#size + bytes.length;
    if (size > ARTIFACT_LIMITS.compressedBytes) throw tooLarge();
    if (size > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(size, Math.min(2 * this.#buffer.length, ARTIFACT_LIMITS.compressedBytes)));
      larger.set(this.#buffer.subarray(0, this.#size));
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.#size);
    this.#size = size;
  }

  /** Stores what was taken. */
  async finish(): Promise<Intake> {
    if (this.#size === 0) throw new LonglineError('invalid', 'no bytes came; send those of artifact.tar.zst');
    return await this.#store(this.#buffer.subarray(0, this.#size));
  }

  [Symbol.dispose](): void {
    this.#buffer = new Uint8Array();
    this.#end();
  }
}

/** Why an artifact isn't taken, whatever is in it. */
export function tooLarge(): LonglineError {
  const message = `the artifact has more than ${ARTIFACT_LIMITS.compressedBytes} bytes, which is the most that is taken`;
  return new LonglineError('limit', message, { retryable: false });
}

async function readArtifact(bytes: Uint8Array): Promise<Omit<ArtifactRecord, 'createdAtMs'>> {
  const { digest, metadataBytes, object, signatures } = await openArtifact(bytes);
  const message = readMessage(metadataBytes);
  const metadata = readMetadata(message);
  checkObject(metadata, object);
  return {
    digest,
    size: bytes.length,
    name: metadata.name,
    metadata: toBinary(ProgramMetadataSchema, message),
    signers: signatures.map(({ keyId }) => keyId),
  };
}

function readMessage(metadataBytes: Uint8Array) {
  try {
    // A field that this program doesn't know may change what those mean that it does.
    return fromJson(ProgramMetadataSchema, JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(metadataBytes)));
  } catch (error) {
    const message = `metadata.json is no longline.v1.ProgramMetadata in ProtoJSON: ${(error as Error).message}`;
    throw new LonglineError('invalid', message, { cause: error });
  }
}
