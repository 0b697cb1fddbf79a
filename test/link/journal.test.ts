import assert from 'node:assert/strict';
import { appendFile, open as openOnDisk, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../src/core/errors.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { decodeRecord } from '../../src/core/record-codec.ts';
import { hostFolders } from '../../src/link/folder-operations.ts';
import { Journal } from '../../src/link/journal.ts';
import {
  encodeJournalRecord,
  JOURNAL_RECORD,
  type ReceivedCommand,
  receivedRecord,
  repliedRecord,
} from '../../src/link/journal-record.ts';
import { JournalState } from '../../src/link/journal-state.ts';
import type { OpenFile } from '../../src/link/record-file.ts';
import { RecordedLog, SetClock, scratchFolder } from './scratch.ts';

const clock = new SetClock();
const HOUR_MS = 3_600_000;

function command(id: string, seq = 1, nonce = ''): ReceivedCommand {
  return {
    id,
    seq: String(seq),
    capability: 'jobs',
    action: Buffer.from(`action of ${id}`),
    receivedAtMs: clock.nowMs,
    expiresAtMs: clock.nowMs + HOUR_MS,
    traceparent: '',
    nonce,
    nonceExpiresAtMs: clock.nowMs + HOUR_MS,
  };
}

function reply(id: string, seq = 1) {
  return { id, seq: String(seq), expiresAtMs: clock.nowMs + HOUR_MS, message: Buffer.from(`reply to ${id}`) };
}

const phases = (journal: Journal, ids: readonly string[]) => ids.map((id) => journal.find(id)?.phase);

describe('journal', () => {
  it('survives random restarts like a map that never forgets', async () => {
    const step = fc.record({
      what: fc.constantFrom('receive', 'reply', 'acknowledge', 'reopen', 'tear'),
      which: fc.nat({ max: 9 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        await using folder = await scratchFolder();
        // Small enough that compaction happens all the time.
        const options = { folder: folder.path, clock, log: silentLogger, compactFromBytes: 600 };
        const model = new Map<string, string>();
        let journal = await Journal.open(options);
        let seq = 0;
        for (const { what, which } of steps) {
          const id = `command-${which}`;
          const phase = model.get(id);
          if (what === 'receive' && phase === undefined) {
            await journal.receive(command(id, ++seq, `0${which}`));
            model.set(id, 'received');
          } else if (what === 'reply' && phase === 'received') {
            await journal.reply(reply(id, seq));
            model.set(id, 'replied');
          } else if (what === 'acknowledge' && phase === 'replied') {
            await journal.acknowledge([id]);
            model.set(id, 'acknowledged');
          } else if (what === 'reopen' || what === 'tear') {
            await journal[Symbol.asyncDispose]();
            if (what === 'tear') await appendFile(join(folder.path, 'commands.journal'), Buffer.from([9, 0, 0, 0, 1]));
            journal = await Journal.open(options);
            assert.equal(journal.loss?.bytes, what === 'tear' ? 5 : undefined);
          }
          const ids = Array.from({ length: 10 }, (_, index) => `command-${index}`);
          assert.deepEqual(
            phases(journal, ids),
            ids.map((known) => model.get(known)),
          );
          assert.equal(journal.lastSeq, BigInt(seq));
          assert.equal(journal.nonceSeen(`0${which}`, 'another'), model.has(id));
        }
        for (const { id, action } of journal.unfinished()) assert.equal(String(Buffer.from(action)), `action of ${id}`);
        for (const { id, message } of journal.pendingReplies()) {
          assert.equal(String(Buffer.from(message)), `reply to ${id}`);
        }
        await journal[Symbol.asyncDispose]();
      }),
      { numRuns: 40 },
    );
  });

  it('is not moved back by records that come twice, as compaction may leave them', () => {
    const frames = [receivedRecord(command('a', 1, 'ab')), repliedRecord(reply('a'))];
    const acknowledged = encodeJournalRecord(JOURNAL_RECORD.acknowledged, { ids: ['a'] });
    const apply = (state: JournalState, frame: Buffer) => {
      const found = decodeRecord(frame, 0);
      assert.ok(found.kind === 'record');
      state.apply(found.record);
    };
    const state = new JournalState();
    for (const frame of [...frames, acknowledged, ...frames]) apply(state, frame);
    assert.equal(state.find('a')?.phase, 'acknowledged');
    assert.equal(state.replied.size + state.received.size, 0);
    const copy = new JournalState();
    for (const frame of state.snapshot(clock.nowMs)) apply(copy, frame);
    assert.deepEqual(copy, state);
    assert.equal(state.unreadable, 0);
  });

  it('loses nothing that was promised when the file is cut after it', async () => {
    await using folder = await scratchFolder();
    const path = join(folder.path, 'commands.journal');
    const options = { folder: folder.path, clock, log: new RecordedLog() };
    const sizes: number[] = [];
    {
      await using journal = await Journal.open(options);
      for (let index = 0; index < 5; index++) {
        await journal.receive(command(`c${index}`, index + 1));
        sizes.push((await readFile(path)).length);
      }
    }
    for (let kept = 5; kept >= 1; kept--) {
      await truncate(path, sizes[kept - 1]! + (kept < 5 ? 3 : 0));
      await using journal = await Journal.open(options);
      assert.equal(journal.unfinishedCount, kept);
      assert.equal(journal.lastSeq, BigInt(kept));
    }
    assert.ok(options.log.has('error', 'journal tail was damaged'));
  });

  it('remembers a nonce until it expires, through restart and compaction', async () => {
    await using folder = await scratchFolder();
    const options = { folder: folder.path, clock, log: silentLogger, compactFromBytes: 1 };
    const before = clock.nowMs;
    try {
      for (let round = 0; round < 3; round++) {
        await using journal = await Journal.open(options);
        if (round === 0) await journal.receive(command('a', 1, 'abcd'));
        assert.ok(journal.nonceSeen('abcd', 'b'));
        assert.ok(!journal.nonceSeen('abcd', 'a'), 'a repeat of the same command is no replay');
        await journal.reply(reply('a'));
        await journal.acknowledge(['a']);
      }
      clock.nowMs += HOUR_MS;
      await using journal = await Journal.open(options);
      assert.ok(!journal.nonceSeen('abcd', 'b'));
    } finally {
      clock.nowMs = before;
    }
  });

  it('takes a nonce for used even by the command that used it, once that command is forgotten', async () => {
    await using folder = await scratchFolder();
    await using journal = await Journal.open({ folder: folder.path, clock, log: silentLogger, compactFromBytes: 1 });
    const before = clock.nowMs;
    try {
      // The envelope's expiry is the controller's word; the statement's, and so the nonce's, is the signer's.
      const short = { ...command('a', 1, 'abcd'), expiresAtMs: clock.nowMs + 1000 };
      await journal.receive(short);
      await journal.reply({ ...reply('a'), expiresAtMs: short.expiresAtMs });
      await journal.acknowledge(['a']);
      clock.nowMs += 2000;
      for (let index = 0; journal.find('a') !== undefined; index++) {
        assert.ok(index < 1000, 'the command is forgotten in the end');
        await journal.reply(reply(`junk-${index}`));
      }
      assert.ok(journal.nonceSeen('abcd', 'a'));
      await assert.rejects(journal.receive({ ...short, expiresAtMs: clock.nowMs + 1000 }), { reason: 'identity' });
      assert.equal(journal.unfinishedCount, 0);
    } finally {
      clock.nowMs = before;
    }
  });

  it('stays small: what is over is compacted away after its expiry', async () => {
    await using folder = await scratchFolder();
    await using journal = await Journal.open({
      folder: folder.path,
      clock,
      log: silentLogger,
      compactFromBytes: 3000,
    });
    const before = clock.nowMs;
    try {
      for (let index = 0; index < 300; index++) {
        await journal.receive(command(`c${index}`, index + 1, index.toString(16).padStart(8, '0')));
        await journal.reply(reply(`c${index}`, index + 1));
        await journal.acknowledge([`c${index}`]);
        clock.nowMs += HOUR_MS;
      }
    } finally {
      clock.nowMs = before;
    }
    const { length } = await readFile(join(folder.path, 'commands.journal'));
    assert.ok(length < 9000, `journal has ${length} bytes after 300 commands that are over`);
    assert.equal(journal.lastSeq, 300n);
  });

  it('refuses receipts and replies on a full disk without a trace, and keeps acknowledgements until the disk takes them', async () => {
    await using folder = await scratchFolder();
    let full = false;
    const openFile: OpenFile = async (name, flags, mode) => {
      const handle = await openOnDisk(name, flags, mode);
      const writev = handle.writev.bind(handle);
      handle.writev = ((frames: Uint8Array[]) =>
        full ? Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })) : writev(frames)) as typeof writev;
      return handle;
    };
    const options = { folder: folder.path, clock, log: silentLogger, openFile };
    {
      await using journal = await Journal.open(options);
      await journal.receive(command('a', 1));
      await journal.receive(command('c', 3));
      await journal.reply(reply('c', 3));
      full = true;
      await assert.rejects(
        journal.receive(command('b', 2, 'beef')),
        (error) => error instanceof LonglineError && error.reason === 'limit' && error.retryable,
      );
      assert.equal(journal.find('b'), undefined);
      assert.ok(!journal.nonceSeen('beef', 'c'));
      await assert.rejects(journal.reply(reply('a')), LonglineError);
      assert.equal(journal.find('a')?.phase, 'received', 'who starts on this disk would find it unfinished');
      assert.ok(!journal.hasBacklog);
      await assert.rejects(journal.acknowledge(['c']), LonglineError);
      assert.ok(journal.hasBacklog);
      full = false;
      await journal.writeBacklog();
      assert.ok(!journal.hasBacklog);
    }
    await using journal = await Journal.open(options);
    assert.deepEqual(phases(journal, ['a', 'b', 'c']), ['received', undefined, 'acknowledged']);
  });

  it('names as unfinished only what is on disk', async () => {
    await using folder = await scratchFolder();
    await using journal = await Journal.open({ folder: folder.path, clock, log: silentLogger });
    const receiving = journal.receive(command('a'));
    assert.deepEqual(journal.unfinished(), []);
    assert.equal(journal.unfinishedCount, 1);
    await receiving;
    assert.deepEqual(
      journal.unfinished().map(({ id }) => id),
      ['a'],
    );
    const replying = journal.reply(reply('a'));
    assert.deepEqual(journal.pendingReplies(), []);
    await replying;
    assert.deepEqual(journal.pendingReplies(), [reply('a')]);
  });

  it('makes what it finds, and its own name, durable before it says so', async () => {
    await using folder = await scratchFolder();
    const done: string[] = [];
    const openFile: OpenFile = async (name, flags, mode) => {
      const handle = await openOnDisk(name, flags, mode);
      const datasync = handle.datasync.bind(handle);
      handle.datasync = async () => {
        await datasync();
        done.push('content');
      };
      return handle;
    };
    const sync = async (path: string) => {
      await hostFolders.sync(path);
      done.push(path);
    };
    const options = { folder: folder.path, clock, log: silentLogger, openFile, folders: { ...hostFolders, sync } };
    for (const _ of ['new', 'found']) {
      await using journal = await Journal.open(options);
      assert.deepEqual(done.splice(0), ['content', folder.path]);
      assert.equal(journal.loss, undefined);
    }
  });

  it('forgets nothing of the last welcome, nor of nonces of what is no command', async () => {
    await using folder = await scratchFolder();
    const options = { folder: folder.path, clock, log: silentLogger, compactFromBytes: 1 };
    const memory = { sessionToken: '0102', acknowledgedFactsDigest: 'ff', controllerId: 'c1' };
    {
      await using journal = await Journal.open(options);
      await journal.putLinkMemory(memory);
      await journal.useNonce('aa', 'state network 7 0', clock.now() + 60_000);
      await journal.useNonce('aa', 'state network 7 0', clock.now() + 60_000);
      await assert.rejects(journal.useNonce('aa', 'state network 8 7', clock.now() + 60_000), /nonce was used/);
      await journal.useNonce('bb', 'state network 8 7', clock.now());
    }
    await using journal = await Journal.open(options);
    assert.deepEqual(journal.linkMemory, memory);
    assert.equal(journal.nonceUsedByOther('aa', 'state network 7 0'), false);
    assert.equal(journal.nonceUsedByOther('aa', 'state network 8 7'), true);
    assert.equal(journal.nonceSeen('aa', 'a command'), true);
    assert.equal(journal.nonceUsedByOther('bb', 'state network 9 8'), false, 'its statement is over');
  });
});
