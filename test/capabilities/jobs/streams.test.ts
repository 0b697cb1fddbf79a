// Output and input of a job byte by byte: the recorder, recovery by offset, the input gate and the events.
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { EventStream } from '../../../src/capabilities/jobs/event-stream.ts';
import type { JobEnding } from '../../../src/capabilities/jobs/events.ts';
import { InputGate } from '../../../src/capabilities/jobs/input-gate.ts';
import type { OutputPiece, StreamName } from '../../../src/capabilities/jobs/ports.ts';
import type { CapabilityEvent } from '../../../src/core/capability.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { OutputRecorder, unseen } from '../../../src/core/output/output-recorder.ts';
import { decodeStep } from './job-messages.ts';
import { MemoryLog } from './jobs-fixture.ts';

async function* from(pieces: readonly OutputPiece[]): AsyncGenerator<OutputPiece> {
  yield* pieces;
}

/** Cuts text into pieces at these sizes, the streams interleaved. */
function piecesOf(texts: Record<StreamName, string>, sizes: readonly number[]): OutputPiece[] {
  const rest = { ...texts };
  const pieces: OutputPiece[] = [];
  for (let turn = 0; rest.stdout + rest.stderr !== ''; turn++) {
    const stream: StreamName = turn % 2 === 0 ? 'stdout' : 'stderr';
    const size = sizes[turn % sizes.length]!;
    if (rest[stream] !== '') pieces.push({ stream, data: Buffer.from(rest[stream].slice(0, size)) });
    rest[stream] = rest[stream].slice(size);
  }
  return pieces;
}

const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '\n'), maxLength: 60 });
const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });

suite('recorded output', () => {
  test('is whole up to the limit however it is cut and wherever it was broken off', async () => {
    await fc.assert(
      fc.asyncProperty(
        text,
        text,
        sizes,
        sizes,
        fc.nat(30),
        fc.integer({ min: 0, max: 80 }),
        async (stdout, stderr, first, second, cutAt, limit) => {
          const log = new MemoryLog();
          const before = new OutputRecorder(log, limit, systemClock);
          for (const piece of piecesOf({ stdout, stderr }, first).slice(0, cutAt)) await before.record(piece);
          // A crash: what is undeclared is forgotten, what is in the log is safe.
          const after = new OutputRecorder(log, limit, systemClock);
          for await (const piece of unseen(from(piecesOf({ stdout, stderr }, second)), after, 1e9))
            await after.record(piece);
          const closed = await after.close();
          for (const [stream, whole] of [
            ['stdout', stdout],
            ['stderr', stderr],
          ] as const) {
            assert.equal(log.text(stream), whole.slice(0, limit));
            assert.equal(after.position(stream), whole.length);
            const ends = closed.find((end) => end.stream === stream)!;
            assert.deepEqual([ends.lengthBytes, ends.gapBytes], [whole.length, Math.max(0, whole.length - limit)]);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('says once that bytes may be missing when more was read than the engine promised to keep', async () => {
    const log = new MemoryLog();
    const recorder = new OutputRecorder(log, 1000, systemClock);
    const pieces = piecesOf({ stdout: 'x'.repeat(100), stderr: 'y'.repeat(20) }, [10]);
    for await (const piece of unseen(from(pieces), recorder, 50)) await recorder.record(piece);
    await recorder.close();
    assert.deepEqual(
      log.gaps.map((gap) => [gap.stream, gap.reason]),
      [
        ['stdout', 'unrecoverable'],
        ['stderr', 'unrecoverable'],
      ],
    );
  });

  test('is not sewn together wrongly where the engine kept less than it had sent', async () => {
    const lines = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}\n`).join('');
    for (const [sent, kept] of [
      [100, 90],
      [5000, 4990],
      [5000, 1],
    ] as const) {
      const log = new MemoryLog();
      const recorder = new OutputRecorder(log, 1e9, systemClock);
      await recorder.record({ stream: 'stdout', data: Buffer.from(lines(1, sent)) });
      const again = piecesOf({ stdout: lines(1, kept) + lines(sent + 1, sent + 6000), stderr: '' }, [7, 4000]);
      for await (const piece of unseen(from(again), recorder, 1e9)) await recorder.record(piece);
      await recorder.close();
      assert.deepEqual([...new Set(log.gaps.map((gap) => gap.reason))], ['unrecoverable'], `kept ${kept} of ${sent}`);
      if (kept > 1)
        assert.equal(log.text('stdout').slice(-lines(sent + 2, sent + 6000).length), lines(sent + 2, sent + 6000));
      assert.equal(log.text('stdout').slice(0, lines(1, sent).length), lines(1, sent));
    }
  });

  test('that is the same is taken up without a gap', async () => {
    const log = new MemoryLog();
    const recorder = new OutputRecorder(log, 1e9, systemClock);
    const whole = 'abcdefg\n'.repeat(9000);
    for (const piece of piecesOf({ stdout: whole.slice(0, 50_003), stderr: '' }, [1000, 1]))
      await recorder.record(piece);
    for await (const piece of unseen(from(piecesOf({ stdout: whole, stderr: '' }, [333, 1])), recorder, 1e9)) {
      await recorder.record(piece);
    }
    await recorder.close();
    assert.equal(log.text('stdout'), whole);
    assert.deepEqual(log.gaps, []);
  });

  test('goes on being taken when the log fails, and says so at the end', async () => {
    const log = new MemoryLog();
    const recorder = new OutputRecorder(log, 1000, systemClock);
    await recorder.record({ stream: 'stdout', data: Buffer.from('kept') });
    log.failure = new Error('ENOSPC');
    await recorder.record({ stream: 'stdout', data: Buffer.from('lost') });
    assert.equal((await recorder.failed).reason, 'limit');
    await recorder.record({ stream: 'stdout', data: Buffer.from('more') });
    assert.equal(recorder.position('stdout'), 12);
    await assert.rejects(recorder.close(), { reason: 'limit' });
    assert.equal(log.closed, 1);
  });
});

suite('input', () => {
  test('arrives once and in order whatever is sent twice', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ minLength: 1, maxLength: 40 }),
        fc.array(fc.tuple(fc.nat(40), fc.nat(10)), { maxLength: 20 }),
        async (whole, sends) => {
          const bytes = Buffer.from(whole);
          let got = Buffer.alloc(0);
          let ends = 0;
          const gate = new InputGate(() => {
            ends += 1;
          });
          const sink = {
            writeInput: async (data: Uint8Array) => {
              got = Buffer.concat([got, data]);
            },
            endInput: async () => undefined,
          };
          const early = gate.write(0, bytes.subarray(0, 1), false);
          gate.open(sink);
          assert.deepEqual(await early, { taken: 1, closed: false });
          for (const [at, length] of sends) {
            const sent = gate.write(at, bytes.subarray(at, at + length), false);
            const ahead = at > got.length;
            if (ahead) await assert.rejects(sent, { reason: 'wrong_state' });
            else assert.equal((await sent).taken, got.length);
            assert.deepEqual(got, bytes.subarray(0, got.length));
          }
          assert.deepEqual(await gate.write(0, bytes, true), { taken: bytes.length, closed: true });
          assert.deepEqual(got, bytes);
          assert.equal(ends, 1);
        },
      ),
      { numRuns: 50 },
    );
  });

  test('is given up when the job closes it or ends, also while a write waits', async () => {
    const gate = new InputGate(assert.fail);
    const waiting = gate.write(0, Buffer.from('x'), false);
    gate.close();
    assert.deepEqual(await waiting, { taken: 0, closed: true });
    const closing = new InputGate(assert.fail);
    closing.open({ writeInput: async () => Promise.reject(new Error('EPIPE')), endInput: async () => undefined });
    assert.deepEqual(await closing.write(0, Buffer.from('x'), false), { taken: 0, closed: true });
    const hanging = new InputGate(assert.fail);
    hanging.open({ writeInput: () => new Promise(() => undefined), endInput: async () => undefined });
    const stuck = hanging.write(0, Buffer.from('x'), false);
    hanging.close();
    assert.deepEqual(await stuck, { taken: 0, closed: true });
  });

  test('is bounded in how much of it waits', async () => {
    const gate = new InputGate(assert.fail);
    const waiting = Array.from({ length: 64 }, () => gate.write(0, new Uint8Array(), false));
    await assert.rejects(gate.write(0, new Uint8Array(), false), { reason: 'limit' });
    gate.close();
    await Promise.all(waiting);
  });
});

suite('events', () => {
  const ending = {
    state: 'succeeded',
    reason: 'exited',
    signal: '',
    oomKilled: false,
    endedAtMs: 0,
    stdoutBytes: 0,
    stderrBytes: 0,
    truncated: false,
  } as const;
  const full: JobEnding = {
    ...ending,
    cpuNanos: 0,
    memoryPeakBytes: 0,
    image: '',
    containerId: '',
    warm: false,
    queueMs: 0,
  };

  test('hold the latest step of each kind and come before the one result', async () => {
    const events = new EventStream(() => undefined, assert.fail);
    for (let position = 1000; position > 0; position--) events.step({ kind: 'queued', position });
    events.step({ kind: 'creating', image: 'a' });
    const finished = events.finish(full);
    events.step({ kind: 'queued', position: 1 });
    const seen: CapabilityEvent[] = [];
    for await (const event of events) {
      seen.push(event);
      if (event.kind === 'result') void finished.then((told) => told && events.abandon());
    }
    assert.deepEqual(
      seen.map((event) => (event.kind === 'result' ? 'result' : decodeStep(event.detail).step.case)),
      ['queued', 'creating', 'result'],
    );
  });

  test('end without a result when they are abandoned, which the teller learns', async () => {
    let begun = 0;
    const events = new EventStream(() => {
      begun += 1;
    }, assert.fail);
    const iterator = events[Symbol.asyncIterator]();
    assert.equal(begun, 0);
    const next = iterator.next();
    assert.equal(begun, 1);
    events.abandon();
    assert.equal((await next).done, true);
    assert.equal(await events.finish(full), false);
  });
});
