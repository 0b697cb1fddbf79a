// A replica over its terms, on a real locked file: how its identity is tended while it stands by, what it does about a controller
// that refuses it, and that a leader which can't let go ends its process.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { FolderInUse } from '../../../src/agent/data-folder.ts';
import { Election } from '../../../src/agent/ha/election.ts';
import { EpochRecord } from '../../../src/agent/ha/epoch-record.ts';
import type { Leadership } from '../../../src/agent/ha/leadership.ts';
import { type ReplicaOptions, runReplica, viewOf } from '../../../src/agent/ha/replica.ts';
import type { Clock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { LockFile } from '../../../src/platform/flock/lock-file.ts';
import { fastClock } from '../../fixtures/fast-clock.ts';

const MINUTE = 60_000;
const SOURCE = join(import.meta.dirname, '../../../src');

let base: string;
before(async () => {
  base = await mkdtemp(join(tmpdir(), 'longline-replica-'));
});
after(() => rm(base, { recursive: true, force: true }));

const lockOf = (name: string, holder: string) =>
  new LockFile({ path: join(base, `${name}.lock`), agentId: 'host-1', holder });

/** A replica with a lock and epochs of its own, on a clock that runs fast. `end` is what its process would end with. */
class Stage implements AsyncDisposable {
  readonly clock: Clock;
  readonly stop = new AbortController();
  readonly name: string;
  readonly #stack = new AsyncDisposableStack();
  #running: Promise<void> = Promise.resolve();

  constructor(name: string, speed = 100) {
    this.name = name;
    this.clock = fastClock(speed);
  }

  get epochs(): string {
    return join(base, `${this.name}-epochs`);
  }

  async run(parts: Partial<ReplicaOptions>): Promise<void> {
    const { clock } = this;
    const lock = this.#stack.use(lockOf(this.name, 'it'));
    const epochs = await EpochRecord.open(this.epochs);
    // An answer of the lock has as long as a renewal.
    const times = { ttlMs: 180_000, renewMs: 60_000, retryMs: 500, elapsed: () => clock.monotonic() };
    const election = new Election({ lock, epochs, clock, log: silentLogger, ...times });
    const options: ReplicaOptions = {
      ...{ election, holder: 'it', backend: 'file', clock, log: silentLogger },
      lead: async () => assert.fail('it leads'),
      tend: async () => undefined,
      view: () => viewOf(election, 'it', 'file'),
      onStandby: () => undefined,
      freeFolder: async () => undefined,
      end: () => assert.fail('its process ends'),
      ...parts,
    };
    this.#running = runReplica(options, this.stop.signal);
    this.#running.catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop.abort(new Error('the test is over'));
    await this.#running;
    await this.#stack.disposeAsync();
  }
}

/** Leads until the signal aborts. */
const untilOver = async (signal: AbortSignal) => {
  if (!signal.aborted) await once(signal, 'abort');
};

test('a standby tends its identity when that is due, tries again soon what failed, and leaves a shared folder to the leader', async () => {
  await using stage = new Stage('tended', 1000);
  await using other = lockOf('tended', 'other');
  assert.equal((await other.acquire(0n)).kind, 'acquired');
  const turns: (() => Promise<number | undefined>)[] = [
    async () => 2 * MINUTE,
    async () => 1,
    async () => 90 * MINUTE,
    async () => undefined,
    () => Promise.reject(new LonglineError('unavailable', 'no controller')),
    () => Promise.reject(new LonglineError('unavailable', 'no controller')),
    () => Promise.reject(new FolderInUse('already_exists', 'the leader has it')),
  ];
  const atMs: number[] = [];
  const seen = Promise.withResolvers<void>();
  await stage.run({
    tend: async () => {
      atMs.push(stage.clock.monotonic());
      if (atMs.length > turns.length) seen.resolve();
      return await turns[atMs.length - 1]?.();
    },
  });
  await seen.promise;
  const waited = atMs.slice(1).map((ms, index) => ms - atMs[index]!);
  const [due, atOnce, late, never, failed, again, shared] = waited as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  assert.ok(due >= 2 * MINUTE && due < 3 * MINUTE, `${due}`);
  assert.ok(atOnce >= 1000 && atOnce < MINUTE, `${atOnce}`);
  for (const ms of [late, never, shared]) assert.ok(ms >= 10 * MINUTE && ms < 11 * MINUTE, `${ms}`);
  for (const ms of [failed, again]) assert.ok(ms >= 1000 && ms < 2 * MINUTE, `${ms}`);
});

test('a leader whose epoch the controller refuses lets go of it, and leads above the epoch that it was told', async () => {
  await using stage = new Stage('fenced');
  const led: bigint[] = [];
  const welcomed = Promise.withResolvers<void>();
  await stage.run({
    lead: async ({ epoch, reception, mayAct }: Leadership, signal) => {
      led.push(epoch);
      assert.equal(mayAct?.(), true);
      if (epoch < 40n) reception!.refused(new LonglineError('stale', 'epoch 40 was seen', { newestEpoch: 40n }));
      else welcomed.resolve();
      await untilOver(signal);
    },
  });
  await welcomed.promise;
  assert.ok(led.length === 2 && led[1]! > 40n, `${led}`);
  assert.deepEqual((await readdir(stage.epochs)).map(BigInt), [led[1]]);
});

test('a leader whose identity is refused leaves the lead to another that is there', async () => {
  await using stage = new Stage('revoked');
  const other = lockOf('revoked', 'other');
  const led = Promise.withResolvers<bigint>();
  await stage.run({
    lead: async ({ epoch, reception }, signal) => {
      // The other may be slower than the pause; then this one is elected again, and bears it for a while.
      while (!signal.aborted) {
        reception!.refused(new LonglineError('identity', 'the replica was revoked'));
        await stage.clock.sleep(1000, signal).catch(() => undefined);
      }
      led.resolve(epoch);
    },
  });
  const epoch = await led.promise;
  let answer = await other.acquire(0n);
  while (answer.kind !== 'acquired') {
    await stage.clock.sleep(500);
    answer = await other.acquire(0n);
  }
  assert.ok(answer.epoch > epoch);
  await other[Symbol.asyncDispose]();
});

for (const [what, lose] of [
  ['lost the lead', async (stage: Stage) => await rm(join(base, `${stage.name}.lock`))],
  [
    'gave it up',
    async (_stage: Stage, { reception }: Leadership) =>
      reception!.refused(new LonglineError('stale', 'it is over', { newestEpoch: 99n })),
  ],
] as const) {
  test(`a leader that ${what} and isn't closed within 20 s ends its process, and not before`, async () => {
    await using stage = new Stage(`stuck ${what}`);
    const ended = Promise.withResolvers<number>();
    const told = Promise.withResolvers<number>();
    const close = Promise.withResolvers<void>();
    await stage.run({
      lead: async (leadership, signal) => {
        // At the abort itself: a moment later the 20 s run already.
        signal.addEventListener('abort', () => told.resolve(stage.clock.monotonic()), { once: true });
        await lose(stage, leadership);
        await close.promise;
      },
      end: () => ended.resolve(stage.clock.monotonic()),
    });
    const tookMs = (await ended.promise) - (await told.promise);
    stage.stop.abort(new Error('the test is over'));
    close.resolve();
    assert.ok(tookMs >= 20_000 && tookMs < 25_000, `${tookMs}`);
  });
}

test('the process of a leader that cannot let go ends with 70, even where an exit would hang', async () => {
  const lockFile = join(base, 'process.lock');
  const pipe = join(base, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const script = `
    const { runElected } = await import(${JSON.stringify(join(SOURCE, 'agent/ha/elected-agent.ts'))});
    const { fastClock } = await import(${JSON.stringify(join(import.meta.dirname, '../../fixtures/fast-clock.ts'))});
    const { readFile, rm } = await import('node:fs/promises');
    const say = (message) => process.stderr.write(message + '\\n');
    const log = { debug: say, info: say, warn: say, error: say, child: () => log };
    const lockFile = ${JSON.stringify(lockFile)};
    // An answer of the lock has as long as a renewal.
    const ha = { enabled: true, backend: 'file', ttlMs: 180_000, renewMs: 60_000, lockFile };
    await runElected({
      config: { agentId: 'host-1', dataDir: ${JSON.stringify(join(base, 'process'))}, ha },
      holder: 'it',
      clock: fastClock(100),
      log,
      elects: () => ({ [Symbol.dispose]: () => undefined }),
      onHeard: () => undefined,
      signal: new AbortController().signal,
      tend: async () => undefined,
      hangups: { handle: () => ({ [Symbol.dispose]: () => undefined }) },
      onStandby: () => undefined,
      lead: async () => {
        setInterval(() => undefined, 1000);
        await rm(lockFile);
        // Nobody writes to it: opening it hangs where nothing can interrupt it.
        await readFile(${JSON.stringify(pipe)});
      },
    });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'inherit', 'pipe'],
    ...{ timeout: 120_000, killSignal: 'SIGKILL' },
  });
  let told = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    told += text;
  });
  const [code, signal] = await once(child, 'close');
  assert.deepEqual([code, signal], [70, null], told);
  assert.match(told, /no longer leads[\s\S]*did not end when it lost the lead; the process ends/);
});
