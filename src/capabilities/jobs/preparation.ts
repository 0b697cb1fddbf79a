// What a job needs before its container can be made: a place, an image, and its command safe on disk. All are kept when it
// has to launch again.
import { LonglineError, toLonglineError } from '../../core/errors.ts';
import { PullFailed } from '../../core/images/image-puller.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { traced } from '../../core/tracer.ts';
import type { JobStep, Verdict } from './events.ts';
import type { Place } from './job-queue.ts';
import type { ImageFacts } from './ports.ts';
import { EarlyEnd, LetGo, type RunControl } from './run-control.ts';
import type { JobServices } from './services.ts';
import type { JobSpec } from './spec.ts';
import { unstarted } from './verdict.ts';

/** Gets and holds a place and an image. Dispose it when the container has ended. */
export class Preparation implements Disposable {
  readonly #services: JobServices;
  readonly #control: RunControl;
  readonly #durable: Promise<void> | undefined;
  readonly #tell: (step: JobStep) => void;
  #place: Place | undefined;
  #image: ImageFacts | undefined;
  #queueMs = 0;

  /** @param durable as CommandContext.durable. */
  constructor(
    services: JobServices,
    control: RunControl,
    durable: Promise<void> | undefined,
    tell: (step: JobStep) => void,
  ) {
    this.#services = services;
    this.#control = control;
    this.#durable = durable;
    this.#tell = tell;
  }

  /** How long it waited for its place. */
  get queueMs(): number {
    return this.#queueMs;
  }

  get image(): ImageFacts | undefined {
    return this.#image;
  }

  /** Resolves once the command may take effect; rejects with an EarlyEnd if it never may. */
  async committed(): Promise<void> {
    try {
      await this.#durable;
    } catch (error) {
      throw early(error, (cause) => unstarted('rejected', 'rejected', cause));
    }
  }

  /** A place for a container that runs already, beyond the limit if need be. */
  takePlaceAnyway(): void {
    this.#place ??= this.#services.queue.takeAnyway();
  }

  /** Waits for a place. `known` jobs were accepted before and are not refused for a full line. */
  async place(known: boolean): Promise<void> {
    this.#control.early.throwIfAborted();
    const { queue, clock, tracer } = this.#services;
    this.#place ??= queue.tryTake();
    if (this.#place !== undefined) return;
    const sinceMs = clock.monotonic();
    try {
      const moved = (position: number) => this.#tell({ kind: 'queued', position });
      this.#place = await traced(tracer, SPAN.queue, {}, () => queue.take(moved, this.#control.early, known));
    } catch (error) {
      throw early(error, (cause) => unstarted('failed', 'host_limit', cause));
    } finally {
      this.#queueMs = clock.monotonic() - sinceMs;
    }
  }

  /** Resolves the image, pulling it if need be. `unavailable` is thrown on: the engine may come back. */
  async resolveImage(spec: JobSpec): Promise<ImageFacts> {
    const { engine, pool, puller, tracer } = this.#services;
    const reference = spec.image.text;
    if (spec.pullPolicy !== 'always') this.#image ??= pool.imageFacts(reference);
    if (this.#image !== undefined) return this.#image;
    try {
      // Looking is no effect: it goes on beside the syncs.
      const found = spec.pullPolicy === 'always' ? undefined : await engine.findImage(reference, this.#control.early);
      if (found !== undefined) {
        this.#image = found;
        return found;
      }
      await this.committed();
      const attributes = { [ATTRIBUTE.imageName]: reference };
      this.#image = await traced(tracer, SPAN.pull, { attributes }, () =>
        puller.ensure(
          reference,
          spec.pullPolicy,
          (report) => this.#tell({ kind: 'pulling', image: reference, ...report }),
          this.#control.early,
        ),
      );
      return this.#image;
    } catch (error) {
      if (error instanceof LonglineError && error.reason === 'unavailable') throw error;
      throw early(error instanceof PullFailed ? error.error : error, (cause) =>
        unstarted('failed', cause.reason === 'limit' ? 'host_limit' : 'image_unavailable', cause),
      );
    }
  }

  [Symbol.dispose](): void {
    this.#place?.release();
  }
}

/** The end that an error before start means: an early end or letting go stays what it is. */
export function early(error: unknown, verdictOf: (cause: LonglineError) => Verdict): unknown {
  if (error instanceof EarlyEnd || error instanceof LetGo) return error;
  return new EarlyEnd(verdictOf(toLonglineError(error)));
}
