// The output of a session as a stream: one log per start of its container, one after the other. A reader that is slow reads
// from disk later; it never holds up the writer.

import { create } from '@bufbuild/protobuf';
import type { TailSessionLogsRequest, TailSessionLogsResponse } from '#gen/longline/fleet/v1/session_service_pb.js';
import { TailSessionLogsResponseSchema } from '#gen/longline/fleet/v1/session_service_pb.js';
import { logTopic, sessionTopic } from '../bus/topics.ts';
import type { LogCursor, LogRange } from '../logs/log-store.ts';
import { sessionLogId } from '../store/session.ts';
import { hasEnded } from '../store/session-state.ts';
import { rangeOf } from './log-range.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { findSession } from './session-lookup.ts';
import { nextWithin } from './waiting.ts';

const WHOLE: LogRange = { from: new Map(), streams: new Set() };

/** One reader of one generation's logs. */
class SessionTail {
  readonly #needs: ServiceDependencies;
  readonly #sessionId: string;
  readonly #generation: number;
  readonly #logId: string;
  readonly #range: LogRange;

  constructor(needs: ServiceDependencies, sessionId: string, generation: number, range: LogRange) {
    this.#needs = needs;
    this.#sessionId = sessionId;
    this.#generation = generation;
    this.#logId = sessionLogId(sessionId, generation);
    this.#range = range;
  }

  /** What is stored by now of one attempt; 0 for the latest. */
  async *stored(attempt: number, signal: AbortSignal): AsyncGenerator<TailSessionLogsResponse, void, undefined> {
    const chosen = attempt === 0 ? await this.#needs.logs.latestAttempt(this.#logId) : attempt;
    const cursor = chosen === undefined ? undefined : await this.#cursor(chosen, this.#range);
    while (cursor !== undefined && !signal.aborted) {
      const parts = await cursor.read();
      for (const part of parts) yield create(TailSessionLogsResponseSchema, { attempt: chosen!, part });
      if (parts.length === 0) return;
    }
  }

  /** What is stored and what comes: of one attempt to its close, or from the latest on until the session ends. */
  async *followed(attempt: number, signal: AbortSignal): AsyncGenerator<TailSessionLogsResponse, void, undefined> {
    const { bus, clock, options, logs } = this.#needs;
    using grown = await bus.subscribe(logTopic(this.#logId), 1);
    using changed = await bus.subscribe(sessionTopic(this.#sessionId), 1);
    const woken = async (limitMs: number): Promise<boolean> => {
      const over = new AbortController();
      const waits = [
        nextWithin(grown, clock, limitMs, signal, over.signal),
        nextWithin(changed, clock, limitMs, signal, over.signal),
      ];
      const event = await Promise.race(waits);
      over.abort();
      await Promise.all(waits);
      return event !== undefined;
    };
    let current = attempt === 0 ? await logs.latestAttempt(this.#logId) : attempt;
    let range = this.#range;
    let cursor: LogCursor | undefined;
    while (!signal.aborted) {
      const ended = await this.#hasEnded();
      current ??= await logs.latestAttempt(this.#logId);
      if (current !== undefined) cursor ??= await this.#cursor(current, range);
      const parts = (await cursor?.read()) ?? [];
      for (const part of parts) yield create(TailSessionLogsResponseSchema, { attempt: current!, part });
      if (parts.length > 0) continue;
      if (cursor?.ended && attempt !== 0) return;
      const next = cursor?.ended ? await this.#after(current!) : undefined;
      if (next !== undefined) {
        // The offsets that the caller gave are those of the attempt that it began with.
        [current, range, cursor] = [next, { ...WHOLE, streams: this.#range.streams }, undefined];
        continue;
      }
      if (ended && (cursor === undefined || cursor.ended)) return;
      if (!(await woken(ended ? options.logSettleMs : options.recheckMs)) && ended) return;
    }
  }

  async #cursor(attempt: number, range: LogRange): Promise<LogCursor | undefined> {
    return await this.#needs.logs.cursor({ logId: this.#logId, attempt }, range);
  }

  async #after(attempt: number): Promise<number | undefined> {
    const latest = (await this.#needs.logs.latestAttempt(this.#logId)) ?? 0;
    return latest > attempt ? attempt + 1 : undefined;
  }

  async #hasEnded(): Promise<boolean> {
    const session = await this.#needs.store.sessions.get(this.#sessionId);
    return session === undefined || session.generation !== this.#generation || hasEnded(session.state);
  }
}

/** Output as a request asks for it. */
export async function* tailSession(
  needs: ServiceDependencies,
  request: TailSessionLogsRequest,
  signal: AbortSignal,
): AsyncGenerator<TailSessionLogsResponse, void, undefined> {
  const range = rangeOf(request);
  const session = await findSession(needs.store, request.sessionId);
  const tail = new SessionTail(needs, session.id, session.generation, range);
  yield* request.follow ? tail.followed(request.attempt, signal) : tail.stored(request.attempt, signal);
}
