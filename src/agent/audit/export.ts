// Audit records as JSON lines, for people and log systems.
import { AuditReader, type RecordFilter, type StoredRecord } from '../../platform/sqlite/audit-reader.ts';

const CHUNK_CHARACTERS = 64 * 1024;

/** Lines of the records that pass the filter, oldest first, in chunks of about 64 KiB that end with a line. */
export function* exportAuditLog(path: string, filter: RecordFilter): Generator<string, void, undefined> {
  using reader = new AuditReader(path);
  let chunk = '';
  for (const record of reader.records(filter)) {
    chunk += `${JSON.stringify(recordView(record))}\n`;
    if (chunk.length < CHUNK_CHARACTERS) continue;
    yield chunk;
    chunk = '';
  }
  if (chunk !== '') yield chunk;
}

function recordView(record: StoredRecord): Readonly<Record<string, unknown>> {
  return {
    sequence: record.sequence,
    time: timeText(record.timeMs),
    event: record.event,
    command_id: record.commandId,
    controller_id: record.controllerId,
    key_id: record.keyId,
    capability: record.capability,
    outcome: record.outcome,
    rule: record.rule,
    summary: summaryValue(record.summary),
    hash: Buffer.from(record.hash).toString('hex'),
  };
}

/** The log may have been tampered with: a time that is none is shown as the number it is. */
function timeText(ms: number): string | number {
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : ms;
}

/** Likewise a summary that is no JSON any more is shown as the text it is. */
function summaryValue(summary: string): unknown {
  try {
    return JSON.parse(summary);
  } catch {
    return summary;
  }
}
