// Containers started ahead, each waiting for one command. A shape is a set of limits, user, network and mounts of an
// opted-in image; a shape is warmed once a job used it or at start for the defaults, and forgotten when it idles. The
// pool never decides whether a job may run, and a job that it can't serve runs cold.
import { access, constants } from 'node:fs/promises';
import type { Clock } from '../../core/clock.ts';
import { describeError, LonglineError } from '../../core/errors.ts';
import { parseImageReference } from '../../core/images/image-reference.ts';
import type { Logger } from '../../core/logger.ts';
import type { WarmSettings } from './config.ts';
import type { ContainerReaper } from './container-reaper.ts';
import { warmShape } from './plan.ts';
import type { ContainerEngine, ContainerSpec, ImageFacts } from './ports.ts';
import { startWarm, type Waiting, type WarmContainer } from './warm-container.ts';
import { WarmImages } from './warm-images.ts';

/** Whether containers are warmed. */
export type WarmState =
  /** No image is opted in, or what it needs isn't there: `reason` says what. */
  | { readonly kind: 'off'; readonly reason: string }
  /** Containers are kept waiting. */
  | { readonly kind: 'on' }
  /** Disposed. */
  | { readonly kind: 'over' };

interface Shape {
  readonly spec: ContainerSpec;
  readonly size: number;
  readonly waiting: Waiting[];
  usedAtMs: number;
  /** Not filled before this, after a failure. */
  notBeforeMs: number;
}

/** What the pool works with. */
export interface WarmPoolPorts {
  readonly engine: ContainerEngine;
  readonly clock: Clock;
  readonly log: Logger;
  readonly reaper: ContainerReaper;
  readonly instanceId: string;
  readonly settings: WarmSettings;
}

const TEND_MS = 2000;
const FAULT_PAUSE_MS = 60_000;
const REFILL_PAUSE_MS = 100;

/** The pool. Times are monotonic. */
export class WarmPool implements AsyncDisposable {
  readonly #ports: WarmPoolPorts;
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #shapes = new Map<string, Shape>();
  readonly #images: WarmImages;
  readonly #stop = new AbortController();
  #served = 0;
  #missed = 0;
  #state: WarmState = { kind: 'off', reason: 'it was not opened yet' };
  #wake: (() => void) | undefined;
  #tending: Promise<void> = Promise.resolve();

  constructor(ports: WarmPoolPorts) {
    this.#ports = ports;
    this.#images = new WarmImages(ports.engine, ports.clock);
    this.#sizes = new Map(
      ports.settings.images.map(({ reference, size }) => {
        const parsed = parseImageReference(reference);
        return [typeof parsed === 'string' ? reference : parsed.text, size];
      }),
    );
  }

  get state(): WarmState {
    return this.#state;
  }

  /** Jobs in shapes that are kept warm, since the start: those that found a container, and those that did not. */
  get requests(): { readonly served: number; readonly missed: number } {
    return { served: this.#served, missed: this.#missed };
  }

  /** Containers that wait. */
  get size(): number {
    let size = 0;
    for (const shape of this.#shapes.values()) size += shape.waiting.length;
    return size;
  }

  /** Begins to tend the pool, if it can be used on this host. Call once adoption has removed what an earlier process left. */
  async open(): Promise<void> {
    if (this.#state.kind !== 'off') return;
    const { settings } = this.#ports;
    if (settings.images.length === 0 || settings.maxContainers === 0) {
      this.#state = { kind: 'off', reason: 'no image is opted in' };
      return;
    }
    const found = await access(settings.initPath, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (!found) {
      const reason = `${settings.initPath} is not an executable file; install a static busybox (Debian: busybox-static)`;
      this.#state = { kind: 'off', reason };
      this.#ports.log.warn('the warm pool is off', { reason });
      return;
    }
    // The state may have changed while the file was looked at.
    if (this.#stop.signal.aborted) return;
    this.#state = { kind: 'on' };
    this.#tending = this.#tend();
  }

  /** Facts of an opted-in image that the engine was asked about a moment ago; saves the fast path a round trip. */
  imageFacts(reference: string): ImageFacts | undefined {
    return this.#images.fresh(reference);
  }

  /**
   * A container that waits in this job's shape; the pool forgets it. Undefined if there is none, and then the shape will be
   * warmed for the next job. Does not wait.
   */
  take(reference: string, facts: ImageFacts, spec: ContainerSpec): WarmContainer | undefined {
    const shape = this.#want(reference, facts, spec);
    if (shape === undefined) return undefined;
    let taken: Waiting | undefined;
    while (taken === undefined && shape.waiting.length > 0) {
      const oldest = shape.waiting.shift()!;
      if (oldest.alive) taken = oldest;
    }
    if (taken === undefined) this.#missed += 1;
    else this.#served += 1;
    // Making the next one takes the engine and a core a while, which the job that was just served needs more.
    shape.notBeforeMs = Math.max(shape.notBeforeMs, this.#ports.clock.monotonic() + REFILL_PAUSE_MS);
    this.#wake?.();
    return taken;
  }

  /** Warms a shape before the first job asks for it. */
  warm(reference: string, facts: ImageFacts, spec: ContainerSpec): void {
    this.#want(reference, facts, spec);
    this.#wake?.();
  }

  #want(reference: string, facts: ImageFacts, spec: ContainerSpec): Shape | undefined {
    const size = this.#sizes.get(reference);
    if (size === undefined || this.#state.kind !== 'on') return undefined;
    const now = this.#ports.clock.monotonic();
    this.#images.note(reference, facts);
    const key = warmShape(spec);
    const shape = this.#shapes.get(key) ?? { spec, size, waiting: [], usedAtMs: now, notBeforeMs: 0 };
    shape.usedAtMs = now;
    // Re-inserted so that the map's order is that of use.
    this.#shapes.delete(key);
    this.#shapes.set(key, shape);
    return shape;
  }

  async #tend(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.#dropIdle();
      await this.#refreshImages();
      const lacking = this.#lacking();
      if (lacking !== undefined) {
        await this.#fill(lacking);
        continue;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const over = new AbortController();
      const tick = this.#ports.clock.sleep(this.#pauseMs(), over.signal).catch(() => undefined);
      await Promise.race([promise, tick]);
      over.abort();
      this.#wake = undefined;
    }
  }

  #pauseMs(): number {
    const now = this.#ports.clock.monotonic();
    let pauseMs = TEND_MS;
    for (const shape of this.#shapes.values()) {
      if (shape.notBeforeMs > now && shape.waiting.length < shape.size)
        pauseMs = Math.min(pauseMs, shape.notBeforeMs - now);
    }
    return pauseMs;
  }

  // Most recently used first; makes room by dropping a container of the shape that was used longest ago.
  #lacking(): Shape | undefined {
    const now = this.#ports.clock.monotonic();
    const shapes = [...this.#shapes.values()].reverse();
    const { maxContainers } = this.#ports.settings;
    let budget = maxContainers;
    for (const shape of shapes) {
      const share = Math.min(shape.size, budget);
      budget -= share;
      while (shape.waiting.length > share) this.#discard(shape.waiting.shift()!);
    }
    budget = maxContainers;
    for (const shape of shapes) {
      const share = Math.min(shape.size, budget);
      budget -= share;
      if (shape.waiting.length < share && shape.notBeforeMs <= now) return shape;
    }
    return undefined;
  }

  #dropIdle(): void {
    const now = this.#ports.clock.monotonic();
    for (const [key, shape] of this.#shapes) {
      for (const waiting of [...shape.waiting]) {
        if (waiting.alive && now - waiting.sinceMs < this.#ports.settings.idleTtlMs) continue;
        shape.waiting.splice(shape.waiting.indexOf(waiting), 1);
        this.#discard(waiting);
      }
      if (now - shape.usedAtMs >= this.#ports.settings.idleTtlMs && shape.waiting.length === 0)
        this.#shapes.delete(key);
    }
  }

  async #refreshImages(): Promise<void> {
    for (const gone of await this.#images.refresh(this.#stop.signal)) {
      for (const [key, shape] of this.#shapes) {
        if (shape.spec.image !== gone.id) continue;
        this.#shapes.delete(key);
        for (const waiting of shape.waiting.splice(0)) this.#discard(waiting);
      }
    }
  }

  async #fill(shape: Shape): Promise<void> {
    const { clock, log } = this.#ports;
    try {
      const waiting = await startWarm(this.#ports, shape.spec);
      // The shape may have been dropped meanwhile.
      if (this.#stop.signal.aborted || this.#shapes.get(warmShape(shape.spec)) !== shape) this.#discard(waiting);
      else shape.waiting.push(waiting);
      waiting.exit.then(
        () => this.#died(shape, waiting),
        () => this.#died(shape, waiting),
      );
    } catch (error) {
      shape.notBeforeMs = clock.monotonic() + FAULT_PAUSE_MS;
      log.warn('could not start a warm container', { image: shape.spec.image, detail: describeError(error) });
    }
  }

  #died(shape: Shape, waiting: Waiting): void {
    waiting.alive = false;
    const index = shape.waiting.indexOf(waiting);
    if (index < 0) return;
    shape.waiting.splice(index, 1);
    this.#discard(waiting);
    // An image in which the init can't wait would otherwise be tried for ever.
    shape.notBeforeMs = this.#ports.clock.monotonic() + FAULT_PAUSE_MS;
    this.#ports.log.warn('a warm container ended before it was used', { container: waiting.id });
  }

  #discard(waiting: Waiting): void {
    waiting.alive = false;
    waiting.attachment.destroy();
    // The reaper tries again by itself and is waited for when the capability is disposed.
    this.#ports.reaper.removeLater(waiting.id);
  }

  /** Removes what waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#state = { kind: 'over' };
    this.#stop.abort(new LonglineError('cancelled', 'the warm pool is closed'));
    this.#wake?.();
    await this.#tending;
    for (const shape of this.#shapes.values()) for (const waiting of shape.waiting.splice(0)) this.#discard(waiting);
    this.#shapes.clear();
  }
}
