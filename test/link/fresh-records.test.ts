import assert from 'node:assert/strict';
import { truncate } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { silentLogger } from '../../src/core/logger.ts';
import { FreshRecords } from '../../src/link/fresh-records.ts';
import { LogCursor } from '../../src/link/log-cursor.ts';
import { LogSpool } from '../../src/link/log-spool.ts';
import type { SpooledLog } from '../../src/link/spooled-log.ts';
import { scratchFolder } from './scratch.ts';

const SEGMENT_BYTES = 200_000;

function openSpool(folder: string): Promise<LogSpool> {
  const limits = { maxBytes: 1e9, maxLogBytes: 1e9, segmentBytes: SEGMENT_BYTES };
  return LogSpool.open({ folder, log: silentLogger, limits });
}

const only = (spool: LogSpool) => [...spool.logs()][0]!;

async function written(log: SpooledLog): Promise<void> {
  while (log.writtenLengths().get('stdout') !== log.length('stdout')) await new Promise(setImmediate);
}

/** Takes up to `batches` batches and gives their bytes. */
async function taken(cursor: LogCursor, batches: number): Promise<Buffer> {
  const data: Uint8Array[] = [];
  for (let count = 0; count < batches; count++) {
    const batch = await cursor.next(64 * 1024);
    if (batch === undefined) break;
    assert.deepEqual(batch.gaps, []);
    data.push(...batch.chunks.map((chunk) => chunk.data));
  }
  return Buffer.concat(data);
}

describe('fresh records', () => {
  it('give a reader that keeps up, falls behind and catches up every byte once', async () => {
    await using folder = await scratchFolder();
    await using spool = await openSpool(folder.path);
    const producer = await spool.open('x');
    const log = only(spool);
    await using cursor = new LogCursor(log, new Map(), log.fresh);
    const put: Buffer[] = [];
    const got: Buffer[] = [];
    // The reader stops for 3 MB, which is more than is kept in memory.
    for (let round = 0; round < 60; round++) {
      const data = Buffer.alloc(100_000, round);
      put.push(Buffer.from(data));
      await producer.append({ stream: 'stdout', data }, round);
      await written(log);
      if (round < 10 || round > 40) got.push(await taken(cursor, 5));
    }
    await producer.close();
    got.push(await taken(cursor, 1000));
    assert.ok(Buffer.concat(got).equals(Buffer.concat(put)));
    assert.equal(cursor.damaged, false);
  });

  it('are not read from disk', async () => {
    await using folder = await scratchFolder();
    await using spool = await openSpool(folder.path);
    const producer = await spool.open('x');
    const log = only(spool);
    await using cursor = new LogCursor(log, new Map(), log.fresh);
    await producer.append({ stream: 'stdout', data: Buffer.from('first') }, 1);
    await written(log);
    assert.equal((await taken(cursor, 1)).toString(), 'first');
    await producer.append({ stream: 'stdout', data: Buffer.from('second') }, 1);
    await written(log);
    await truncate(log.segments[0]!.path, 10);
    assert.equal((await taken(cursor, 1)).toString(), 'second');
  });

  it('share one budget and give it back', () => {
    const budget = { maxBytes: 100, usedBytes: 0 };
    const logs = [new FreshRecords(budget), new FreshRecords(budget)] as const;
    const record = (start: number) => ({ item: { kind: 'other' }, segment: 1, start, end: start + 30 }) as const;
    for (const start of [0, 30, 60, 90]) logs[0].add(record(start));
    assert.equal(budget.usedBytes, 90);
    assert.equal(logs[0].take(1, 0), undefined, 'the oldest went');
    logs[1].add(record(0));
    assert.equal(logs[1].take(1, 0), undefined, 'no room is left for it');
    assert.equal(logs[0].take(1, 60)?.end, 90);
    assert.equal(budget.usedBytes, 30, 'what was passed is given back');
    logs[0].clear();
    logs[1].clear();
    assert.equal(budget.usedBytes, 0);
  });
});
