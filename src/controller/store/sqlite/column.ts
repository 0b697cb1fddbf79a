// Reading columns back: SQLite values to the types of the records.
import { LonglineError } from '../../../core/errors.ts';
import type { Labels } from '../agent.ts';
import type { Row } from './database.ts';

/** A column that is never null. */
export function text(row: Row, column: string): string {
  return String(row[column]);
}

/** A number column that is never null. */
export function number(row: Row, column: string): number {
  return Number(row[column]);
}

/** A number column; null becomes undefined. */
export function optionalNumber(row: Row, column: string): number | undefined {
  const value = row[column];
  return value === null || value === undefined ? undefined : Number(value);
}

/** A text column; null becomes undefined. */
export function optionalText(row: Row, column: string): string | undefined {
  const value = row[column];
  return typeof value === 'string' ? value : undefined;
}

/** A blob column that is never null. */
export function blob(row: Row, column: string): Uint8Array {
  const value = optionalBlob(row, column);
  if (value === undefined) throw new LonglineError('internal', `column ${column} holds no bytes`);
  return value;
}

/** A blob column; null becomes undefined. */
export function optionalBlob(row: Row, column: string): Uint8Array | undefined {
  const value = row[column];
  return value instanceof Uint8Array ? value : undefined;
}

/** Labels kept as a JSON object. */
export function labels(row: Row, column: string): Labels {
  return JSON.parse(text(row, column)) as Labels;
}

/** True if two byte strings are the same. */
export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}
