// Recent figures of sessions, in memory and bounded: an hour at the usual pace for each session, the sessions that were
// heard of last. They are gone with the process; a controller that starts anew has them again within an interval.
import { timestampMs } from '@bufbuild/protobuf/wkt';
import type { SessionTelemetry } from '#gen/longline/v1/session_pb.js';

/** Samples kept of one session. */
const MAX_SAMPLES = 360;

/** Bounds of what is kept. */
export interface UsageLimits {
  /** A sample closer than this to the one before the latest takes the place of the latest. */
  readonly spacingMs: number;
  readonly maxSessions: number;
  /** After this a latest sample says nothing any more. */
  readonly staleMs: number;
}

/** An hour in steps of 10 s, for 5000 sessions. */
export const DEFAULT_USAGE_LIMITS: UsageLimits = { spacingMs: 9000, maxSessions: 5000, staleMs: 120_000 };

const timeOf = (sample: SessionTelemetry): number => (sample.time === undefined ? 0 : timestampMs(sample.time));

/** Figures by agent and session: an agent can say nothing of another's. */
export class SessionUsageCache {
  readonly #limits: UsageLimits;
  /** Oldest sample first. */
  readonly #series = new Map<string, SessionTelemetry[]>();

  constructor(limits: UsageLimits = DEFAULT_USAGE_LIMITS) {
    this.#limits = limits;
  }

  /** Takes a sample. Quick; never throws. */
  put(agentId: string, sample: SessionTelemetry): void {
    const key = `${agentId} ${sample.sessionId}`;
    const samples = this.#series.get(key) ?? [];
    // Put in again, so that the map is ordered by who was heard of last.
    this.#series.delete(key);
    this.#series.set(key, samples);
    const latest = samples.at(-1);
    if (latest !== undefined && timeOf(sample) <= timeOf(latest)) return;
    const previous = samples.at(-2);
    const close = previous !== undefined && timeOf(sample) - timeOf(previous) < this.#limits.spacingMs;
    if (close) samples.pop();
    samples.push(sample);
    if (samples.length > MAX_SAMPLES) samples.shift();
    if (this.#series.size > this.#limits.maxSessions) this.#series.delete(this.#series.keys().next().value!);
  }

  /** Samples after a time, oldest first. */
  samples(agentId: string, sessionId: string, afterMs: number): readonly SessionTelemetry[] {
    return this.#series.get(`${agentId} ${sessionId}`)?.filter((sample) => timeOf(sample) > afterMs) ?? [];
  }

  /** The latest sample, unless it is too old to say anything. */
  latest(agentId: string, sessionId: string, nowMs: number): SessionTelemetry | undefined {
    const latest = this.#series.get(`${agentId} ${sessionId}`)?.at(-1);
    return latest !== undefined && nowMs - timeOf(latest) < this.#limits.staleMs ? latest : undefined;
  }
}
