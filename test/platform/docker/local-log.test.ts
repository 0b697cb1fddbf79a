import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import type { StreamName } from '../../../src/capabilities/jobs/ports.ts';
import { lastMessageEndsLine, localLogPieces } from '../../../src/platform/docker/local-log.ts';

const PART = 'x'.repeat(16_384);

function frame(stream: StreamName, second: number, text: string): Buffer {
  const payload = Buffer.from(`2026-01-01T00:00:0${second}.000000000Z ${text}`);
  const head = Buffer.alloc(8);
  head[0] = stream === 'stderr' ? 2 : 1;
  head.writeUInt32BE(payload.length, 4);
  return Buffer.concat([head, payload]);
}

async function read(frames: readonly Buffer[], chunkBytes: number, endsLine = false): Promise<[string, string]> {
  const whole = Buffer.concat(frames);
  async function* chunks() {
    for (let at = 0; at < whole.length; at += chunkBytes) yield whole.subarray(at, at + chunkBytes);
  }
  const text = { stdout: '', stderr: '' };
  for await (const { stream, data } of localLogPieces(chunks(), () => endsLine))
    text[stream] += Buffer.from(data).toString();
  return [text.stdout, text.stderr];
}

/** An entry of the driver's file. `last` undefined: not a part. */
function entry(source: StreamName, line: string, last: boolean | undefined): Buffer {
  const field = (number: number, data: Buffer) => Buffer.concat([Buffer.of((number << 3) | 2, data.length), data]);
  const time = Buffer.of((2 << 3) | 0, 0x80, 0x80, 0x01);
  const part = last === undefined ? [] : [Buffer.of(4 << 3, 1), field(5, Buffer.of(8, last ? 1 : 0))];
  const message = Buffer.concat([field(1, Buffer.from(source)), time, field(3, Buffer.from(line)), ...part]);
  const size = Buffer.alloc(4);
  size.writeUInt32BE(message.length);
  return Buffer.concat([size, message, size]);
}

suite('local log', () => {
  test('puts lost newlines back, however it is cut', async () => {
    const frames = [
      frame('stdout', 1, 'short\n'),
      ...[frame('stdout', 2, PART), frame('stderr', 2, 'between\n'), frame('stdout', 2, 'end')],
      ...[frame('stdout', 3, PART), frame('stdout', 3, '')],
      ...[frame('stdout', 4, PART), frame('stdout', 4, 'rest\n')],
      frame('stdout', 5, '\n'),
    ];
    const wanted = [`short\n${PART}end\n${PART}\n${PART}rest\n\n`, 'between\n'];
    for (const size of [1, 7, 100, 16_384, 1e6]) assert.deepEqual(await read(frames, size), wanted);
  });

  test('invents none at the end unless the file says so', async () => {
    assert.deepEqual(await read([frame('stdout', 1, 'tail')], 100, true), ['tail', '']);
    const cut = [frame('stderr', 1, PART), frame('stderr', 1, 'tail')];
    assert.deepEqual(await read(cut, 100, false), ['', `${PART}tail`]);
    assert.deepEqual(await read(cut, 100, true), ['', `${PART}tail\n`]);
  });

  test('refuses what is no log', async () => {
    await assert.rejects(read([Buffer.from('HTTP/1.1 500')], 100), { reason: 'internal', message: /malformed/ });
    await assert.rejects(read([frame('stdout', 1, 'x').subarray(0, 20)], 100), { reason: 'unavailable' });
    const bare = Buffer.concat([Buffer.of(1, 0, 0, 0, 0, 0, 0, 3), Buffer.from('abc')]);
    await assert.rejects(read([bare], 100), { reason: 'internal', message: /timestamp/ });
  });

  test("reads the end of a stream from the driver's file", async () => {
    const folder = await mkdtemp(join(tmpdir(), 'll-local-log-'));
    try {
      const path = join(folder, 'container.log');
      const ends = async (entries: readonly Buffer[]) => {
        await writeFile(path, Buffer.concat(entries));
        return [lastMessageEndsLine(path, 'stdout'), lastMessageEndsLine(path, 'stderr')];
      };
      assert.deepEqual(await ends([entry('stdout', 'a', false), entry('stderr', 'b', undefined)]), [false, true]);
      assert.deepEqual(await ends([entry('stdout', 'a', false), entry('stdout', 'b', true)]), [true, false]);
      assert.deepEqual(await ends([]), [false, false]);
      assert.deepEqual(await ends([Buffer.from('this is no log of that driver')]), [false, false]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
