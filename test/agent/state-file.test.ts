import assert from 'node:assert/strict';
import { open as openOnDisk, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { StateFile, type StateFileOptions } from '../../src/agent/state-file.ts';
import type { OpenFile } from '../../src/link/record-file.ts';
import { RecordedLog, scratchFolder } from '../link/scratch.ts';

const text = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes).toString());

function open(folder: string, options: Partial<StateFileOptions> = {}): Promise<StateFile> {
  return StateFile.open(join(folder, 'state'), { log: new RecordedLog(), ...options });
}

describe('state file', () => {
  it('keeps facts by namespace over restarts, the last of each key, and lists by prefix', async () => {
    await using folder = await scratchFolder();
    {
      await using file = await open(folder.path);
      const jobs = file.namespace('jobs');
      await Promise.all([jobs.put('run/b', Buffer.from('1')), jobs.put('run/b', Buffer.from('2'))]);
      await jobs.put('run/a', Buffer.from('3'));
      await jobs.put('other', Buffer.from('4'));
      await file.namespace('sessions').put('run/a', Buffer.from('5'));
      await jobs.delete('other');
      await jobs.delete('never there');
    }
    await using file = await open(folder.path);
    const jobs = file.namespace('jobs');
    assert.deepEqual(await jobs.list('run/'), ['run/a', 'run/b']);
    assert.deepEqual(await jobs.list(''), ['run/a', 'run/b']);
    assert.equal(text(await jobs.get('run/b')), '2');
    assert.equal(await jobs.get('other'), undefined);
    assert.equal(text(await file.namespace('sessions').get('run/a')), '5');
  });

  it('holds nothing of a write that the disk refused, and works again when there is room', async () => {
    await using folder = await scratchFolder();
    let full = false;
    const openFile: OpenFile = async (name, flags, mode) => {
      const handle = await openOnDisk(name, flags, mode);
      const writev = handle.writev.bind(handle);
      handle.writev = ((frames: Uint8Array[]) =>
        full ? Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })) : writev(frames)) as typeof writev;
      return handle;
    };
    {
      await using file = await open(folder.path, { openFile });
      const jobs = file.namespace('jobs');
      await jobs.put('kept', Buffer.from('1'));
      full = true;
      await assert.rejects(jobs.put('kept', Buffer.from('2')), { reason: 'limit' });
      await assert.rejects(jobs.put('new', Buffer.from('2')), { reason: 'limit' });
      await assert.rejects(jobs.delete('kept'), { reason: 'limit' });
      assert.deepEqual([text(await jobs.get('kept')), await jobs.list('')], ['1', ['kept']]);
      full = false;
      await jobs.put('new', Buffer.from('3'));
    }
    await using file = await open(folder.path);
    assert.deepEqual(await file.namespace('jobs').list(''), ['kept', 'new']);
  });

  it('stays small however often facts change, and loses none to that', async () => {
    await using folder = await scratchFolder();
    {
      await using file = await open(folder.path, { compactFromBytes: 2000 });
      const jobs = file.namespace('jobs');
      await jobs.put('stays', Buffer.from('here'));
      for (let round = 0; round < 50; round++) {
        const keys = Array.from({ length: 10 }, (_, index) => `run/${round}-${index}`);
        await Promise.all(keys.map((key) => jobs.put(key, Buffer.alloc(50, 1))));
        await Promise.all(keys.map((key) => jobs.delete(key)));
      }
      await jobs.put('last', Buffer.from('too'));
    }
    assert.ok((await stat(join(folder.path, 'state'))).size < 10_000);
    await using file = await open(folder.path);
    assert.deepEqual(await file.namespace('jobs').list(''), ['last', 'stays']);
  });

  it('goes on with what was whole when its end is torn, and says so', async () => {
    await using folder = await scratchFolder();
    {
      await using file = await open(folder.path);
      await file.namespace('jobs').put('a', Buffer.from('1'));
      await file.namespace('jobs').put('b', Buffer.from('2'));
    }
    const path = join(folder.path, 'state');
    await truncate(path, (await stat(path)).size - 1);
    const log = new RecordedLog();
    await using file = await open(folder.path, { log });
    assert.deepEqual(await file.namespace('jobs').list(''), ['a']);
    assert.ok(log.has('error', 'damaged'));
  });
});
