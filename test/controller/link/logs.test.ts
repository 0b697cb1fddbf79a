import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { TailLogsResponse } from '#gen/longline/fleet/v1/job_service_pb.js';
import { JobState, StdinMode } from '#gen/longline/v1/job_pb.js';
import { assemble, chunk, closeOf, gap } from '../logs/reference-log.ts';
import {
  type ControlStream,
  FleetUnderTest,
  type LogsStream,
  runOn,
  type ScriptedAgent,
  until,
} from './fleet-fixture.ts';

describe('log stream', () => {
  let fleet: FleetUnderTest;
  let agent: ScriptedAgent;
  let control: ControlStream;
  let executionId: string;
  beforeEach(async () => {
    fleet = await FleetUnderTest.start();
    agent = fleet.agent('a');
    control = await agent.connect();
    executionId = await submit();
  });
  afterEach(async () => await fleet[Symbol.asyncDispose]());

  const submit = async (spec: object = { argv: ['true'] }) => {
    const { job } = await fleet.jobs.submitJob({ job: { ...runOn('a'), spec } });
    return job!.executions[0]!.id;
  };
  const opened = async (handle = 1, logId = executionId): Promise<LogsStream> => {
    const stream = agent.logs();
    stream.send({ case: 'open', value: { handle, logId, attempt: 1, kind: 'job' } });
    return stream;
  };
  const tail = async (more: object = {}) => {
    const responses: TailLogsResponse[] = [];
    for await (const response of fleet.jobs.tailLogs({ jobId: executionId, ...more })) responses.push(response);
    return responses.map((response) => response.output!.part as never);
  };

  it('stores, acknowledges what is durable, verifies the close and resumes', async () => {
    const first = await opened();
    assert.deepEqual((await first.next('resume')).offsets, {});
    first.send({
      case: 'batch',
      value: { handle: 1, chunks: [chunk('stdout', 0, 'hello '), chunk('stderr', 0, 'warn')] },
    });
    await until('both durable', async () => (await first.next('ack')).offsets['stderr'] === 4n);
    first.close();
    const second = await opened(7);
    const resume = await second.next('resume');
    assert.deepEqual(resume.offsets, { stdout: 6n, stderr: 4n });
    assert.equal(resume.closed, false);
    second.send({
      case: 'batch',
      value: { handle: 7, chunks: [chunk('stdout', 3, 'lo world')], gaps: [gap('stderr', 4, 9)] },
    });
    const close = closeOf({ stdout: Buffer.from('hello world') });
    close.streams.push({ ...closeOf({ stderr: Buffer.from('warn') }, 5).streams[0]! });
    second.send({ case: 'end', value: { handle: 7, close } });
    assert.equal((await second.next('endAck')).error, undefined);
    const parts = await tail();
    assert.equal(assemble(parts, 'stdout').toString(), 'hello world');
    assert.equal(assemble(await tail({ from: { stdout: 6n }, streams: ['stdout'] }), 'stdout', 6).toString(), 'world');
    const third = await opened();
    assert.equal((await third.next('resume')).closed, true);
  });

  it('ends the stream at a hole or damage, with the reason, and keeps what it had', async () => {
    for (const [bad, reason] of [
      [chunk('stdout', 5, 'x'), /stored up to 2, this begins at 5/],
      [{ ...chunk('stdout', 2, 'x'), crc32c: 1 }, /CRC-32C/],
    ] as const) {
      const stream = await opened();
      await stream.next('resume');
      stream.send({ case: 'batch', value: { handle: 1, chunks: [chunk('stdout', 0, 'ab')] } });
      await stream.next('ack');
      stream.send({ case: 'batch', value: { handle: 1, chunks: [bad] } });
      assert.equal(await stream.end(), 3);
      assert.match(stream.error?.details ?? '', reason);
    }
    assert.equal(assemble(await tail(), 'stdout').toString(), 'ab');
  });

  it('says what disagrees with a close and takes the log anew', async () => {
    const stream = await opened();
    await stream.next('resume');
    stream.send({ case: 'batch', value: { handle: 1, chunks: [chunk('stdout', 0, 'ab')] } });
    stream.send({ case: 'end', value: { handle: 1, close: closeOf({ stdout: Buffer.from('abc') }) } });
    assert.match((await stream.next('endAck')).error?.message ?? '', /length: is 3, but 2 is stored/);
    stream.send({ case: 'batch', value: { handle: 1, chunks: [chunk('stdout', 0, 'abc')] } });
    stream.send({ case: 'end', value: { handle: 1, close: closeOf({ stdout: Buffer.from('abc') }) } });
    assert.equal((await stream.next('endAck')).error, undefined);
    assert.equal(assemble(await tail(), 'stdout').toString(), 'abc');
  });

  it('takes logs from their owner only, and has unknown ones dropped', async () => {
    const thief = fleet.agent('b').logs();
    thief.send({ case: 'open', value: { handle: 1, logId: executionId, attempt: 1, kind: 'job' } });
    assert.equal(await thief.end(), 7);
    const unknown = await opened(1, '0190aaaa-0000-7000-8000-00000000abcd');
    assert.equal((await unknown.next('resume')).closed, true);
    unknown.send({ case: 'batch', value: { handle: 9, chunks: [] } });
    assert.equal(await unknown.end(), 3);
  });

  it('feeds a follower that came early and one that came late the same', async () => {
    const early = tail({ follow: true });
    const stream = await opened();
    await stream.next('resume');
    const pieces = Array.from({ length: 50 }, (_, i) => Buffer.from(`line ${i}\n`));
    let offset = 0;
    for (const piece of pieces) {
      stream.send({ case: 'batch', value: { handle: 1, chunks: [chunk('stdout', offset, piece)] } });
      offset += piece.length;
    }
    const all = Buffer.concat(pieces);
    stream.send({ case: 'end', value: { handle: 1, close: closeOf({ stdout: all }) } });
    assert.deepEqual(assemble(await early, 'stdout'), all);
    assert.deepEqual(assemble(await tail({ follow: true }), 'stdout'), all);
  });

  it('ends a follower whose job ended without output, or was never sent', async () => {
    const following = tail({ follow: true });
    const command = await control.next('command');
    control.receive(command);
    control.finish(command, JobState.FAILED);
    assert.deepEqual(await following, []);
  });

  it('carries input within a window, over a new stream, and to its end', async () => {
    executionId = await submit({ argv: ['cat'], stdinMode: StdinMode.STREAM });
    await control.next('command');
    const command = await control.next('command');
    assert.equal(command.id, executionId);
    // Before the agent has the command there is nobody to take its input.
    control.receive(command);
    const write = (offset: number, data: Uint8Array, end = false) =>
      fleet.jobs.writeInput({ jobId: executionId, offset: BigInt(offset), data, end });
    const first = agent.logs();
    const piece = Buffer.alloc(64 * 1024, 1);
    const taken = async (stream: LogsStream, offset: number, closed = false) =>
      stream.send({ case: 'inputAck', value: { logId: executionId, offset: BigInt(offset), closed } });
    const writing = write(0, piece);
    assert.equal((await first.next('input')).data.length, 0);
    await taken(first, 0);
    assert.equal((await writing).acceptedOffset, 65_536n);
    for (let i = 1; i < 4; i++) await write(i * 65_536, piece);
    let answered = false;
    const fifth = write(4 * 65_536, piece).finally(() => {
      answered = true;
    });
    for (let i = 0; i < 4; i++) assert.equal((await first.next('input')).offset, BigInt(i * 65_536));
    for (let i = 0; i < 3; i++) await fleet.jobs.getJob({ jobId: executionId });
    assert.equal(answered, false);
    assert.deepEqual(first.received, []);
    await taken(first, 65_536);
    assert.equal((await fifth).acceptedOffset, 5n * 65_536n);
    assert.equal((await write(0, piece)).acceptedOffset, 5n * 65_536n);
    assert.equal((await write(6 * 65_536, piece)).acceptedOffset, 5n * 65_536n);
    first.close();
    const second = agent.logs();
    assert.equal((await second.next('input')).data.length, 0);
    await taken(second, 3 * 65_536);
    const resent = [await second.next('input'), await second.next('input')];
    assert.deepEqual(
      resent.map((input) => input.offset),
      [3n * 65_536n, 4n * 65_536n],
    );
    const ending = write(5 * 65_536, Buffer.from('bye'), true);
    const last = await second.next('input');
    assert.deepEqual([Buffer.from(last.data).toString(), last.end], ['bye', true]);
    assert.equal((await ending).acceptedOffset, 5n * 65_536n + 3n);
    await taken(second, 5 * 65_536 + 3, true);
    control.finish(command);
    await control.next('resultAck');
    assert.equal((await write(5 * 65_536 + 3, Buffer.from('x'))).closed, true);
  });

  it('sends no input before the agent has the command, and sends it then', async () => {
    executionId = await submit({ argv: ['cat'], stdinMode: StdinMode.STREAM });
    await control.next('command');
    const command = await control.next('command');
    const stream = agent.logs();
    const writing = fleet.jobs.writeInput({ jobId: executionId, offset: 0n, data: Buffer.from('early'), end: true });
    // Long enough for what must not come: each is a whole round trip to the same process.
    for (let trip = 0; trip < 20; trip++) await fleet.jobs.getJob({ jobId: executionId });
    assert.deepEqual(stream.received, []);
    control.receive(command);
    assert.equal((await stream.next('input')).data.length, 0);
    stream.send({ case: 'inputAck', value: { logId: executionId, offset: 0n, closed: false } });
    assert.equal(Buffer.from((await stream.next('input')).data).toString(), 'early');
    assert.equal((await writing).acceptedOffset, 5n);
    control.finish(command);
  });
});
