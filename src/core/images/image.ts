// Images as capabilities that run containers see them: facts, progress of a pull, credentials, and where they come from.

/** An image the engine has. */
export interface ImageFacts {
  readonly id: string;
  /** "name@sha256:…" where the engine knows one; else the image id. */
  readonly pinned: string;
  readonly sizeBytes: number;
  /** Folders that the image declares as volumes; left out if there are none. */
  readonly volumes?: readonly string[];
}

/** Progress of a pull, all layers together. Totals grow while layers become known. */
export interface PullProgress {
  readonly layersTotal: number;
  readonly layersDone: number;
  readonly bytesTotal: number;
  readonly bytesDone: number;
}

/** Credentials of a registry. Never logged. */
export interface RegistryCredentials {
  readonly username: string;
  readonly password: string;
}

/** Registry credentials by registry host; undefined means anonymous. */
export interface CredentialSource {
  forImage(reference: string): Promise<RegistryCredentials | undefined>;
}

/** An engine's images. Errors are LonglineErrors, `unavailable` when engine or registry can't be reached. */
export interface ImageSource {
  /** The image with this name, digest reference or id; undefined if the engine doesn't have it. */
  findImage(reference: string, signal?: AbortSignal): Promise<ImageFacts | undefined>;
  /** Fetches an image. Leaving the iteration cancels the pull. */
  pullImage(
    reference: string,
    credentials: RegistryCredentials | undefined,
    signal?: AbortSignal,
  ): AsyncIterable<PullProgress>;
}
