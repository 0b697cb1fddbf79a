// Wake-ups between the parts of a controller and, later, between its replicas. A message says that something changed; the
// store and the log files say what. Delivery is at most once and in order per publisher and topic: whoever subscribes
// must read the store after subscribing, and again when told it lagged. Publishing never waits and never fails; a
// subscriber that is slow loses messages, not memory.

/** What a message may hold: flat, and nothing that couldn't cross a wire. */
export type BusMessage = Readonly<Record<string, string | number | boolean | Uint8Array>>;

/** What a subscriber gets. */
export type BusEvent<M extends BusMessage> =
  /** A message. */
  | { readonly kind: 'message'; readonly message: M }
  /** Messages were lost since the last event: read the store. */
  | { readonly kind: 'lagged' };

/** A name of messages of one type. */
export interface Topic<M extends BusMessage> {
  readonly name: string;
  /** Never set: ties the type of the messages to the topic. */
  readonly message?: M;
}

/** One subscriber's messages, in order. One reader; leaving the loop or disposing unsubscribes. */
export interface Subscription<M extends BusMessage> extends AsyncIterable<BusEvent<M>>, Disposable {
  /** The next event; undefined once unsubscribed, or if `signal` aborts first. */
  next(signal?: AbortSignal): Promise<BusEvent<M> | undefined>;
}

/** Topics with bounded subscriptions. */
export interface Bus extends AsyncDisposable {
  publish<M extends BusMessage>(topic: Topic<M>, message: M): void;
  /** Events from now on, pulled by the reader. At most `capacity` messages wait. */
  subscribe<M extends BusMessage>(topic: Topic<M>, capacity: number): Promise<Subscription<M>>;
  /**
   * Calls `listener` with every message: for receivers by the thousand, which only note that they have to look. It must
   * be quick and must not throw. Disposing unsubscribes.
   */
  listen<M extends BusMessage>(topic: Topic<M>, listener: (event: BusEvent<M>) => void): Promise<Disposable>;
}
