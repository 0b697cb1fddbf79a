// What happens to bytes of logs as time passes and room runs out, and to those that come meanwhile.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readlink, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { FileLogStore } from '../../../src/controller/logs/file-log-store.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { chunk, closeOf } from './reference-log.ts';

const ALL = { from: new Map<string, number>(), streams: new Set<string>() };

describe('retention of logs', () => {
  let root: string;
  let store: FileLogStore;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'longline-logs-'));
    store = new FileLogStore(root, silentLogger);
  });
  afterEach(async () => {
    await store[Symbol.asyncDispose]();
    await rm(root, { recursive: true, force: true });
  });

  const write = async (logId: string, text: string) => {
    const writer = await store.writer({ logId, attempt: 1 });
    await writer.append({ chunks: [chunk('stdout', 0, text)], gaps: [] });
    await writer.close(closeOf({ stdout: Buffer.from(text) }));
    writer.release();
  };
  const partsOf = async (logId: string) => {
    const cursor = await store.cursor({ logId, attempt: 1 }, ALL);
    const kinds = new Set<string>();
    for (let parts = await cursor!.read(); parts.length > 0; parts = await cursor!.read()) {
      for (const part of parts) kinds.add(part.case);
    }
    return [...kinds];
  };
  const age = async (logId: string, seconds: number) => {
    for (const file of await readdir(root, { recursive: true })) {
      if (file.includes(`/${logId}/1/`)) await utimes(join(root, file), seconds, seconds);
    }
  };

  it('prunes logs that it has open though nobody uses them', async () => {
    await write('used-before', 'abc');
    await age('used-before', 1000);
    assert.equal(await store.prune(Date.now() - 3_600_000), 1);
    assert.deepEqual(await partsOf('used-before'), ['gap', 'close']);
  });

  it('never prunes what came while it was pruned', async () => {
    const key = { logId: 'late', attempt: 1 };
    const writer = await store.writer(key);
    await writer.append({ chunks: [chunk('stdout', 0, 'abc')], gaps: [] });
    await writer.sync();
    writer.release();
    await age('late', 1000);
    let over = false;
    const pruning = store.prune(Date.now() - 3_600_000).finally(() => {
      over = true;
    });
    const begun = async () => (await readdir(root, { recursive: true })).some((name) => name.endsWith('.pruned'));
    while (!over && !(await begun()));
    const late = await store.writer(key);
    await late.append({ chunks: [chunk('stdout', 3, 'def')], gaps: [] });
    late.release();
    await pruning;
    const again = await store.writer(key);
    await again.sync();
    assert.equal(again.durableOffsets().get('stdout'), 6);
    again.release();
  });

  it('leaves no file open of a log that is removed while it is written to', {
    skip: process.platform !== 'linux',
  }, async () => {
    const openFiles = async () => {
      const targets = (await readdir('/proc/self/fd')).map((name) => readlink(`/proc/self/fd/${name}`).catch(() => ''));
      return (await Promise.all(targets)).filter((target) => target.startsWith(root));
    };
    for (let round = 0; round < 20; round++) {
      const writer = await store.writer({ logId: 'removed', attempt: 1 });
      let over = false;
      const removing = store.delete('removed').finally(() => {
        over = true;
      });
      for (let at = 0; !over; at++) {
        await writer.append({ chunks: [chunk('stdout', at, 'x')], gaps: [] }).catch(() => undefined);
      }
      await removing;
      writer.release();
    }
    // What was left open would end the process as soon as it is collected.
    const endsAtMs = performance.now() + 60_000;
    while ((await openFiles()).length > 0 && performance.now() < endsAtMs) await new Promise(setImmediate);
    assert.deepEqual(await openFiles(), []);
  });

  it('makes room by what was written longest ago, and leaves what is in use', async () => {
    const KIB = 1024;
    const text = (letter: string) => letter.repeat(20 * KIB);
    for (const [index, logId] of ['in-use', 'oldest', 'older', 'new'].entries()) {
      await write(logId, text(logId[0]!));
      await age(logId, 1000 + index);
    }
    const user = await store.writer({ logId: 'in-use', attempt: 1 });
    assert.equal(await store.shrink(200 * KIB), 0);
    // What was appended since is known without counting again.
    assert.equal(await store.shrink(1), 0);
    await write('more', 'm'.repeat(60 * KIB));
    await write('most', 'n'.repeat(60 * KIB));
    let looks = 0;
    assert.equal(await store.shrink(180 * KIB, undefined, () => void looks++), 2);
    assert.ok(looks >= 6 + 2, 'all are counted, and some go');
    assert.deepEqual(await Promise.all(['in-use', 'oldest', 'older', 'new', 'more'].map(partsOf)), [
      ['chunk', 'close'],
      ['gap', 'close'],
      ['gap', 'close'],
      ['chunk', 'close'],
      ['chunk', 'close'],
    ]);
    user.release();
  });

  it('counts again only when more was appended, where nothing can go', async () => {
    const user = await store.writer({ logId: 'one', attempt: 1 });
    await user.append({ chunks: [chunk('stdout', 0, 'x'.repeat(50_000))], gaps: [] });
    assert.equal(await store.shrink(10_000), 0);
    user.release();
    assert.equal(await store.shrink(10_000), 0);
    await write('another', 'y'.repeat(1000));
    assert.equal(await store.shrink(10_000), 1);
  });

  it('syncs what was appended before, however much is appended meanwhile', async () => {
    const writer = await store.writer({ logId: 'one', attempt: 1 });
    let offset = 0;
    let over = false;
    const append = async () => {
      await writer.append({ chunks: [chunk('stdout', offset, 'abc')], gaps: [] });
      offset += 3;
    };
    await append();
    const synced = writer.sync().then(() => {
      over = true;
    });
    // However long the disk takes: one that waited for these would never be over.
    for (const endsAtMs = performance.now() + 60_000; !over && performance.now() < endsAtMs; ) await append();
    assert.ok(over, 'a sync waits for appends that came after it');
    await synced;
    writer.release();
  });
});
