// The bus within one process. Subscribers that fall behind lose what doesn't fit and are told so.
import { describeError } from '../../../core/errors.ts';
import type { Logger } from '../../../core/logger.ts';
import type { Bus, BusEvent, BusMessage, Subscription, Topic } from '../bus.ts';

type Listener = (event: BusEvent<BusMessage>) => void;

/** Bus of one process. Disposing ends all subscriptions. */
export class MemoryBus implements Bus {
  readonly #topics = new Map<string, Set<Listener>>();
  readonly #open = new Set<Disposable>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  publish<M extends BusMessage>(topic: Topic<M>, message: M): void {
    const listeners = this.#topics.get(topic.name);
    if (listeners === undefined) return;
    for (const listener of listeners) {
      try {
        listener({ kind: 'message', message });
      } catch (error) {
        this.#log.error('bus listener failed', { topic: topic.name, err: describeError(error) });
      }
    }
  }

  async subscribe<M extends BusMessage>(topic: Topic<M>, capacity: number): Promise<Subscription<M>> {
    const queue = new BoundedEvents<M>(capacity);
    const listening = this.#add(topic.name, (event) => queue.push(event as BusEvent<M>));
    const close = () => {
      this.#open.delete(queue);
      listening();
    };
    queue.onClose = close;
    this.#open.add(queue);
    return queue;
  }

  async listen<M extends BusMessage>(topic: Topic<M>, listener: (event: BusEvent<M>) => void): Promise<Disposable> {
    return { [Symbol.dispose]: this.#add(topic.name, listener as Listener) };
  }

  #add(name: string, listener: Listener): () => void {
    let listeners = this.#topics.get(name);
    if (listeners === undefined) {
      listeners = new Set();
      this.#topics.set(name, listeners);
    }
    listeners.add(listener);
    return () => {
      const current = this.#topics.get(name);
      current?.delete(listener);
      if (current?.size === 0) this.#topics.delete(name);
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const subscription of [...this.#open]) subscription[Symbol.dispose]();
    this.#topics.clear();
  }
}

/** Events of one subscriber: a bounded queue in which overflow becomes one `lagged`. */
class BoundedEvents<M extends BusMessage> implements Subscription<M> {
  readonly #capacity: number;
  readonly #queue: BusEvent<M>[] = [];
  #lagged = false;
  #closed = false;
  #wake: (() => void) | undefined;
  onClose: () => void = () => undefined;

  constructor(capacity: number) {
    if (!(capacity >= 1)) throw new RangeError(`subscription capacity must be at least 1, got ${capacity}`);
    this.#capacity = capacity;
  }

  push(event: BusEvent<M>): void {
    if (this.#closed) return;
    if (this.#lagged || this.#queue.length >= this.#capacity) this.#lagged = true;
    else this.#queue.push(event);
    this.#wake?.();
  }

  async next(signal?: AbortSignal): Promise<BusEvent<M> | undefined> {
    for (;;) {
      if (signal?.aborted) return undefined;
      const event = this.#queue.shift();
      if (event !== undefined) return event;
      if (this.#lagged) {
        this.#lagged = false;
        return { kind: 'lagged' };
      }
      if (this.#closed) return undefined;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      signal?.addEventListener('abort', resolve as () => void, { once: true });
      await promise;
      signal?.removeEventListener('abort', resolve as () => void);
      this.#wake = undefined;
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<BusEvent<M>, void, undefined> {
    try {
      for (let event = await this.next(); event !== undefined; event = await this.next()) yield event;
    } finally {
      this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClose();
    this.#wake?.();
  }
}
