// Messages that wait for a connection, at most so many and so many bytes. What became of programs goes out before figures, and figures
// make room for it; a sign of life is only worth something while it is new, so that one replaces the other. What is dropped is counted.

/** What a message is about. */
export type OutboxKind = 'change' | 'figures' | 'heartbeat';

/** A message that waits. */
export interface OutboxMessage {
  readonly kind: OutboxKind;
  readonly payload: Uint8Array;
}

/** Bounds of what waits. */
export interface OutboxLimits {
  readonly maxMessages: number;
  readonly maxBytes: number;
}

/** Keeps order within a kind. */
export class Outbox {
  readonly #limits: OutboxLimits;
  readonly #waiting: Record<OutboxKind, OutboxMessage[]> = { change: [], figures: [], heartbeat: [] };
  #bytes = 0;
  #dropped = 0;
  #filled = Promise.withResolvers<void>();
  /** How many of the dropped somebody was told of. */
  toldDropped = 0;

  constructor(limits: OutboxLimits) {
    this.#limits = limits;
  }

  /** Messages that were dropped so far. */
  get dropped(): number {
    return this.#dropped;
  }

  get size(): number {
    return Object.values(this.#waiting).reduce((sum, messages) => sum + messages.length, 0);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Resolves once something waits, or somebody wakes it. */
  filled(): Promise<void> {
    return this.size > 0 ? Promise.resolve() : this.#filled.promise;
  }

  /** Adds a message; drops the oldest figures, then the oldest changes, until all fit. */
  put(message: OutboxMessage): void {
    const { kind, payload } = message;
    if (kind === 'heartbeat') for (const old of this.#waiting.heartbeat.splice(0)) this.#bytes -= old.payload.length;
    this.#waiting[kind].push(message);
    this.#bytes += payload.length;
    this.#makeRoom();
    this.wake();
  }

  /** Has those who wait for messages look up. */
  wake(): void {
    this.#filled.resolve();
    this.#filled = Promise.withResolvers();
  }

  /** Takes out at most so many, changes first. */
  take(most: number): OutboxMessage[] {
    const taken: OutboxMessage[] = [];
    for (const kind of ['change', 'heartbeat', 'figures'] as const) {
      taken.push(...this.#waiting[kind].splice(0, most - taken.length));
    }
    for (const { payload } of taken) this.#bytes -= payload.length;
    return taken;
  }

  /** Puts back, in front, what could not be sent. */
  putBack(messages: readonly OutboxMessage[]): void {
    for (const message of [...messages].reverse()) {
      const waiting = this.#waiting[message.kind];
      if (message.kind === 'heartbeat') continue;
      waiting.unshift(message);
      this.#bytes += message.payload.length;
    }
    this.#makeRoom();
  }

  /** Counts a message that nobody will send. */
  drop(): void {
    this.#dropped += 1;
  }

  #makeRoom(): void {
    while (this.size > this.#limits.maxMessages || this.#bytes > this.#limits.maxBytes) {
      const { figures, change, heartbeat } = this.#waiting;
      const oldest = figures.shift() ?? change.shift() ?? heartbeat.shift();
      if (oldest === undefined) return;
      this.#bytes -= oldest.payload.length;
      this.#dropped += 1;
    }
  }
}
