// Samples on their way to the controller: the latest of each series, dropped rather than waited for.
import { create } from '@bufbuild/protobuf';
import {
  type TelemetryRequest,
  TelemetryRequestSchema,
  type TelemetryResponse,
} from '#gen/longline/link/v1/link_pb.js';
import type { NetworkTelemetry } from '#gen/longline/v1/network_pb.js';
import type { ProgramTelemetry } from '#gen/longline/v1/program_pb.js';
import type { SessionTelemetry } from '#gen/longline/v1/session_pb.js';
import type { MetricSample } from '#gen/longline/v1/telemetry_pb.js';
import type { DuplexCall } from './grpc-client.ts';
import { Wakeup } from './wakeup.ts';
import { durationMs } from './wire.ts';

/** Series of samples, and things of each other sort, whose figures may wait. */
const MAX_WAITING = 4096;
const MAX_PER_REQUEST = 500;
/** Each may hold hundreds of peers. */
const MAX_NETWORKS_PER_REQUEST = 8;
const INTERVAL_MS = { min: 100, max: 3_600_000 } as const;

/** One per link; outlives sessions. */
export class TelemetrySender {
  readonly #samples = new LatestFigures<MetricSample>(seriesOf);
  readonly #sessions = new LatestFigures<SessionTelemetry>(({ sessionId }) => sessionId);
  readonly #networks = new LatestFigures<NetworkTelemetry>(({ network }) => network?.name ?? '');
  readonly #programs = new LatestFigures<ProgramTelemetry>(({ name }) => name);
  readonly #filled = new Wakeup();
  #droppedSinceSent = 0n;
  #dropped = 0;
  #intervalMs: number | undefined;

  /** How often the controller wants samples; undefined if it didn't say. */
  get intervalMs(): number | undefined {
    return this.#intervalMs;
  }

  /** Samples that never left since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  get waiting(): boolean {
    return this.#samples.size + this.#sessions.size + this.#networks.size + this.#programs.size > 0;
  }

  /** Takes samples; a newer one of a series replaces the one that waits. */
  put(samples: Iterable<MetricSample>): void {
    this.#put(this.#samples, samples);
  }

  /** Takes figures of sessions; newer ones of a session replace those that wait. */
  putSessions(figures: Iterable<SessionTelemetry>): void {
    this.#put(this.#sessions, figures);
  }

  /** Takes figures of networks; newer ones of a network replace those that wait. */
  putNetworks(figures: Iterable<NetworkTelemetry>): void {
    this.#put(this.#networks, figures);
  }

  /** Takes figures of programs; newer ones of a program replace those that wait. */
  putPrograms(figures: Iterable<ProgramTelemetry>): void {
    this.#put(this.#programs, figures);
  }

  /** Resolves when samples wait or the signal aborts. */
  async whenFilled(signal: AbortSignal): Promise<void> {
    while (!this.waiting && !signal.aborted) await this.#filled.wait(signal);
  }

  /** Sends until the signal aborts; throws why the stream ended otherwise. */
  async run(
    call: DuplexCall<TelemetryRequest, TelemetryResponse>,
    quiet: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const reading = this.#read(call);
    const ended = new AbortController();
    const stop = () => ended.abort();
    signal.addEventListener('abort', stop, { once: true });
    reading.then(stop, stop);
    try {
      while (!ended.signal.aborted) {
        await this.whenFilled(ended.signal);
        await quiet(ended.signal);
        if (ended.signal.aborted) break;
        await call.write(this.#take());
      }
    } finally {
      signal.removeEventListener('abort', stop);
      call.cancel();
    }
    if (!signal.aborted) await reading;
  }

  async #read(call: DuplexCall<TelemetryRequest, TelemetryResponse>): Promise<void> {
    for await (const { interval } of call.messages) {
      const askedMs = durationMs(interval);
      if (askedMs !== undefined) this.#intervalMs = Math.min(Math.max(askedMs, INTERVAL_MS.min), INTERVAL_MS.max);
    }
  }

  #put<T>(waiting: LatestFigures<T>, figures: Iterable<T>): void {
    const dropped = waiting.put(figures);
    this.#dropped += dropped;
    this.#droppedSinceSent += BigInt(dropped);
    if (this.waiting) this.#filled.ring();
  }

  #take(): TelemetryRequest {
    const dropped = this.#droppedSinceSent;
    this.#droppedSinceSent = 0n;
    return create(TelemetryRequestSchema, {
      samples: this.#samples.take(MAX_PER_REQUEST),
      sessions: this.#sessions.take(MAX_PER_REQUEST),
      networks: this.#networks.take(MAX_NETWORKS_PER_REQUEST),
      programs: this.#programs.take(MAX_PER_REQUEST),
      dropped,
    });
  }
}

/** The latest figures of each thing, up to a bound. */
class LatestFigures<T> {
  readonly #keyOf: (figure: T) => string;
  readonly #waiting = new Map<string, T>();

  constructor(keyOf: (figure: T) => string) {
    this.#keyOf = keyOf;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** How many were dropped, older or in excess. */
  put(figures: Iterable<T>): number {
    let dropped = 0;
    for (const figure of figures) {
      const key = this.#keyOf(figure);
      if (this.#waiting.delete(key) || this.#waiting.size >= MAX_WAITING) dropped += 1;
      if (this.#waiting.size < MAX_WAITING) this.#waiting.set(key, figure);
    }
    return dropped;
  }

  /** Takes out those that wait longest. */
  take(most: number): T[] {
    const taken = [...this.#waiting].slice(0, most);
    for (const [key] of taken) this.#waiting.delete(key);
    return taken.map(([, figure]) => figure);
  }
}

function seriesOf({ name, labels }: MetricSample): string {
  return `${name} ${JSON.stringify(Object.entries(labels).sort())}`;
}
