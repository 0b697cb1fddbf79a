// `job logs`: the stored output of one execution, from any byte on.
import { isUtf8 } from 'node:buffer';
import { InvalidArgumentError } from 'commander';
import { LonglineError } from '../../core/errors.ts';
import type { Fleet } from '../fleet-connection.ts';
import { type CliIo, toJson } from '../io.ts';
import type { OutputEvent } from './follow-event.ts';
import { gapNotice, type OutputSink, prefixedSink, rawSink } from './output-sink.ts';
import { ReconnectBudget } from './reconnect-budget.ts';
import { StreamOffsets } from './stream-offsets.ts';
import { tailLog } from './tail.ts';

const STREAMS = ['stdout', 'stderr'];

/** Options of `job logs`. */
export interface LogsOptions {
  readonly follow?: boolean;
  readonly from?: Readonly<Record<string, bigint>>;
  /** Empty for all. */
  readonly stream?: readonly string[];
  readonly agent?: string;
  readonly timestamps?: boolean;
}

/** "4096" for every stream, or "stdout=10,stderr=0". */
export function startValue(text: string): Readonly<Record<string, bigint>> {
  if (/^\d{1,18}$/.test(text)) return Object.fromEntries(STREAMS.map((stream) => [stream, BigInt(text)]));
  const from: Record<string, bigint> = {};
  for (const part of text.split(',')) {
    const [, stream, offset] = /^(stdout|stderr)=(\d{1,18})$/.exec(part) ?? [];
    if (stream === undefined) throw new InvalidArgumentError('Give a byte offset, or stdout=OFFSET,stderr=OFFSET.');
    from[stream] = BigInt(offset!);
  }
  return from;
}

/** Shows the log of a job or execution. */
export async function showLogs(
  io: CliIo,
  fleet: Fleet,
  jobId: string,
  options: LogsOptions,
  signal: AbortSignal,
): Promise<void> {
  const id = options.agent === undefined ? jobId : await executionOn(fleet, jobId, options.agent);
  const offsets = new StreamOffsets();
  for (const [stream, offset] of Object.entries(options.from ?? {})) offsets.startAt(id, stream, offset);
  const request = { id, streams: options.stream ?? [], follow: options.follow ?? false };
  const sink = sinkOf(io, options);
  const stop = new AbortController();
  const onEnd = () => stop.abort(signal.reason);
  if (signal.aborted) onEnd();
  signal.addEventListener('abort', onEnd, { once: true });
  io.stdout.closed.addEventListener('abort', onEnd, { once: true });
  try {
    for await (const event of tailLog(fleet, request, offsets, new ReconnectBudget(), stop.signal)) {
      if (event.kind === 'bytes' || event.kind === 'gap') await sink.take(event);
    }
  } catch (error) {
    if (!io.stdout.closed.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', onEnd);
    io.stdout.closed.removeEventListener('abort', onEnd);
    await sink.end();
  }
}

async function executionOn(fleet: Fleet, jobId: string, agentId: string): Promise<string> {
  const { job } = await fleet.jobs.getJob({ jobId });
  const found = job?.executions.find((execution) => execution.agentId === agentId);
  if (found !== undefined) return found.id;
  const agents = job?.executions.map((execution) => execution.agentId).join(', ');
  throw new LonglineError(
    'not_found',
    `job ${jobId} has no execution on ${agentId}; it has some on ${agents || 'none'}`,
  );
}

/** Where output of a log goes: as JSON, with times, or as it is. */
export function sinkOf(io: CliIo, options: Pick<LogsOptions, 'timestamps'>): OutputSink {
  if (io.json) return jsonSink(io);
  return options.timestamps ? stampedSink(io) : rawSink(io);
}

/** Lines with the time at which their last part was read. */
function stampedSink(io: CliIo): OutputSink {
  let stamp = '';
  const lines = prefixedSink(io, () => `${stamp} `);
  return {
    take: async (event) => {
      if (event.kind === 'bytes') stamp = timeOf(event) ?? '-'.repeat(24);
      if (event.kind === 'gap') await io.note(gapNotice(event));
      else await lines.take(event);
    },
    end: lines.end,
  };
}

function jsonSink(io: CliIo): OutputSink {
  return {
    take: async (event) => {
      if (event.kind === 'gap') {
        const { stream, bytes, reason } = event;
        await io.stdout.line(toJson({ stream, lost_bytes: bytes, reason }));
        await io.note(gapNotice(event));
      } else if (event.kind === 'bytes') {
        const { stream, offset, data } = event;
        const content = isUtf8(data) ? { text: Buffer.from(data).toString('utf8') } : { base64: data };
        await io.stdout.line(toJson({ stream, offset, captured_at: timeOf(event) ?? null, ...content }));
      }
    },
    end: async () => undefined,
  };
}

function timeOf(event: OutputEvent & { readonly kind: 'bytes' }): string | undefined {
  return event.capturedAtMs === undefined ? undefined : new Date(event.capturedAtMs).toISOString();
}
