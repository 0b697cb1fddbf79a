// Segment files of one log on disk: naming, listing, and finding where a log stands after a restart.
import { open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type OpenFile, RecordFile, type RecordFileLoss } from './record-file.ts';
import { RecordReader } from './record-reader.ts';
import {
  decodeChunk,
  decodeSpoolFact,
  type SegmentHead,
  SPOOL_RECORD,
  type SpoolGap,
  type StreamSummary,
} from './spool-record.ts';
import { storageError } from './storage-error.ts';

/** A segment file. `sizeBytes` grows while it is the last one; everything below is whole records. */
export interface Segment {
  readonly number: number;
  readonly path: string;
  sizeBytes: number;
  /** Where each stream stood when the segment was begun. */
  readonly start: Readonly<Record<string, number>>;
}

/** What is found of a log at start. */
export interface LoadedLog {
  readonly segments: Segment[];
  /** The last segment, open for appending. */
  readonly file: RecordFile;
  readonly head: SegmentHead;
  /** Length of each stream, gaps included. */
  readonly lengths: Map<string, number>;
  readonly closed: readonly StreamSummary[] | undefined;
  readonly losses: readonly RecordFileLoss[];
}

const SEGMENT_NAME = /^(\d{8})\.segment$/;

/** Path of a segment within the folder of its log. */
export function segmentPath(folder: string, number: number): string {
  return join(folder, `${String(number).padStart(8, '0')}.segment`);
}

/** Loads a log from its folder. Undefined if it holds no segment that says whose it is. */
export async function loadLog(folder: string, openFile: OpenFile): Promise<LoadedLog | undefined> {
  const numbers = (await readdir(folder))
    .map((name) => SEGMENT_NAME.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((left, right) => left - right);
  const losses: RecordFileLoss[] = [];
  while (numbers.length > 0) {
    const number = numbers.pop()!;
    const last = await loadLast(segmentPath(folder, number), openFile);
    if (last.file.loss !== undefined) losses.push(last.file.loss);
    if (last.head === undefined) {
      // A crash between the creation of a segment and its head: there is nothing in it.
      await last.file[Symbol.asyncDispose]();
      await rm(last.file.path, { force: true });
      continue;
    }
    const segments = await loadEarlier(folder, numbers);
    segments.push({ number, path: last.file.path, sizeBytes: last.file.sizeBytes, start: last.head.streams });
    return { ...last, head: last.head, segments, losses };
  }
  return undefined;
}

async function loadLast(
  path: string,
  openFile: OpenFile,
): Promise<{
  file: RecordFile;
  head: SegmentHead | undefined;
  lengths: Map<string, number>;
  closed: readonly StreamSummary[] | undefined;
}> {
  let head: SegmentHead | undefined;
  let closed: readonly StreamSummary[] | undefined;
  const lengths = new Map<string, number>();
  const file = await RecordFile.open(path, {
    openFile,
    onRecord: (record) => {
      if (record.type === SPOOL_RECORD.head) {
        head = decodeSpoolFact<SegmentHead>(record);
        for (const [stream, length] of Object.entries(head.streams)) lengths.set(stream, length);
      } else if (record.type === SPOOL_RECORD.chunk) {
        const { stream, offset, data } = decodeChunk(record);
        lengths.set(stream, offset + data.length);
      } else if (record.type === SPOOL_RECORD.gap) {
        const { stream, to } = decodeSpoolFact<SpoolGap>(record);
        lengths.set(stream, to);
      } else if (record.type === SPOOL_RECORD.close) {
        closed = decodeSpoolFact<StreamSummary[]>(record);
      }
    },
  });
  return { file, head, lengths, closed };
}

async function loadEarlier(folder: string, numbers: readonly number[]): Promise<Segment[]> {
  const segments: Segment[] = [];
  for (const number of numbers) {
    const path = segmentPath(folder, number);
    const file = await open(path, 'r').catch((error: unknown) => {
      throw storageError('open', path, error);
    });
    try {
      const { size } = await file.stat();
      const step = await new RecordReader(file).next(size);
      // Without its head a segment can't be placed; the reader will declare the hole that it leaves.
      if (step.kind !== 'record' || step.record.type !== SPOOL_RECORD.head) continue;
      segments.push({ number, path, sizeBytes: size, start: decodeSpoolFact<SegmentHead>(step.record).streams });
    } finally {
      await file.close();
    }
  }
  return segments;
}
