// Follows the engine's events for as long as the capability lives, and tells memory kills to whoever runs the container.
import { Backoff } from '../../core/backoff.ts';
import type { Clock } from '../../core/clock.ts';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { ContainerEngine } from './ports.ts';

const MAX_EARLY = 256;

/** Subscriptions to memory kills by container id. Missed events are made up for by inspecting at the end. */
export class EngineWatch implements AsyncDisposable {
  readonly #listeners = new Map<string, () => void>();
  /** Containers whose memory kill came before anybody asked: a start is answered after what it starts has begun. */
  readonly #early = new Set<string>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(engine: ContainerEngine, clock: Clock, log: Logger) {
    this.#running = this.#follow(engine, clock, log);
  }

  /** Calls `listener` for each memory kill in a container until the returned function is called. */
  onOom(containerId: string, listener: () => void): () => void {
    this.#listeners.set(containerId, listener);
    if (this.#early.delete(containerId)) listener();
    return () => {
      if (this.#listeners.get(containerId) === listener) this.#listeners.delete(containerId);
    };
  }

  #tell(containerId: string): void {
    const listener = this.#listeners.get(containerId);
    if (listener !== undefined) {
      listener();
      return;
    }
    this.#early.add(containerId);
    if (this.#early.size > MAX_EARLY) this.#early.delete(this.#early.values().next().value!);
  }

  async #follow(engine: ContainerEngine, clock: Clock, log: Logger): Promise<void> {
    const { signal } = this.#stop;
    const backoff = new Backoff({ baseMs: 200, capMs: 10_000 });
    let told = false;
    while (!signal.aborted) {
      try {
        for await (const event of engine.events(signal)) {
          backoff.reset();
          told = false;
          if (event.kind === 'oom') this.#tell(event.containerId);
        }
      } catch (error) {
        if (!signal.aborted && !told) log.warn('lost the container engine', { detail: describeError(error) });
        told = true;
      }
      await clock.sleep(backoff.next(50), signal).catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}
