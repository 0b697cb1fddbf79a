// Sees to it that an image is there: one pull for any number of waiters, tried again where that may help, and given up
// when the last waiter leaves.
import { Backoff } from '../backoff.ts';
import type { Clock } from '../clock.ts';
import { LonglineError, toLonglineError } from '../errors.ts';
import type { CredentialSource, ImageFacts, ImageSource, PullProgress } from './image.ts';

/** How images are fetched. */
export interface PullSettings {
  /** Tries, the first included, for faults that may pass. */
  readonly attempts: number;
  readonly backoffBaseMs: number;
  readonly backoffCapMs: number;
  /** For all tries together. */
  readonly timeoutMs: number;
}

/** How far a pull is; `attempt` counts from 1. */
export interface PullReport extends PullProgress {
  readonly attempt: number;
}

/** A pull failed for good. Tells a registry that can't be reached from an engine that can't. */
export class PullFailed extends Error {
  override readonly name = 'PullFailed';
  readonly error: LonglineError;

  constructor(error: LonglineError) {
    super(error.message, { cause: error });
    this.error = error;
  }
}

type PullState =
  /** Bytes are fetched, or the next try is waited for; its waiters hear of it. */
  | { readonly kind: 'running' }
  /** The last waiter left: whoever comes now starts another. */
  | { readonly kind: 'given_up' };

class Pull {
  readonly controller = new AbortController();
  readonly listeners = new Set<(report: PullReport) => void>();
  state: PullState = { kind: 'running' };
  latest: PullReport = { attempt: 1, layersTotal: 0, layersDone: 0, bytesTotal: 0, bytesDone: 0 };
  done: Promise<void> = Promise.resolve();

  report(report: PullReport): void {
    this.latest = report;
    for (const listener of this.listeners) listener(report);
  }
}

/** What the puller works with. */
export interface PullerPorts {
  readonly engine: ImageSource;
  readonly credentials: CredentialSource;
  readonly clock: Clock;
  readonly settings: PullSettings;
  /** Hears what becomes of images, for whoever clears them away. */
  readonly ledger?: ImageLedger;
}

/** Keeps track of images that this agent brought. Neither call may wait or throw. */
export interface ImageLedger {
  /** The engine did not have this image before. */
  pulled(image: ImageFacts, reference: string): void;
  /** It is about to be used. */
  used(image: ImageFacts): void;
}

/** Fetches images. */
export class ImagePuller {
  readonly #ports: PullerPorts;
  readonly #pulls = new Map<string, Pull>();

  constructor(ports: PullerPorts) {
    this.#ports = ports;
  }

  /**
   * The image's facts, after a pull if the policy asks for one. Rejects with the signal's reason when it aborts (the pull
   * goes on while others wait), `not_found` if it may not be pulled, PullFailed with what the last try failed with.
   */
  async ensure(
    reference: string,
    policy: 'if_missing' | 'always' | 'never',
    report: (progress: PullReport) => void,
    signal: AbortSignal,
  ): Promise<ImageFacts> {
    const { engine } = this.#ports;
    if (policy !== 'always') {
      const found = await engine.findImage(reference, signal);
      if (found !== undefined) return this.#used(found);
      if (policy === 'never') {
        const message = `image ${JSON.stringify(reference)} is not on this host, and the pull policy is never`;
        throw new LonglineError('not_found', message);
      }
    }
    const { ledger } = this.#ports;
    const before = ledger && (await engine.findImage(reference, signal));
    await this.#join(reference, report, signal);
    const pulled = await engine.findImage(reference, signal);
    if (pulled !== undefined) {
      if (pulled.id !== before?.id) ledger?.pulled(pulled, reference);
      return this.#used(pulled);
    }
    throw new LonglineError(
      'not_found',
      `image ${JSON.stringify(reference)} was pulled, but the engine does not have it`,
    );
  }

  #used(image: ImageFacts): ImageFacts {
    this.#ports.ledger?.used(image);
    return image;
  }

  async #join(reference: string, report: (progress: PullReport) => void, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const pull = this.#pulls.get(reference) ?? this.#begin(reference);
    // A listener of its own, since one function may wait twice.
    const listener = (progress: PullReport) => report(progress);
    pull.listeners.add(listener);
    report(pull.latest);
    const { promise: left, reject: leave } = Promise.withResolvers<never>();
    const onAbort = () => leave(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([pull.done, left]);
    } catch (error) {
      throw signal.aborted ? signal.reason : new PullFailed(toLonglineError(error));
    } finally {
      signal.removeEventListener('abort', onAbort);
      pull.listeners.delete(listener);
      if (pull.listeners.size === 0) {
        pull.state = { kind: 'given_up' };
        if (this.#pulls.get(reference) === pull) this.#pulls.delete(reference);
        pull.controller.abort(new LonglineError('cancelled', 'nobody waits for this image any more'));
      }
    }
  }

  #begin(reference: string): Pull {
    const pull = new Pull();
    this.#pulls.set(reference, pull);
    pull.done = this.#fetch(reference, pull).finally(() => {
      if (this.#pulls.get(reference) === pull) this.#pulls.delete(reference);
    });
    // The waiters look at `done`; when all have left, nobody does.
    pull.done.catch(() => undefined);
    return pull;
  }

  async #fetch(reference: string, pull: Pull): Promise<void> {
    const { clock, settings } = this.#ports;
    const { signal } = pull.controller;
    const over = new AbortController();
    const overdue = clock.sleep(settings.timeoutMs, over.signal).then(
      () => pull.controller.abort(tooLong(reference, settings.timeoutMs)),
      () => undefined,
    );
    const backoff = new Backoff({ baseMs: settings.backoffBaseMs, capMs: settings.backoffCapMs });
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          return await this.#tryOnce(reference, pull, attempt);
        } catch (error) {
          if (signal.aborted) throw signal.reason;
          const passing = error instanceof LonglineError && error.reason === 'unavailable';
          if (!passing || attempt >= settings.attempts) throw error;
        }
        await clock.sleep(backoff.next(), signal);
      }
    } finally {
      over.abort();
      await overdue;
    }
  }

  async #tryOnce(reference: string, pull: Pull, attempt: number): Promise<void> {
    const { engine, credentials } = this.#ports;
    const { signal } = pull.controller;
    pull.report({ ...pull.latest, attempt });
    const account = await credentials.forImage(reference);
    for await (const progress of engine.pullImage(reference, account, signal)) pull.report({ ...progress, attempt });
    signal.throwIfAborted();
  }
}

function tooLong(reference: string, limitMs: number): LonglineError {
  return new LonglineError('late', `pulling ${JSON.stringify(reference)} took longer than ${limitMs / 1000} s`);
}
