// Removes containers of ours, again and again until the engine has done it.
import { Backoff } from '../../core/backoff.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { ContainerEngine } from './ports.ts';

const DISPOSE_LIMIT_MS = 5000;
const MAX_AT_ONCE = 4;

/** Owns containers that are to go. What is left at dispose goes when the next process adopts. */
export class ContainerReaper implements AsyncDisposable {
  readonly #engine: ContainerEngine;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #tasks = new Map<string, Promise<void>>();
  readonly #line: (() => void)[] = [];
  #busy = 0;

  constructor(engine: ContainerEngine, clock: Clock, log: Logger) {
    this.#engine = engine;
    this.#clock = clock;
    this.#log = log;
  }

  /** Containers that are still to be removed. */
  get pending(): number {
    return this.#tasks.size;
  }

  /** Resolves after the first try; if that failed, more follow in the background. */
  async remove(containerId: string): Promise<void> {
    try {
      await this.#engine.remove(containerId);
    } catch (error) {
      this.#log.warn('could not remove a container yet', { container: containerId, detail: describeError(error) });
      this.removeLater(containerId);
    }
  }

  /** Removes in the background. */
  removeLater(containerId: string): void {
    if (this.#tasks.has(containerId)) return;
    const task = this.#insist(containerId).finally(() => this.#tasks.delete(containerId));
    this.#tasks.set(containerId, task);
  }

  async #insist(containerId: string): Promise<void> {
    const backoff = new Backoff({ baseMs: 500, capMs: 60_000 });
    while (!this.#stop.signal.aborted) {
      await this.#turn();
      try {
        return await this.#engine.remove(containerId, this.#stop.signal);
      } catch (error) {
        this.#log.warn('could not remove a container yet', { container: containerId, detail: describeError(error) });
      } finally {
        this.#busy -= 1;
        this.#line.shift()?.();
      }
      await this.#clock.sleep(backoff.next(100), this.#stop.signal).catch(() => undefined);
    }
  }

  async #turn(): Promise<void> {
    while (this.#busy >= MAX_AT_ONCE) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#line.push(resolve);
      await promise;
    }
    this.#busy += 1;
  }

  /** Lets first tries end, for up to 5 s; then stops trying. */
  async [Symbol.asyncDispose](): Promise<void> {
    const over = new AbortController();
    const limit = this.#clock.sleep(DISPOSE_LIMIT_MS, over.signal).catch(() => undefined);
    await Promise.race([Promise.all(this.#tasks.values()), limit]);
    over.abort();
    this.#stop.abort();
    for (const wake of this.#line.splice(0)) wake();
    await Promise.all(this.#tasks.values());
  }
}
