// Structured concurrency: tasks that live and fail together.

/** Runs tasks under one signal. The first failure aborts the rest; `wait` gives the cause once all have ended. */
export class TaskGroup implements AsyncDisposable {
  readonly #controller = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  readonly #parent: AbortSignal | undefined;
  readonly #onParentAbort: () => void;
  #failure: { readonly error: unknown } | undefined;

  constructor(parent?: AbortSignal) {
    this.#parent = parent;
    this.#onParentAbort = () => this.#controller.abort(parent?.reason);
    // Not AbortSignal.any: on a parent that lives as long as the process it leaks (nodejs/node#54614).
    if (parent?.aborted) this.#onParentAbort();
    else parent?.addEventListener('abort', this.#onParentAbort, { once: true });
  }

  /** Aborts when a task fails, the parent aborts or the group is disposed. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Starts a task. A rejection after the group was aborted is taken as part of stopping. */
  spawn(task: (signal: AbortSignal) => Promise<void>): void {
    const running = (async () => {
      try {
        await task(this.signal);
      } catch (error) {
        if (!this.signal.aborted) {
          this.#failure = { error };
          this.#controller.abort(error);
        }
      }
    })();
    this.#tasks.add(running);
    running.finally(() => this.#tasks.delete(running));
  }

  /** Resolves when every task, also those spawned meanwhile, has ended; rejects with the first failure. */
  async wait(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
    this.#parent?.removeEventListener('abort', this.#onParentAbort);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Aborts all tasks and waits for them; their failures while stopping are not thrown. May be called twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort(new DOMException('task group disposed', 'AbortError'));
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
    this.#parent?.removeEventListener('abort', this.#onParentAbort);
  }
}
