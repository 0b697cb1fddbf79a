// Lines for the journal of systemd, which takes a level from a mark before a line and strikes the mark off.
import { fstatSync } from 'node:fs';
import type { DestinationStream } from 'pino';

/** Priorities of syslog by level of pino. */
const PRIORITY: Readonly<Record<number, number>> = { 20: 7, 30: 6, 40: 4, 50: 3 };
const STANDARD_ERROR = 2;

/** True if standard error is what JOURNAL_STREAM ("device:inode") names, and not a file or pipe that it was led to since. */
export function isJournal(journalStream: string | undefined): boolean {
  if (journalStream === undefined || journalStream === '') return false;
  try {
    const { dev, ino } = fstatSync(STANDARD_ERROR, { bigint: true });
    return journalStream === `${dev}:${ino}`;
  } catch {
    // Closed: nobody reads it anyway.
    return false;
  }
}

/** Puts the priority before each line. */
export function journalStream(inner: DestinationStream): DestinationStream {
  const stream = {
    // Has pino say the level of each line.
    [Symbol.for('pino.metadata')]: true,
    lastLevel: 0,
    write: (line: string) => inner.write(`<${PRIORITY[stream.lastLevel] ?? PRIORITY[30]}>${line}`),
  };
  return stream;
}
