// The keys that artifacts are checked with on this host: those of the settings, of files, and of Vault. Files are read anew each time,
// so that a key whose file is gone is gone; Vault answers for itself. A source that fails takes no key of the others away. It fails
// as `unavailable` if some source failed and none gave a key.
import type { ArtifactKey, ArtifactKeys } from '../../capabilities/programs/ports.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { keysVersion } from '../../core/programs/artifact-key.ts';
import { readInlineKeys, readKeyFiles } from './key-files.ts';

/** Where keys are. */
export interface HostKeyOptions {
  /** A key as text; undefined for none. */
  readonly inline: string | undefined;
  /** Files and folders. */
  readonly paths: readonly string[];
  /** Disposed with these. */
  readonly vault: (ArtifactKeys & Disposable) | undefined;
  /** Between two looks at all of them. */
  readonly refreshMs?: number;
  readonly clock: Clock;
  readonly log: Logger;
}

const REFRESH_MS = 60_000;

interface Found {
  readonly keys: readonly ArtifactKey[];
  readonly problems: readonly LonglineError[];
}

/** All keys of this host. Looks at its sources now and then until it is disposed, so that `version` tells of changes. */
export class HostKeys implements ArtifactKeys, AsyncDisposable {
  readonly #options: HostKeyOptions;
  readonly #stop = new AbortController();
  readonly #watching: Promise<void>;
  #version = '';
  #latest: Found = { keys: [], problems: [] };
  /** Looks that were begun, and the latest of them that came to its end. */
  #begun = 0;
  #ended = 0;
  /** What was told of already. */
  #told = '';

  constructor(options: HostKeyOptions) {
    this.#options = options;
    this.#watching = this.#watch();
  }

  get version(): string {
    return this.#version;
  }

  async keys(signal: AbortSignal): Promise<readonly ArtifactKey[]> {
    signal.throwIfAborted();
    const { inline, paths, vault } = this.#options;
    this.#begun += 1;
    const turn = this.#begun;
    const found = await Promise.all([
      ...(inline === undefined ? [] : [attempt(() => Promise.resolve(readInlineKeys(inline)))]),
      ...paths.map(readKeyFiles),
      ...(vault === undefined ? [] : [attempt(() => vault.keys(signal))]),
    ]);
    signal.throwIfAborted();
    const keys = found.flatMap((one) => one.keys);
    const problems = found.flatMap((one) => one.problems);
    // A look that began earlier and ended later saw what is no longer so: what goes is what `version` stands for.
    if (turn > this.#ended) {
      this.#ended = turn;
      this.#latest = { keys, problems };
      this.#version = keysVersion(keys);
      this.#tell(problems);
    }
    return orThrow(this.#latest);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new LonglineError('cancelled', 'keys are read no longer'));
    this.#options.vault?.[Symbol.dispose]();
    await this.#watching;
  }

  async #watch(): Promise<void> {
    const { clock, refreshMs = REFRESH_MS, log } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.keys(signal);
      } catch (error) {
        const { reason } = toLonglineError(error);
        if (reason !== 'unavailable' && !signal.aborted)
          log.error('keys of artifacts', { error: describeError(error) });
      }
      await clock.sleep(refreshMs, signal).catch(() => undefined);
    }
  }

  /** Once for the same troubles. */
  #tell(problems: readonly LonglineError[]): void {
    const told = problems.map(({ message }) => message).join('; ');
    if (told === this.#told) return;
    this.#told = told;
    for (const { message } of problems) this.#options.log.error('a source of keys is of no use', { error: message });
  }
}

function orThrow({ keys, problems }: Found): readonly ArtifactKey[] {
  if (keys.length > 0 || problems.length === 0) return keys;
  const reasons = problems.map(({ message }) => message).join('; ');
  throw new LonglineError('unavailable', `there is no key to check artifacts with: ${reasons}`);
}

async function attempt(read: () => Promise<readonly ArtifactKey[]>): Promise<Found> {
  try {
    return { keys: await read(), problems: [] };
  } catch (error) {
    return { keys: [], problems: [toLonglineError(error)] };
  }
}
