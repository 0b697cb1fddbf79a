// `session logs`: the output of a session's main process, start after start, over as many connections as it takes.
import { create } from '@bufbuild/protobuf';
import { ExecutionOutputSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import type { TailSessionLogsResponse } from '#gen/longline/fleet/v1/session_service_pb.js';
import type { Fleet } from '../fleet-connection.ts';
import type { CliIo } from '../io.ts';
import { outputEvents } from '../job/follow-event.ts';
import { sinkOf } from '../job/logs.ts';
import type { OutputSink } from '../job/output-sink.ts';
import { ReconnectBudget } from '../job/reconnect-budget.ts';
import { StreamOffsets } from '../job/stream-offsets.ts';

/** Options of `session logs`. */
export interface SessionLogsOptions {
  readonly follow?: boolean;
  /** Undefined for the latest. */
  readonly attempt?: number;
  /** Empty for all. */
  readonly stream?: readonly string[];
  readonly timestamps?: boolean;
}

/** One reading; each byte of each start once and in order. */
class SessionLogReader {
  readonly #fleet: Fleet;
  readonly #sessionId: string;
  readonly #options: SessionLogsOptions;
  readonly #sink: OutputSink;
  readonly #offsets = new StreamOffsets();
  #current = 0;

  constructor(fleet: Fleet, sessionId: string, options: SessionLogsOptions, sink: OutputSink) {
    this.#fleet = fleet;
    this.#sessionId = sessionId;
    this.#options = options;
    this.#sink = sink;
  }

  async read(signal: AbortSignal): Promise<void> {
    const budget = new ReconnectBudget();
    const { attempt = 0 } = this.#options;
    for (let pinned = attempt; ; ) {
      try {
        await this.#call(pinned, budget, signal);
        if (pinned === attempt) return;
        // What was broken off is complete; now on as at first.
        pinned = attempt;
      } catch (error) {
        signal.throwIfAborted();
        await budget.wait(error, (thrown) => this.#fleet.toError(thrown), signal);
        pinned = this.#current === 0 ? attempt : this.#current;
      }
    }
  }

  async #call(attempt: number, budget: ReconnectBudget, signal: AbortSignal): Promise<void> {
    await this.#fleet.bringUp();
    const { follow = false, stream = [] } = this.#options;
    const from = attempt === 0 ? {} : this.#offsets.resumeFrom(String(attempt));
    const request = { sessionId: this.#sessionId, attempt, from, streams: [...stream], follow };
    for await (const response of this.#fleet.streams.sessions.tailSessionLogs(request, { signal })) {
      budget.progress();
      await this.#take(response);
    }
  }

  async #take({ attempt, part }: TailSessionLogsResponse): Promise<void> {
    this.#current = attempt;
    const output = create(ExecutionOutputSchema, { executionId: String(attempt), agentId: this.#sessionId, part });
    for (const event of outputEvents(output, this.#offsets)) {
      if (event.kind !== 'closed') await this.#sink.take(event);
    }
  }
}

/** Shows the output until it ends, the signal aborts or the reader of the output leaves. */
export async function showSessionLogs(
  io: CliIo,
  fleet: Fleet,
  sessionId: string,
  options: SessionLogsOptions,
  signal: AbortSignal,
): Promise<void> {
  const sink = sinkOf(io, options);
  const stop = new AbortController();
  const onEnd = () => stop.abort(signal.reason);
  if (signal.aborted) onEnd();
  signal.addEventListener('abort', onEnd, { once: true });
  io.stdout.closed.addEventListener('abort', onEnd, { once: true });
  try {
    await new SessionLogReader(fleet, sessionId, options, sink).read(stop.signal);
  } catch (error) {
    if (!io.stdout.closed.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', onEnd);
    io.stdout.closed.removeEventListener('abort', onEnd);
    await sink.end();
  }
}
