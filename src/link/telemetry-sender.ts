// Samples on their way to the controller: the latest of each series, dropped rather than waited for.
import { create } from '@bufbuild/protobuf';
import {
  type TelemetryRequest,
  TelemetryRequestSchema,
  type TelemetryResponse,
} from '#gen/longline/link/v1/link_pb.js';
import type { SessionTelemetry } from '#gen/longline/v1/session_pb.js';
import type { MetricSample } from '#gen/longline/v1/telemetry_pb.js';
import type { DuplexCall } from './grpc-client.ts';
import { Wakeup } from './wakeup.ts';
import { durationMs } from './wire.ts';

const MAX_SERIES = 4096;
const MAX_SAMPLES_PER_REQUEST = 500;
const MAX_SESSIONS = 4096;
const INTERVAL_MS = { min: 100, max: 3_600_000 } as const;

/** One per link; outlives sessions. */
export class TelemetrySender {
  readonly #samples = new Map<string, MetricSample>();
  readonly #sessions = new Map<string, SessionTelemetry>();
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
    return this.#samples.size > 0 || this.#sessions.size > 0;
  }

  /** Takes samples; a newer one of a series replaces the one that waits. */
  put(samples: Iterable<MetricSample>): void {
    for (const sample of samples) {
      const key = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).sort())}`;
      const replaces = this.#samples.delete(key);
      if (replaces || this.#samples.size >= MAX_SERIES) this.#countDropped();
      if (this.#samples.size < MAX_SERIES) this.#samples.set(key, sample);
    }
    if (this.waiting) this.#filled.ring();
  }

  /** Takes figures of sessions; newer ones of a session replace those that wait. */
  putSessions(figures: Iterable<SessionTelemetry>): void {
    for (const figure of figures) {
      if (this.#sessions.delete(figure.sessionId) || this.#sessions.size >= MAX_SESSIONS) this.#countDropped();
      if (this.#sessions.size < MAX_SESSIONS) this.#sessions.set(figure.sessionId, figure);
    }
    if (this.waiting) this.#filled.ring();
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
        const samples = [...this.#samples.entries()].slice(0, MAX_SAMPLES_PER_REQUEST);
        for (const [key] of samples) this.#samples.delete(key);
        const sessions = [...this.#sessions.values()].slice(0, MAX_SAMPLES_PER_REQUEST);
        for (const { sessionId } of sessions) this.#sessions.delete(sessionId);
        const dropped = this.#droppedSinceSent;
        this.#droppedSinceSent = 0n;
        const sent = { samples: samples.map(([, sample]) => sample), sessions, dropped };
        await call.write(create(TelemetryRequestSchema, sent));
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

  #countDropped(): void {
    this.#dropped += 1;
    this.#droppedSinceSent += 1n;
  }
}
