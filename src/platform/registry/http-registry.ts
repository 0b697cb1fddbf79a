// A registry of programs over HTTP: says which programs this host is to have, and gives their artifacts. It knows no program and loads
// nothing. A registry that is down, slow, or says what makes no sense is `unavailable` or `late`, and what it said before stands; one
// that lies about an artifact is found out by whoever checks the digest. Every wait and every body is bounded.
import { hash } from 'node:crypto';
import type { RefusedListing, Registry, RegistryAnswer } from '../../capabilities/programs/ports.ts';
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import type { ArtifactPiece, ArtifactSource } from '../../core/programs/artifact-source.ts';
import { aegisfluxDialect } from './aegisflux-dialect.ts';
import { nameIn, type ProgramList, type RegistryDialect } from './dialect.ts';
import { download } from './download.ts';
import { HttpClient, type HttpLimits, place, type RegistryAccess } from './http-client.ts';
import { longlineDialect } from './longline-dialect.ts';
import { refusalOf } from './refusal.ts';

/** Kinds of registries. */
export type DialectName = 'longline' | 'aegisflux';

/** What a registry is reached and understood by. */
export interface HttpRegistryOptions {
  readonly dialect: DialectName;
  readonly hostId: string;
  /** Asked before every request, so that renewed credentials take effect. */
  readonly access: () => Promise<RegistryAccess>;
  /** longline.v1.ProgramSpec from ProtoJSON, serialised. Throws `invalid` naming what is wrong. */
  readonly encode: (spec: unknown) => Uint8Array;
  readonly limits?: Partial<HttpLimits & { readonly maxListBytes: number; readonly downloadMs: number }>;
}

const LIMITS = {
  answerMs: 15_000,
  stallMs: 30_000,
  maxRedirects: 5,
  maxListBytes: 4 * 1024 * 1024,
  /** One download, with all its resumptions. */
  downloadMs: 15 * 60_000,
};
const DIALECTS: Readonly<Record<DialectName, RegistryDialect>> = {
  longline: longlineDialect,
  aegisflux: aegisfluxDialect,
};
const LONGEST_ETAG = 256;

/** One per agent; dispose it to close its connections. */
export class HttpRegistry implements Registry, ArtifactSource, Disposable {
  readonly #options: HttpRegistryOptions;
  readonly #limits: typeof LIMITS;
  readonly #dialect: RegistryDialect;
  readonly #client: HttpClient;
  /** Of the list that was understood last. */
  #etag: string | undefined;
  #listDigest: string | undefined;
  #paths: ReadonlyMap<string, string> = new Map();

  constructor(options: HttpRegistryOptions) {
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
    this.#dialect = DIALECTS[options.dialect];
    this.#client = new HttpClient(this.#limits);
  }

  async poll(signal: AbortSignal): Promise<RegistryAnswer> {
    try {
      const access = await this.#options.access();
      await this.#checkHealth(access, signal);
      const list = await this.#list(access, signal, true);
      return list === undefined ? { kind: 'unchanged' } : this.#encoded(list);
    } catch (error) {
      signal.throwIfAborted();
      throw asPollError(toLonglineError(error));
    }
  }

  async *read(digest: string, offset: number, signal: AbortSignal): AsyncGenerator<ArtifactPiece> {
    const path = await this.#pathOf(digest, signal);
    const get = async (headers: Readonly<Record<string, string>>, stop: AbortSignal) =>
      await this.#client.get(await this.#options.access(), path, headers, stop);
    yield* download({ get, limitMs: this.#limits.downloadMs }, digest, offset, signal);
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }

  async #checkHealth(access: RegistryAccess, signal: AbortSignal): Promise<void> {
    const answer = await this.#client.get(access, this.#dialect.healthPath, {}, signal);
    if (answer.status !== 200) throw refusalOf(answer, 'is not healthy');
    // Read, so that the connection serves the next request too.
    await this.#body(answer.body(), answer.url);
  }

  /** Undefined if only a changed one is asked for, and it is the same as last time. */
  async #list(access: RegistryAccess, signal: AbortSignal, changed: boolean): Promise<ProgramList | undefined> {
    const etag = changed ? this.#etag : undefined;
    const path = this.#dialect.listPath(this.#options.hostId);
    const headers = { accept: 'application/json', ...(etag === undefined ? {} : { 'if-none-match': etag }) };
    const answer = await this.#client.get(access, path, headers, signal);
    if (answer.status === 304 && etag !== undefined) {
      answer.drop();
      return undefined;
    }
    if (answer.status !== 200) throw refusalOf(answer, 'gives no list of programs');
    const bytes = await this.#body(answer.body(), answer.url);
    const digest = hash('sha256', bytes);
    const list = digest === this.#listDigest && changed ? undefined : this.#dialect.readList(parse(bytes, answer.url));
    const given = answer.header('etag');
    this.#etag = given !== undefined && given.length <= LONGEST_ETAG ? given : undefined;
    this.#listDigest = digest;
    if (list !== undefined) this.#paths = list.paths;
    return list;
  }

  async #body(pieces: AsyncIterable<Uint8Array>, url: URL): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const piece of pieces) {
      size += piece.length;
      if (size > this.#limits.maxListBytes) {
        throw new LonglineError('unavailable', `${place(url)} sends more than ${this.#limits.maxListBytes} bytes`);
      }
      parts.push(piece);
    }
    return Buffer.concat(parts);
  }

  #encoded({ programs, refused }: ProgramList): RegistryAnswer {
    const wrong: RefusedListing[] = [...refused];
    const specs = programs.flatMap(({ item, spec }) => {
      try {
        return [this.#options.encode(spec)];
      } catch (error) {
        wrong.push({ item, program: nameIn(spec), error: toLonglineError(error) });
        return [];
      }
    });
    return { kind: 'programs', specs, refused: wrong };
  }

  /** After a restart an artifact may be wanted before the registry was polled. */
  async #pathOf(digest: string, signal: AbortSignal): Promise<string> {
    const known = () => this.#dialect.artifactPath(digest) ?? this.#paths.get(digest);
    const path = known();
    if (path !== undefined) return path;
    const list = await this.#list(await this.#options.access(), signal, false);
    // What it said has not been told to anybody: the next poll must not take it for known.
    this.#etag = undefined;
    this.#listDigest = undefined;
    const found = known();
    if (list !== undefined && found !== undefined) return found;
    throw new LonglineError('not_found', `the registry lists no artifact ${digest} for host ${this.#options.hostId}`);
  }
}

function parse(bytes: Buffer, url: URL): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new LonglineError('unavailable', `${place(url)} sent ${bytes.length} bytes that are no JSON`);
  }
}

/** Whatever it was, what the registry said before stands. */
function asPollError(failure: LonglineError): LonglineError {
  if (failure.reason === 'unavailable' || failure.reason === 'late' || failure.reason === 'internal') return failure;
  const { retryAfterMs } = failure;
  return new LonglineError('unavailable', failure.message, {
    cause: failure,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}
