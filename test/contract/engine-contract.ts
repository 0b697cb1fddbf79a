// What every ContainerEngine must do, run against Docker, Podman and the fake. One suite, so that the fake can't promise
// what the real ones don't keep.
import assert from 'node:assert/strict';
import { after, afterEach, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { ContainerEngine, ContainerSpec, EngineEvent, OutputPiece } from '../../src/capabilities/jobs/ports.ts';
import { LonglineError, type Reason } from '../../src/core/errors.ts';
import { newId } from '../../src/core/ids.ts';
import {
  AWKWARD_BYTES,
  type ContractProgram,
  LONG_LINE_BYTES,
  numberedLines,
  PROGRAMS,
  SPLIT_LINES,
} from './engine-programs.ts';

/** An engine under test, and its daemon's life. */
export interface EngineSubject extends AsyncDisposable {
  readonly engine: ContainerEngine;
  /** The same engine as if on another host, and with all answers to waits lost; `engine` itself where that can't be. */
  readonly deaf: ContainerEngine;
  readonly image: string;
  /** Absent where the daemon may not be broken. */
  readonly daemon?: { lose(): Promise<void>; recover(): Promise<void> };
}

/** What engines may differ in. */
export interface EngineTraits {
  readonly kind: 'docker' | 'podman';
  /** Says that a container, or a child in it, was killed for memory. */
  readonly reportsOutOfMemory: boolean;
  /** Its log gives back every byte as written. */
  readonly exactLog: boolean;
}

/** Output of a container, by stream. */
export interface Collected {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

const LABEL = 'longline-contract';
const HELD_LIMIT_MS = 60_000;

/** Everything closed, as a hardened job has it. */
export function hardenedSpec(image: string, argv: readonly string[], changes: Partial<ContainerSpec> = {}) {
  return {
    name: `longline-contract-${newId()}`,
    image,
    argv,
    env: {},
    workingDir: '',
    user: '65534:65534',
    labels: { [LABEL]: 'run' },
    openStdin: false,
    cpus: 1,
    memoryBytes: 64 * 1024 * 1024,
    pids: 64,
    tmpBytes: 16 * 1024 * 1024,
    network: { mode: 'none' },
    mounts: [],
    addCapabilities: [],
    readOnlyRoot: true,
    noNewPrivileges: true,
    runtime: '',
    keepLogBytes: 16 * 1024 * 1024,
    ...changes,
  } satisfies ContainerSpec;
}

/** Reads to the end; copies, because pieces are views. */
export async function collect(output: AsyncIterable<OutputPiece>): Promise<Collected> {
  const parts: Record<OutputPiece['stream'], Buffer[]> = { stdout: [], stderr: [] };
  for await (const { stream, data } of output) parts[stream].push(Buffer.from(data));
  return { stdout: Buffer.concat(parts.stdout), stderr: Buffer.concat(parts.stderr) };
}

/** Waits until the check gives something; fails after a long time. */
export async function eventually<T>(check: () => Promise<T | undefined>, what: string): Promise<T> {
  const endsAt = performance.now() + HELD_LIMIT_MS;
  for (;;) {
    const value = await check();
    if (value !== undefined) return value;
    assert.ok(performance.now() < endsAt, `still not: ${what}`);
    await delay(10);
  }
}

function rejectsWith(promise: Promise<unknown>, reason: Reason): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof LonglineError, `not a LonglineError: ${String(error)}`);
    assert.equal(error.reason, reason, error.message);
    return true;
  });
}

/** Reads until `text` was seen on stdout; leaves the rest unread. */
async function readUntil(pieces: AsyncIterator<OutputPiece>, text: string): Promise<string> {
  let seen = '';
  while (!seen.includes(text)) {
    const { value, done } = await pieces.next();
    assert.ok(!done, `the output ended before ${JSON.stringify(text)}: ${seen}`);
    seen += Buffer.from(value.data).toString('latin1');
  }
  return seen;
}

/** Compares long output; what differs is shown with little around it. */
function assertSame(actual: Buffer, expected: Buffer): void {
  if (actual.equals(expected)) return;
  let at = 0;
  while (at < expected.length && actual[at] === expected[at]) at += 1;
  const around = (bytes: Buffer) => JSON.stringify(bytes.subarray(Math.max(0, at - 20), at + 60).toString('latin1'));
  const sizes = `${actual.length} bytes for ${expected.length}`;
  assert.fail(`${sizes}; at ${at} they differ: ${around(actual)} is not ${around(expected)}`);
}

/** Registers the suite. */
export function engineContract(
  name: string,
  setUp: () => Promise<EngineSubject>,
  traits: EngineTraits,
  skip = '',
): void {
  suite(`engine contract: ${name}`, { skip: skip === '' ? false : skip }, () => {
    let subject: EngineSubject;
    let engine: ContainerEngine;
    const made: string[] = [];
    before(async () => {
      subject = await setUp();
      engine = subject.engine;
    });
    afterEach(async () => {
      for (const id of made.splice(0)) await engine.remove(id);
    });
    after(async () => {
      await subject?.[Symbol.asyncDispose]();
    });

    const create = async (program: Pick<ContractProgram, 'argv'>, changes: Partial<ContainerSpec> = {}) => {
      const id = await engine.createContainer(hardenedSpec(subject.image, program.argv, changes));
      made.push(id);
      return id;
    };
    const launch = async (program: ContractProgram, changes: Partial<ContainerSpec> = {}) => {
      const id = await create(program, changes);
      const attachment = await engine.attach(id, changes.openStdin === true);
      const { exit } = await engine.armExit(id);
      await engine.start(id);
      return { id, attachment, exit };
    };
    const run = async (program: ContractProgram, changes: Partial<ContainerSpec> = {}) => {
      const { id, attachment, exit } = await launch(program, changes);
      const output = await collect(attachment.output);
      attachment.destroy();
      return { id, ...output, ...(await exit) };
    };

    test('says what it is', async () => {
      const facts = await engine.facts();
      assert.equal(facts.kind, traits.kind);
      assert.match(facts.version, /^\d+\.\d+/);
      assert.ok(facts.runtimes.includes(facts.defaultRuntime));
    });

    test('finds an image it has, and only that', async () => {
      const image = await engine.findImage(subject.image);
      assert.match(image!.id, /^sha256:[0-9a-f]{64}$/);
      assert.match(image!.pinned, /sha256:[0-9a-f]{64}$/);
      assert.ok(image!.sizeBytes > 100_000);
      assert.equal(await engine.findImage('longline-test/absent:1'), undefined);
    });

    test('loses no output of programs that end at once', async () => {
      // Several at a time: an engine waits more than it works.
      const rounds = Array.from({ length: 50 }, (_, round) => round);
      const lane = async () => {
        for (let round = rounds.shift(); round !== undefined; round = rounds.shift()) {
          const { id, stdout, exitCode } = await run(PROGRAMS.hello);
          assert.equal(stdout.toString(), 'hello\n', `round ${round}`);
          assert.equal(exitCode, 0);
          await engine.remove(id);
        }
      };
      await Promise.all([lane(), lane(), lane(), lane()]);
      assert.equal(rounds.length, 0);
    });

    test('keeps streams apart and passes the exit code', async () => {
      const { stdout, stderr, exitCode } = await run(PROGRAMS.bothStreams);
      assert.deepEqual([stdout.toString(), stderr.toString(), exitCode], ['out\n', 'err\n', 7]);
    });

    test('delivers 200,000 lines byte for byte', async () => {
      const { stdout } = await run(PROGRAMS.manyLines);
      assert.ok(stdout.equals(numberedLines(1, 200_000)));
    });

    test('delivers NUL, invalid UTF-8 and a missing last newline unchanged', async () => {
      const { stdout } = await run(PROGRAMS.awkward);
      assert.deepEqual(stdout, AWKWARD_BYTES);
    });

    test('delivers a line of 10 MiB', async () => {
      const { stdout } = await run(PROGRAMS.longLine);
      assert.equal(stdout.length, LONG_LINE_BYTES + 1);
      assert.equal(stdout.indexOf('\n'), LONG_LINE_BYTES);
    });

    test('runs with the user, folder and environment of the spec', async () => {
      const { stdout } = await run(PROGRAMS.spec, { workingDir: '/tmp', env: { GREETING: 'grüß $HOME' } });
      assert.equal(stdout.toString(), '65534\n65534\n/tmp\ngrüß $HOME\n');
    });

    test('carries input both ways and ends it', async () => {
      const { attachment, exit } = await launch(PROGRAMS.cat, { openStdin: true });
      const output = collect(attachment.output);
      const sent = Buffer.alloc(3_000_000);
      for (let index = 0; index < sent.length; index++) sent[index] = (index * 7) & 0xff;
      for (let at = 0; at < sent.length; at += 100_000) await attachment.writeInput(sent.subarray(at, at + 100_000));
      await attachment.endInput();
      assert.ok((await output).stdout.equals(sent));
      assert.deepEqual(await exit, { exitCode: 0 });
      await rejectsWith(attachment.writeInput(Buffer.from('more')), 'wrong_state');
      attachment.destroy();
    });

    test('has one reader of output', async () => {
      const { attachment } = await launch(PROGRAMS.hello);
      await collect(attachment.output);
      await rejectsWith(collect(attachment.output), 'wrong_state');
      attachment.destroy();
    });

    test('passes signals to a program that traps them', async () => {
      const { id, attachment, exit } = await launch(PROGRAMS.trapsTerm);
      const pieces = attachment.output[Symbol.asyncIterator]();
      await readUntil(pieces, 'ready\n');
      await engine.kill(id, 'SIGTERM');
      await readUntil(pieces, 'caught\n');
      assert.deepEqual(await exit, { exitCode: 42 });
      attachment.destroy();
    });

    test('kills what ignores TERM', async () => {
      const { id, attachment, exit } = await launch(PROGRAMS.ignoresTerm);
      const pieces = attachment.output[Symbol.asyncIterator]();
      await readUntil(pieces, 'ready\n');
      await engine.kill(id, 'SIGTERM');
      assert.equal((await engine.inspect(id))?.state, 'running');
      await engine.kill(id, 'SIGKILL');
      assert.deepEqual(await exit, { exitCode: 137 });
      await drain(pieces);
      attachment.destroy();
    });

    test('takes a kill of an ended container calmly, of an absent one not', async () => {
      const { id } = await run(PROGRAMS.hello);
      await engine.kill(id, 'SIGTERM');
      await engine.kill(id, 'SIGKILL');
      await engine.remove(id);
      await rejectsWith(engine.kill(id, 'SIGKILL'), 'not_found');
    });

    test('removes twice, running or not', async () => {
      const { id, attachment } = await launch(PROGRAMS.sleep);
      await engine.remove(id);
      await engine.remove(id);
      assert.equal(await engine.inspect(id), undefined);
      attachment.destroy();
    });

    test('refuses a taken name, an unknown image, an unknown container, a bad signal', async () => {
      const name = `longline-contract-${newId()}`;
      const id = await create(PROGRAMS.sleep, { name });
      await rejectsWith(create(PROGRAMS.sleep, { name }), 'already_exists');
      await rejectsWith(create(PROGRAMS.sleep, { image: 'longline-test/absent:1' }), 'not_found');
      const absent = 'f'.repeat(64);
      await rejectsWith(engine.start(absent), 'not_found');
      await rejectsWith(engine.attach(absent, false), 'not_found');
      await rejectsWith(engine.armExit(absent), 'not_found');
      await rejectsWith(collect(engine.readLogs(absent, false)), 'not_found');
      assert.equal(await engine.usage(absent), undefined);
      await engine.start(id);
      await rejectsWith(engine.kill(id, 'SIGNONSENSE1'), 'invalid');
    });

    test('says so when the program is not in the image', async () => {
      const id = await create({ argv: ['no-such-program'] });
      const start = async () => {
        // Podman makes the process at attach, Docker at start; the error is the same.
        const attachment = await engine.attach(id, false);
        try {
          await engine.start(id);
        } finally {
          attachment.destroy();
        }
      };
      await rejectsWith(start(), 'invalid');
      assert.notEqual((await engine.inspect(id))?.state, 'running');
    });

    test('shows a container as it is, by id and by label', async () => {
      const labels = { [LABEL]: newId(), other: 'x' };
      const name = `longline-contract-${newId()}`;
      const id = await create(PROGRAMS.bothStreams, { name, labels });
      const created = (await engine.inspect(id))!;
      assert.deepEqual(
        [created.id, created.name, created.state, created.exitCode, created.startedAtMs, created.finishedAtMs],
        [id, name, 'created', undefined, undefined, undefined],
      );
      assert.deepEqual({ ...created.labels, ...labels }, created.labels);
      const attachment = await engine.attach(id, false);
      const { exit } = await engine.armExit(id);
      const before = Date.now();
      await engine.start(id);
      await collect(attachment.output);
      await exit;
      const ended = await eventually(async () => {
        const facts = await engine.inspect(id);
        return facts?.state === 'exited' ? facts : undefined;
      }, 'exited');
      assert.equal(ended.exitCode, 7);
      assert.equal(ended.oomKilled, false);
      assert.ok(ended.startedAtMs! >= before - 2000 && ended.finishedAtMs! >= ended.startedAtMs!);
      assert.deepEqual(await engine.list(LABEL, labels[LABEL]!), [ended]);
      assert.deepEqual(await engine.list(LABEL, 'nobody'), []);
      attachment.destroy();
    });

    test('lets go of an unread attachment, so that the container can be killed', async () => {
      const { id, attachment, exit } = await launch(PROGRAMS.flood);
      const pieces = attachment.output[Symbol.asyncIterator]();
      await pieces.next();
      attachment.destroy();
      await engine.kill(id, 'SIGKILL');
      assert.deepEqual(await exit, { exitCode: 137 });
      await rejectsWith(drain(pieces), 'cancelled');
    });

    test('holds the container back while the reader pauses', async () => {
      const { id, attachment } = await launch(PROGRAMS.flood);
      const pieces = attachment.output[Symbol.asyncIterator]();
      await pieces.next();
      const heldBefore = process.memoryUsage().arrayBuffers;
      await delay(300);
      const grown = process.memoryUsage().arrayBuffers - heldBefore;
      assert.ok(grown < 8 * 1024 * 1024, `${grown} bytes were buffered while nobody read`);
      let read = 0;
      while (read < 20_000_000) {
        const { value, done } = await pieces.next();
        assert.ok(!done);
        read += value.data.length;
      }
      attachment.destroy();
      await engine.remove(id);
    });

    test('reads the whole log after the end', async () => {
      const { id, stdout, stderr } = await run(PROGRAMS.bothStreams);
      assert.deepEqual(await collect(engine.readLogs(id, false)), { stdout, stderr });
      const many = await run(PROGRAMS.manyLines);
      assert.ok((await collect(engine.readLogs(many.id, false))).stdout.equals(many.stdout));
    });

    test('keeps the log byte for byte', { skip: traits.exactLog ? false : 'this engine stores text' }, async () => {
      const awkward = await run(PROGRAMS.awkward);
      assert.deepEqual((await collect(engine.readLogs(awkward.id, false))).stdout, AWKWARD_BYTES);
      const split = await run(PROGRAMS.splitLines);
      assert.ok(split.stdout.equals(SPLIT_LINES));
      assert.ok((await collect(engine.readLogs(split.id, false))).stdout.equals(SPLIT_LINES));
      const long = await run(PROGRAMS.longLine);
      assert.ok((await collect(engine.readLogs(long.id, false))).stdout.equals(long.stdout));
    });

    const followsToTheEnd = async (reader: ContainerEngine) => {
      const { id, attachment, exit } = await launch(PROGRAMS.twoParts, { openStdin: true });
      const live = collect(attachment.output);
      const pieces = reader.readLogs(id, true)[Symbol.asyncIterator]();
      const head = await readUntil(pieces, '\n5000\n');
      await attachment.writeInput(Buffer.from('go\n'));
      const rest = await collect({ [Symbol.asyncIterator]: () => pieces });
      assertSame(Buffer.concat([Buffer.from(head), rest.stdout]), numberedLines(1, 10_000));
      assert.equal(rest.stderr.toString(), 'go\n');
      assert.deepEqual(await exit, { exitCode: 0 });
      assertSame((await live).stdout, numberedLines(1, 10_000));
      attachment.destroy();
    };
    test('follows the log of a running container to its end', async () => {
      await followsToTheEnd(engine);
      await followsToTheEnd(subject.deaf);
    });

    test('notices an end though the answer to the wait is lost', async () => {
      const { deaf } = subject;
      const armed = async (program: Pick<ContractProgram, 'argv'>) => {
        const id = await create(program);
        return { id, ...(await deaf.armExit(id)) };
      };
      const seen = await armed(PROGRAMS.bothStreams);
      const attachment = await deaf.attach(seen.id, false);
      await deaf.start(seen.id);
      await collect(attachment.output);
      assert.deepEqual(await seen.exit, { exitCode: 7 });
      attachment.destroy();
      const killed = await armed(PROGRAMS.sleep);
      await deaf.start(killed.id);
      await engine.kill(killed.id, 'SIGKILL');
      assert.deepEqual(await killed.exit, { exitCode: 137 });
      const adopted = await launch(PROGRAMS.cat, { openStdin: true });
      const { exit } = await deaf.armExit(adopted.id);
      assert.equal((await deaf.inspect(adopted.id))?.state, 'running');
      await adopted.attachment.endInput();
      assert.deepEqual(await exit, { exitCode: 0 });
      adopted.attachment.destroy();
    });

    test('ends the wait for a container that is removed', async () => {
      const never = await create(PROGRAMS.hello);
      const { exit } = await engine.armExit(never);
      await engine.remove(never);
      // Docker gives a code that nothing ended with.
      await exit.catch((error: unknown) => assert.equal((error as LonglineError).reason, 'not_found'));
    });

    test('reports the end as an event', async () => {
      await using listener = listen(engine);
      await listener.ready(() => run(PROGRAMS.hello));
      const { id } = await run(PROGRAMS.bothStreams);
      const event = await listener.find((one) => one.kind === 'exited' && one.containerId === id);
      assert.deepEqual(event, { kind: 'exited', containerId: id, exitCode: 7 });
    });

    // Docker hears of it from the kernel, and may do so after the exit.
    const reportedOom = (id: string) =>
      eventually(async () => ((await engine.inspect(id))?.oomKilled ? true : undefined), 'killed for memory');
    const killedForMemory = async (program: ContractProgram) => {
      const { id, attachment, exit } = await launch(program, { openStdin: true, memoryBytes: 16 * 1024 * 1024 });
      await attachment.writeInput(Buffer.from('go\n'));
      const { exitCode } = await exit;
      attachment.destroy();
      return { id, exitCode };
    };
    test('tells when the program was killed for memory, if the engine does', async () => {
      const { id, exitCode } = await killedForMemory(PROGRAMS.outOfMemoryMain);
      assert.equal(exitCode, 137);
      if (traits.reportsOutOfMemory) await reportedOom(id);
      else assert.equal((await engine.inspect(id))?.oomKilled, false, 'this engine tells now: set its trait');
    });

    test('tells when a child was killed for memory and the program went on, if the engine does', async () => {
      await using listener = listen(engine);
      await listener.ready(() => run(PROGRAMS.hello));
      const { id, exitCode } = await killedForMemory(PROGRAMS.outOfMemoryChild);
      assert.equal(exitCode, 0);
      if (traits.reportsOutOfMemory) {
        await reportedOom(id);
        await listener.find((one) => one.kind === 'oom' && one.containerId === id);
      } else {
        assert.equal((await engine.inspect(id))?.oomKilled, false, 'this engine tells now: set its trait');
      }
    });

    test('tells what a running container uses', async () => {
      const { id, attachment } = await launch(PROGRAMS.burn, { openStdin: true });
      await readUntil(attachment.output[Symbol.asyncIterator](), 'done\n');
      const usage = await engine.usage(id);
      assert.ok(usage!.cpuNanos > 1_000_000 && usage!.memoryPeakBytes > 50_000, JSON.stringify(usage));
      attachment.destroy();
    });

    test('stops at its signal', async () => {
      const { id, attachment } = await launch(PROGRAMS.sleep);
      const stop = new AbortController();
      const { exit } = await engine.armExit(id, stop.signal);
      const logs = collect(engine.readLogs(id, true, stop.signal));
      const events = drain(engine.events(stop.signal)[Symbol.asyncIterator]());
      const done = [rejectsWith(exit, 'cancelled'), rejectsWith(logs, 'cancelled'), rejectsWith(events, 'cancelled')];
      stop.abort();
      await Promise.all(done);
      await rejectsWith(engine.inspect(id, stop.signal), 'cancelled');
      attachment.destroy();
    });

    test('says unavailable while the daemon is away, and works when it is back', async (context) => {
      const daemon = subject.daemon;
      if (daemon === undefined) return context.skip("this engine's daemon may not be broken");
      const { id, attachment, exit } = await launch(PROGRAMS.sleep);
      const events = drain(engine.events(new AbortController().signal)[Symbol.asyncIterator]());
      const logs = collect(engine.readLogs(id, true));
      const broken = [collect(attachment.output), exit, logs].map((one) => rejectsWith(one, 'unavailable'));
      const endOfEvents = events.catch((error: unknown) =>
        assert.equal((error as LonglineError).reason, 'unavailable'),
      );
      await engine.inspect(id);
      await daemon.lose();
      try {
        await Promise.all([...broken, endOfEvents]);
        const calls = [engine.facts(), engine.findImage(subject.image), engine.inspect(id), engine.list(LABEL, 'run')];
        const effects = [engine.start(id), engine.kill(id, 'SIGKILL'), engine.remove(id), engine.attach(id, false)];
        const rest = [
          create(PROGRAMS.hello),
          engine.armExit(id),
          collect(engine.readLogs(id, false)),
          engine.usage('x'),
        ];
        for (const one of [...calls, ...effects, ...rest]) await rejectsWith(one, 'unavailable');
        await rejectsWith(drain(engine.pullImage(subject.image, undefined)[Symbol.asyncIterator]()), 'unavailable');
      } finally {
        await daemon.recover();
      }
      attachment.destroy();
      assert.equal((await engine.inspect(id))?.id, id);
      assert.equal((await run(PROGRAMS.hello)).stdout.toString(), 'hello\n');
    });
  });
}

async function drain(iterator: AsyncIterator<unknown>): Promise<void> {
  while (!(await iterator.next()).done);
}

interface Listener extends AsyncDisposable {
  /** Does the work until the engine is seen to report it: from then on no event is missed. */
  ready(work: () => Promise<{ readonly id: string }>): Promise<void>;
  find(match: (event: EngineEvent) => boolean): Promise<EngineEvent>;
}

function listen(engine: ContainerEngine): Listener {
  const seen: EngineEvent[] = [];
  const stop = new AbortController();
  const reading = (async () => {
    for await (const event of engine.events(stop.signal)) seen.push(event);
  })().catch((error: unknown) => {
    if (!stop.signal.aborted) throw error;
  });
  const find = (match: (event: EngineEvent) => boolean) => eventually(async () => seen.find(match), 'the event');
  return {
    ready: async (work) => {
      await eventually(async () => {
        const { id } = await work();
        await delay(20);
        return seen.some((event) => event.containerId === id) ? true : undefined;
      }, 'any event');
    },
    find,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await reading;
    },
  };
}
