// How a log is followed to its end when an engine's own follow stops short of it, as Docker's does now and then.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { RawContainer } from '../../../src/platform/docker/container-facts.ts';
import { followedLog } from '../../../src/platform/docker/container-log.ts';
import { LogPosition } from '../../../src/platform/docker/log-position.ts';
import { startScriptedEngine } from '../../fixtures/scripted-engine.ts';

const LINES = Array.from({ length: 40 }, (_, index) => `line ${index}\n`);

/** An entry of a log read with timestamps, in Docker's multiplexed form. */
function entry(index: number): Buffer {
  const message = Buffer.from(`2026-01-01T00:00:00.${String(index).padStart(9, '0')}Z ${LINES[index]}`);
  const header = Buffer.alloc(8);
  header[0] = index % 3 === 0 ? 2 : 1;
  header.writeUInt32BE(message.length, 4);
  return Buffer.concat([header, message]);
}

/** An engine that knows one log: a follow gives its first `followed` entries and ends, a plain reading gives all. */
async function logEngine(followed: number) {
  const readings: string[] = [];
  const engine = await startScriptedEngine((request, response) => {
    const follow = request.url!.includes('follow=1');
    readings.push(follow ? 'follow' : 'plain');
    response.writeHead(200, { 'content-type': 'application/octet-stream' });
    response.end(Buffer.concat(LINES.slice(0, follow ? followed : undefined).map((_, index) => entry(index))));
  });
  return { ...engine, readings };
}

const container = { Id: 'c'.repeat(64), HostConfig: { LogConfig: { Type: 'local' } } } as RawContainer;

suite('a followed log', () => {
  test('has what the follow of an engine dropped when the container ended', async () => {
    for (const followed of [0, 1, 25, LINES.length]) {
      await using engine = await logEngine(followed);
      const text = { stdout: '', stderr: '' };
      const source = { client: engine.client, container, engineRoot: undefined };
      for await (const { stream, data } of followedLog(source, () => Promise.resolve()))
        text[stream] += Buffer.from(data).toString();
      const of = (wanted: boolean) => LINES.filter((_, index) => (index % 3 === 0) === wanted).join('');
      assert.deepEqual(text, { stderr: of(true), stdout: of(false) });
      assert.equal(engine.readings.at(-1), 'plain', 'the last reading begins after the end and reads all');
    }
  });

  test('fails when it can not be said whether the container has ended', async () => {
    await using engine = await logEngine(1);
    const source = { client: engine.client, container, engineRoot: undefined };
    const lost = Promise.reject(new Error('the engine went away'));
    const read = async () => {
      for await (const _ of followedLog(source, () => lost));
    };
    await assert.rejects(read(), /went away/);
  });
});

test('a position goes on where the readings before stopped, in each stream and within pieces', async () => {
  const position = new LogPosition();
  const read = async (...texts: [stream: 'stdout' | 'stderr', text: string][]) => {
    const pieces = async function* () {
      for (const [stream, text] of texts) yield { stream, data: Buffer.from(text) };
    };
    const given: string[] = [];
    for await (const { stream, data } of position.beyond(pieces())) given.push(`${stream} ${Buffer.from(data)}`);
    return given;
  };
  assert.deepEqual(await read(['stdout', 'abc'], ['stderr', 'x']), ['stdout abc', 'stderr x']);
  assert.deepEqual(await read(['stdout', 'ab'], ['stderr', 'xy'], ['stdout', 'cde']), ['stderr y', 'stdout de']);
  assert.deepEqual(await read(['stdout', 'abcde'], ['stderr', 'xy']), []);
  assert.deepEqual(await read(['stdout', 'abcdef']), ['stdout f']);
});
