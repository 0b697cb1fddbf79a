// The output of one execution as a stream: what is stored, and on as it grows. A reader that is slow reads from disk later;
// it never holds up the writer, and nothing of the log is kept in memory for it.
import { create } from '@bufbuild/protobuf';
import { type ExecutionOutput, ExecutionOutputSchema } from '#gen/longline/fleet/v1/job_service_pb.js';
import { logTopic } from '../bus/topics.ts';
import type { LogCursor, LogPart, LogRange } from '../logs/log-store.ts';
import type { CommandRecord } from '../store/command.ts';
import { wroteOutput } from './job-lookup.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { nextWithin } from './waiting.ts';

/** All of a log. */
export const WHOLE_LOG: LogRange = { from: new Map(), streams: new Set() };

/** What is followed, and until when. */
export interface FollowedLog {
  readonly execution: Pick<CommandRecord, 'id' | 'agentId'>;
  readonly range: LogRange;
  /** Aborts when the execution has ended; from then on only what is still under way is awaited. */
  readonly ended: AbortSignal;
  /** Aborts when the reader leaves. */
  readonly signal: AbortSignal;
}

function outputOf({ id, agentId }: FollowedLog['execution'], part: LogPart): ExecutionOutput {
  return create(ExecutionOutputSchema, { executionId: id, agentId, part });
}

async function openLatest(needs: ServiceDependencies, logId: string, range: LogRange): Promise<LogCursor | undefined> {
  const attempt = await needs.logs.latestAttempt(logId);
  return attempt === undefined ? undefined : await needs.logs.cursor({ logId, attempt }, range);
}

/** What is stored by now. */
export async function* readLog(
  needs: ServiceDependencies,
  execution: FollowedLog['execution'],
  range: LogRange,
  signal: AbortSignal,
): AsyncGenerator<ExecutionOutput, void, undefined> {
  const cursor = await openLatest(needs, execution.id, range);
  while (cursor !== undefined && !signal.aborted) {
    const parts = await cursor.read();
    for (const part of parts) yield outputOf(execution, part);
    if (parts.length === 0) return;
  }
}

/**
 * What is stored and what comes, to the close of the log. Ends without a close if the execution ended and nothing more
 * comes: at once if it wrote nothing, after the settling time else.
 */
export async function* followLog(
  needs: ServiceDependencies,
  followed: FollowedLog,
): AsyncGenerator<ExecutionOutput, void, undefined> {
  const { execution, range, ended, signal } = followed;
  const { bus, clock, options } = needs;
  using woken = await bus.subscribe(logTopic(execution.id), 1);
  let cursor: LogCursor | undefined;
  while (!signal.aborted) {
    const hadEnded = ended.aborted;
    cursor ??= await openLatest(needs, execution.id, range);
    const parts = (await cursor?.read()) ?? [];
    for (const part of parts) yield outputOf(execution, part);
    if (cursor?.ended) return;
    if (parts.length > 0) continue;
    if (!hadEnded) {
      await nextWithin(woken, clock, options.recheckMs, signal, ended);
      continue;
    }
    if (cursor === undefined && !(await expectsOutput(needs, execution.id))) return;
    if ((await nextWithin(woken, clock, options.logSettleMs, signal)) === undefined) return;
  }
}

async function expectsOutput(needs: ServiceDependencies, executionId: string): Promise<boolean> {
  const execution = await needs.store.commands.get(executionId);
  return execution !== undefined && wroteOutput(execution);
}
