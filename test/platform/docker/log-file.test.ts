import assert from 'node:assert/strict';
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import type { OutputPiece } from '../../../src/capabilities/jobs/ports.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { containerEnd, followLogFile } from '../../../src/platform/docker/log-file.ts';

const TIME = '2026-11-30T00:00:06.123456789+00:00';

function entry(stream: 'stdout' | 'stderr', flag: 'F' | 'P', content: string | Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${TIME} ${stream} ${flag} `), Buffer.from(content), Buffer.from('\n')]);
}

async function inLog(work: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'll-log-'));
  try {
    const path = join(folder, 'ctr.log');
    await writeFile(path, '');
    await work(path);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function text(pieces: AsyncIterable<OutputPiece>): Promise<Record<string, string>> {
  const got: Record<string, string> = { stdout: '', stderr: '' };
  for await (const { stream, data } of pieces) got[stream] += Buffer.from(data).toString('latin1');
  return got;
}

suite('followed log file', () => {
  test('gives whole entries as they come, cut anywhere, until the end was seen and all was read', async () => {
    await inLog(async (path) => {
      const whole = Buffer.concat([
        entry('stdout', 'F', 'first'),
        entry('stderr', 'F', ''),
        entry('stdout', 'P', 'be'),
        entry('stdout', 'F', 'gun'),
        entry('stdout', 'F', Buffer.from([0, 255, 32, 13])),
        entry('stderr', 'P', 'no newline'),
        entry('stdout', 'F', 'x'.repeat(200_000)),
      ]);
      const end = Promise.withResolvers<void>();
      const reading = text(followLogFile(path, containerEnd(end.promise)));
      let at = 0;
      for (const size of [3, 37, 41, 46, 90, 131, 300, 70_000, whole.length]) {
        await appendFile(path, whole.subarray(at, at + size));
        at += size;
      }
      end.resolve();
      assert.deepEqual(await reading, {
        stdout: `first\nbegun\n\0\xff \r\n${'x'.repeat(200_000)}\n`,
        stderr: '\nno newline',
      });
    });
  });

  test('is left when its reader gives up', async () => {
    await inLog(async (path) => {
      await writeFile(path, Buffer.concat(Array.from({ length: 100 }, () => entry('stdout', 'F', 'x'.repeat(2000)))));
      const stop = new AbortController();
      const read = async () => {
        for await (const _ of followLogFile(path, containerEnd(Promise.resolve()), stop.signal)) stop.abort();
      };
      await assert.rejects(read(), { reason: 'cancelled' });
    });
  });

  test('fails as the wait for the end does, and on what is no entry', async () => {
    await inLog(async (path) => {
      const lost = new LonglineError('unavailable', 'the engine is gone');
      await assert.rejects(text(followLogFile(path, containerEnd(Promise.reject(lost)))), lost);
      await writeFile(path, 'no entry at all\n');
      const broken = text(followLogFile(path, containerEnd(Promise.resolve())));
      await assert.rejects(broken, { reason: 'internal', message: /"no entry at all\\n"/ });
      await assert.rejects(text(followLogFile(`${path}.x`, containerEnd(Promise.resolve()))), { reason: 'not_found' });
    });
  });
});
