// The engine's images: looking one up, and fetching one with progress.
import type { ImageFacts, PullProgress, RegistryCredentials } from '../../capabilities/jobs/ports.ts';
import { type EngineClient, RefusedError } from './engine-client.ts';
import { pullError } from './engine-errors.ts';
import { pullProgress, pullQuery, registryAuth, stallGuard } from './image-pull.ts';
import { matchingDigest, parseImageReference } from './image-reference.ts';
import { bodyOf, closing } from './response-body.ts';

interface RawImage {
  readonly Id: string;
  readonly Size: number;
  readonly RepoDigests?: readonly string[] | null;
  readonly Config?: { readonly Volumes?: Readonly<Record<string, unknown>> | null } | null;
}

/** As ContainerEngine promises for images. */
export class ImageStore {
  readonly #client: EngineClient;
  readonly #pullStallMs: number;

  constructor(client: EngineClient, pullStallMs: number) {
    this.#client = client;
    this.#pullStallMs = pullStallMs;
  }

  /** The image with this name, digest reference or id ("sha256:…"); undefined if the engine doesn't have it. */
  async find(reference: string, signal?: AbortSignal): Promise<ImageFacts | undefined> {
    const parsed = /^sha256:[0-9a-f]{64}$/.test(reference) ? undefined : parseImageReference(reference);
    const raw = await this.#client.found<RawImage>(
      `look for image ${reference}`,
      `/images/${encodeURIComponent(reference)}/json`,
      signal,
    );
    if (raw === undefined) return undefined;
    const id = raw.Id.startsWith('sha256:') ? raw.Id : `sha256:${raw.Id}`;
    const digest = parsed === undefined ? undefined : matchingDigest(parsed, raw.RepoDigests ?? []);
    const volumes = Object.keys(raw.Config?.Volumes ?? {});
    return { id, pinned: digest ?? id, sizeBytes: raw.Size, ...(volumes.length === 0 ? {} : { volumes }) };
  }

  /** Fetches an image; the last progress says that all of it is there. Leaving the iteration cancels the pull. */
  async *pull(
    reference: string,
    credentials: RegistryCredentials | undefined,
    signal?: AbortSignal,
  ): AsyncGenerator<PullProgress, void, undefined> {
    const parsed = parseImageReference(reference);
    const response = await this.#client
      .open(
        {
          method: 'POST',
          path: '/images/create',
          query: pullQuery(parsed),
          what: `pull image ${reference}`,
          limitMs: this.#pullStallMs,
          ...(credentials === undefined ? {} : { registryAuth: registryAuth(parsed, credentials) }),
        },
        signal,
      )
      .catch((error: unknown) => {
        throw error instanceof RefusedError ? pullError(reference, error.refusal.message) : error;
      });
    const chunks = stallGuard(reference, bodyOf(response), this.#pullStallMs);
    yield* closing(response, pullProgress(reference, chunks));
  }
}
