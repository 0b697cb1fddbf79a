// Docker's `local` log driver stores a line longer than 16 KiB in parts, and up to Docker 20.10 (later ones vary) reading
// it back loses the newline after the last part: every byte after it would be off by one. This puts it back. All parts of
// a line carry one timestamp, so the log is read with timestamps. Only the very last part of a stream stays ambiguous
// (newline lost, or none written), and the driver's own file decides that.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { OutputPiece, StreamName } from '../../capabilities/jobs/ports.ts';
import { LonglineError } from '../../core/errors.ts';

const HEADER_BYTES = 8;
const PART_BYTES = 16 * 1024;
const SPACE = 0x20;
/** "2026-11-21T08:27:13.325953662Z". */
const TIMESTAMP_LIMIT_BYTES = 40;
const NEWLINE = 0x0a;
/** A message is at most one part and a newline; anything much larger is no message of this driver. */
const FRAME_LIMIT_BYTES = 1024 * 1024;
const TAIL_BYTES = 1024 * 1024;

/** What was read of a stream so far. */
interface StreamState {
  /** Timestamp of the last message if it was a full part, whose line goes on; '' otherwise. */
  openLine: string;
  /** The last message ended a line in parts and came without a newline. */
  owesNewline: boolean;
}

/**
 * Splits a log's multiplexed stream, read with timestamps, into pieces, one a message, with timestamps taken off and the
 * lost newlines put back. `endedWithNewline` is asked once for each stream whose end is ambiguous.
 */
export async function* localLogPieces(
  source: AsyncIterable<Uint8Array>,
  endedWithNewline: (stream: StreamName) => boolean,
): AsyncGenerator<OutputPiece, void, undefined> {
  const states: Record<StreamName, StreamState> = {
    stdout: { openLine: '', owesNewline: false },
    stderr: { openLine: '', owesNewline: false },
  };
  for await (const { stream, data: message } of frames(source)) {
    const state = states[stream];
    if (state.owesNewline) yield { stream, data: Uint8Array.of(NEWLINE) };
    const { timestamp, data } = splitTimestamp(message);
    const whole = data.at(-1) === NEWLINE;
    state.owesNewline = !whole && state.openLine === timestamp && data.length < PART_BYTES;
    state.openLine = !whole && data.length === PART_BYTES ? timestamp : '';
    if (data.length > 0) yield { stream, data };
  }
  for (const stream of ['stdout', 'stderr'] as const) {
    if (states[stream].owesNewline && endedWithNewline(stream)) yield { stream, data: Uint8Array.of(NEWLINE) };
  }
}

/** True if the last message of a stream in a `local` log file ended a line. False also if the file can't tell. */
export function lastMessageEndsLine(path: string, stream: StreamName): boolean {
  const tail = readTail(path);
  // An entry is its size (big-endian), a protobuf message, and the size again, so that it can be read backwards.
  for (let end = tail.length; end >= HEADER_BYTES; ) {
    const size = tail.readUInt32BE(end - 4);
    const start = end - 4 - size;
    if (start < 4 || tail.readUInt32BE(start - 4) !== size) return false;
    const fields = protobufFields(tail.subarray(start, end - 4));
    if (fields.get(1)?.toString() === stream) {
      const part = fields.get(5);
      return part === undefined || protobufFields(part).get(1)?.[0] === 1;
    }
    end = start - 4;
  }
  return false;
}

async function* frames(source: AsyncIterable<Uint8Array>): AsyncGenerator<OutputPiece, void, undefined> {
  let rest = Buffer.alloc(0);
  for await (const chunk of source) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
    let at = 0;
    while (rest.length - at >= HEADER_BYTES) {
      const kind = rest[at]!;
      const size = rest.readUInt32BE(at + 4);
      if (kind < 1 || kind > 2 || size > FRAME_LIMIT_BYTES) {
        const hex = rest.subarray(at, at + HEADER_BYTES).toString('hex');
        throw new LonglineError('internal', `the container engine sent a malformed log header ${hex}`);
      }
      const end = at + HEADER_BYTES + size;
      if (end > rest.length) break;
      yield { stream: kind === 2 ? 'stderr' : 'stdout', data: rest.subarray(at + HEADER_BYTES, end) };
      at = end;
    }
    rest = rest.subarray(at);
  }
  if (rest.length > 0) {
    throw new LonglineError('unavailable', 'the container engine cut the log inside a message');
  }
}

function splitTimestamp(message: Uint8Array): { readonly timestamp: string; readonly data: Uint8Array } {
  const end = message.indexOf(SPACE);
  if (end < 1 || end > TIMESTAMP_LIMIT_BYTES) {
    throw new LonglineError('internal', 'the container engine sent a log message without the timestamp asked for');
  }
  return { timestamp: Buffer.from(message.subarray(0, end)).toString('latin1'), data: message.subarray(end + 1) };
}

function readTail(path: string): Buffer {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
    const read = readSync(file, tail, 0, tail.length, size - tail.length);
    return tail.subarray(0, read);
  } finally {
    closeSync(file);
  }
}

/** Fields by number: contents of length-delimited ones, the low byte of varints. The last one of a number counts. */
function protobufFields(message: Buffer): Map<number, Buffer> {
  const fields = new Map<number, Buffer>();
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; at < message.length; shift *= 128) {
      const byte = message[at++]!;
      value += (byte & 0x7f) * shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (at < message.length) {
    const key = varint();
    const number = Math.floor(key / 8);
    const type = key % 8;
    if (type === 0) fields.set(number, Buffer.of(varint() & 0xff));
    else if (type === 2) {
      const size = varint();
      fields.set(number, message.subarray(at, at + size));
      at += size;
    } else return fields;
  }
  return fields;
}
