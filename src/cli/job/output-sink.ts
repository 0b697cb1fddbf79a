// Where a followed job's output goes: unchanged to standard output and standard error, or line by line with the agent's
// name before it where several agents speak at once.
import type { CliIo } from '../io.ts';
import { plainText } from '../table.ts';
import type { OutputEvent } from './follow-event.ts';

/** Takes output events in order, one at a time. */
export interface OutputSink {
  take(event: OutputEvent): Promise<void>;
  /** Writes what is left of unfinished lines. */
  end(): Promise<void>;
}

/** "[longline: 512 bytes lost: spool full]". */
export function gapNotice(event: OutputEvent & { readonly kind: 'gap' }): string {
  return `[longline: ${event.bytes} bytes lost: ${event.reason}]`;
}

/** Bytes go through as they are; gaps are told on standard error. */
export function rawSink(io: CliIo): OutputSink {
  return {
    take: async (event) => {
      if (event.kind === 'bytes') await (event.stream === 'stderr' ? io.stderr : io.stdout).write(event.data);
      else if (event.kind === 'gap') await io.note(gapNotice(event));
    },
    end: async () => undefined,
  };
}

/** Nothing is shown but gaps. */
export function silentSink(io: CliIo): OutputSink {
  return {
    take: async (event) => {
      if (event.kind === 'gap') await io.note(gapNotice(event));
    },
    end: async () => undefined,
  };
}

/** Longest piece of a line that is kept back until its end comes. */
const LONGEST_PARTIAL_LINE = 64 * 1024;
const LINE_END = 0x0a;

/** Whole lines with "AGENT | " before each, so that lines of different agents never mix. */
export function prefixedSink(io: CliIo, prefix: (agentId: string) => string): OutputSink {
  const partial = new Map<string, { readonly event: OutputEvent & { kind: 'bytes' }; readonly bytes: Buffer }>();
  const keyOf = (event: OutputEvent & { readonly stream: string }) => `${event.executionId}/${event.stream}`;
  const write = async (event: OutputEvent & { kind: 'bytes' }, text: Uint8Array): Promise<void> => {
    const lines: Uint8Array[] = [];
    for (let at = 0; at < text.length; ) {
      const found = text.indexOf(LINE_END, at);
      const end = found < 0 ? text.length : found + 1;
      lines.push(Buffer.from(prefix(event.agentId)), text.subarray(at, end));
      if (found < 0) lines.push(Buffer.of(LINE_END));
      at = end;
    }
    await (event.stream === 'stderr' ? io.stderr : io.stdout).write(Buffer.concat(lines));
  };
  return {
    take: async (event) => {
      if (event.kind === 'gap') await io.note(`${prefix(event.agentId)}${gapNotice(event)}`);
      if (event.kind !== 'bytes') return;
      const key = keyOf(event);
      const before = partial.get(key)?.bytes;
      const bytes = before === undefined ? Buffer.from(event.data) : Buffer.concat([before, event.data]);
      const whole = bytes.length > LONGEST_PARTIAL_LINE ? bytes.length : bytes.lastIndexOf(LINE_END) + 1;
      if (whole > 0) await write(event, bytes.subarray(0, whole));
      if (whole < bytes.length) partial.set(key, { event, bytes: bytes.subarray(whole) });
      else partial.delete(key);
    },
    end: async () => {
      for (const { event, bytes } of partial.values()) await write(event, bytes);
      partial.clear();
    },
  };
}

/** The prefix of an agent's lines, padded to the longest name. */
export function agentPrefix(agentId: string, width: number): string {
  return `${plainText(agentId).padEnd(width)} | `;
}
