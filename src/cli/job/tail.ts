// Reading the log of one execution, over as many connections as it takes.
import type { Fleet } from '../fleet-connection.ts';
import { type FollowEvent, outputEvents } from './follow-event.ts';
import type { ReconnectBudget } from './reconnect-budget.ts';
import type { StreamOffsets } from './stream-offsets.ts';

/** Which log, from where, and how far. */
export interface TailRequest {
  /** Execution id, or the id of a job with one execution. */
  readonly id: string;
  /** Streams wanted; empty for all. */
  readonly streams: readonly string[];
  readonly follow: boolean;
}

/** What was read; `closed` is true if the log is complete. */
export interface TailOutcome {
  readonly closed: boolean;
}

/**
 * Gives every byte from the offsets on once and in order, resuming after breaks. `offsets` may hold a start position
 * under the id asked for; it is moved along. Ends with the log, or with what there is if not following.
 */
export async function* tailLog(
  fleet: Fleet,
  request: TailRequest,
  offsets: StreamOffsets,
  budget: ReconnectBudget,
  signal?: AbortSignal,
): AsyncGenerator<FollowEvent, TailOutcome> {
  let key = request.id;
  for (;;) {
    try {
      await fleet.bringUp();
      const from = offsets.resumeFrom(key);
      const call = { jobId: key, from, streams: [...request.streams], follow: request.follow };
      for await (const { output } of fleet.streams.jobs.tailLogs(call, signal === undefined ? {} : { signal })) {
        budget.progress();
        if (output === undefined) continue;
        if (output.executionId !== key) {
          // Asked by job id: the start offsets belong to its execution from here on.
          for (const [stream, offset] of Object.entries(from)) offsets.startAt(output.executionId, stream, offset);
          key = output.executionId;
        }
        for (const event of outputEvents(output, offsets)) {
          yield event;
          if (event.kind === 'closed') return { closed: true };
        }
      }
      return { closed: false };
    } catch (error) {
      signal?.throwIfAborted();
      await budget.wait(error, (thrown) => fleet.toError(thrown), signal);
      yield { kind: 'reconnecting', message: messageOf(fleet.toError(error)) };
    }
  }
}

/** The message of a thrown value. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
