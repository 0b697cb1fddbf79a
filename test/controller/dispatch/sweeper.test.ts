import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { JobState } from '#gen/longline/v1/job_pb.js';
import { MemoryBus } from '../../../src/controller/bus/memory/memory-bus.ts';
import { jobTopic } from '../../../src/controller/bus/topics.ts';
import { DEFAULT_RETENTION, runSweeper, Sweeper } from '../../../src/controller/dispatch/sweeper.ts';
import { FileLogStore } from '../../../src/controller/logs/file-log-store.ts';
import { openSqliteStore } from '../../../src/controller/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/controller/store/store.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { newId } from '../../../src/core/ids.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { Progress } from '../../../src/core/progress.ts';
import { ManualClock } from '../../fixtures/manual-clock.ts';
import { chunk, closeOf } from '../logs/reference-log.ts';

/** An agent with one job that expires 10 ms later. */
async function storeJob(store: Store, nowMs: number): Promise<{ jobId: string; executionId: string }> {
  await store.agentIdentities.save({
    identity: {
      agentId: 'a',
      instanceId: '',
      labels: {},
      enrolledAtMs: nowMs,
      enrollmentTokenId: '',
      publicKeyHash: undefined,
      certificates: [],
      apiKeyHash: undefined,
      revoked: false,
      version: 1,
    },
    spendTokenId: undefined,
    nowMs,
  });
  const jobId = newId();
  const executionId = newId();
  const empty = new Uint8Array();
  await store.jobs.submit({
    job: {
      id: jobId,
      spec: empty,
      target: empty,
      createdAtMs: nowMs,
      expiresAtMs: nowMs + 10,
      creator: '',
      requestId: '',
      labels: {},
    },
    requestHash: empty,
    statements: [empty],
    commands: [{ id: executionId, agentId: 'a', statement: 0 }],
    traceparent: '',
    tracestate: '',
  });
  return { jobId, executionId };
}

/** Passes over a store and logs that are empty, as they are by themselves, on a clock of the test's. Dispose to end them. */
function runsEmpty() {
  const clock = new ManualClock();
  const retention = { ...DEFAULT_RETENTION };
  const failures: string[] = [];
  const none = async () => 0;
  const needs = {
    store: {
      commands: { expire: async () => [] },
      jobs: {
        forgetRequests: async () => undefined,
        deleteEnded: none,
        deleteBeyond: none,
        doomedLogs: async () => [],
      },
      sessions: { forgetRequests: async () => undefined, deleteEnded: async () => [] },
      auditCheckpoints: { deleteOld: none },
    } as unknown as Store,
    logs: { prune: none, shrink: none } as unknown as FileLogStore,
    bus: new MemoryBus(silentLogger),
    clock,
    log: { ...silentLogger, error: (message: string) => void failures.push(message) },
    retention,
  };
  const progress = new Progress('upkeep', clock);
  const stop = new AbortController();
  let running: Promise<void> | undefined;
  const later = async () => {
    running ??= runSweeper(needs, progress, stop.signal);
    await new Promise(setImmediate);
    clock.advance(retention.expiryIntervalMs);
    await new Promise(setImmediate);
  };
  const end = async () => {
    stop.abort();
    // One that never ends is left.
    await Promise.race([running, new Promise(setImmediate)]);
    await needs.bus[Symbol.asyncDispose]();
  };
  return { clock, failures, later, needs, progress, retention, [Symbol.asyncDispose]: end };
}

describe('sweeper', () => {
  it('ends what expired, prunes old logs, then forgets old jobs with their logs', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'longline-sweep-'));
    const store = openSqliteStore(join(folder, 'store.db'));
    const logs = new FileLogStore(join(folder, 'logs'), silentLogger);
    const bus = new MemoryBus(silentLogger);
    let nowMs = Date.now();
    const clock = { ...systemClock, now: () => nowMs };
    const retention = { ...DEFAULT_RETENTION, jobsMs: 5000, logsMs: 2000 };
    const sweeper = new Sweeper({ store, logs, bus, clock, log: silentLogger, retention });
    try {
      const { jobId, executionId } = await storeJob(store, nowMs);
      const writer = await logs.writer({ logId: executionId, attempt: 1 });
      await writer.append({ chunks: [chunk('stdout', 0, 'x')], gaps: [] });
      await writer.close(closeOf({ stdout: Buffer.from('x') }));
      writer.release();
      await logs[Symbol.asyncDispose]();
      using changes = await bus.subscribe(jobTopic(jobId), 5);
      assert.equal(await sweeper.expire(), 0);
      nowMs += 1000;
      assert.equal(await sweeper.expire(), 1);
      assert.deepEqual(await changes.next(), { kind: 'message', message: { commandId: executionId } });
      assert.equal((await store.jobs.get(jobId))?.state, JobState.REJECTED);
      const signal = new AbortController().signal;
      await sweeper.retain(signal);
      assert.notEqual(await store.jobs.get(jobId), undefined);
      for (const name of await readdir(join(folder, 'logs'), { recursive: true })) {
        await utimes(join(folder, 'logs', name), 1, 1);
      }
      await sweeper.retain(signal);
      const cursor = await logs.cursor({ logId: executionId, attempt: 1 }, { from: new Map(), streams: new Set() });
      assert.deepEqual(
        (await cursor?.read())?.map((part) => part.case),
        ['gap', 'close'],
      );
      nowMs += 10_000;
      await sweeper.retain(signal);
      assert.equal(await store.jobs.get(jobId), undefined);
      assert.equal(await logs.latestAttempt(executionId), undefined);
    } finally {
      await bus[Symbol.asyncDispose]();
      await logs[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('keeps within its bounds: the oldest jobs go with their logs, then the oldest bytes, and one bad log stops neither', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'longline-sweep-'));
    const store = openSqliteStore(join(folder, 'store.db'));
    const logs = new FileLogStore(join(folder, 'logs'), silentLogger);
    const bus = new MemoryBus(silentLogger);
    const nowMs = Date.now();
    const retention = { ...DEFAULT_RETENTION, maxJobs: 2, maxLogBytes: 30_000 };
    const stuck = { id: '' };
    const breakable = new Proxy(logs, {
      get: (target, name) => {
        if (name === 'delete') {
          return async (id: string) => (id === stuck.id ? Promise.reject(new Error('stuck')) : target.delete(id));
        }
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const clock = { ...systemClock, now: () => nowMs + 60_000_000 };
    const sweeper = new Sweeper({ store, logs: breakable, bus, clock, log: silentLogger, retention });
    const { signal } = new AbortController();
    try {
      const jobs = [];
      for (let number = 0; number < 4; number++) {
        const job = await storeJob(store, nowMs + number);
        const writer = await logs.writer({ logId: job.executionId, attempt: 1 });
        await writer.append({ chunks: [chunk('stdout', 0, 'x'.repeat(20_000))], gaps: [] });
        await writer.close(closeOf({ stdout: Buffer.from('x'.repeat(20_000)) }));
        writer.release();
        jobs.push(job);
      }
      // Files written within one tick of the kernel's clock are of the same age.
      for (const name of await readdir(join(folder, 'logs'), { recursive: true })) {
        const age = jobs.length - jobs.findIndex(({ executionId }) => name.includes(executionId));
        await utimes(join(folder, 'logs', name), nowMs / 1000, nowMs / 1000 - age);
      }
      assert.equal(await sweeper.expire(), 4);
      stuck.id = jobs[0]!.executionId;
      await assert.rejects(sweeper.bound(signal), /stuck/);
      assert.equal(await logs.latestAttempt(jobs[1]!.executionId), undefined);
      stuck.id = '';
      await sweeper.bound(signal);
      const left = await Promise.all(jobs.map(async ({ jobId }) => (await store.jobs.get(jobId)) !== undefined));
      assert.deepEqual(left, [false, false, true, true]);
      assert.equal(await logs.latestAttempt(jobs[0]!.executionId), undefined);
      const first = async ({ executionId }: { executionId: string }) => {
        const range = { from: new Map<string, number>(), streams: new Set<string>() };
        return (await (await logs.cursor({ logId: executionId, attempt: 1 }, range))?.read())?.[0]?.case;
      };
      assert.deepEqual(await Promise.all(jobs.slice(2).map(first)), ['gap', 'chunk']);
    } finally {
      await bus[Symbol.asyncDispose]();
      await logs[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('looks at once when other times are asked for, and gets on', async () => {
    await using empty = runsEmpty();
    const { clock, later, needs, progress, retention } = empty;
    const looks: number[] = [];
    needs.store.jobs.deleteEnded = async (beforeMs: number) => {
      looks.push(clock.now() - beforeMs);
      return 0;
    };
    for (let turn = 0; turn < 5; turn += 1) await later();
    assert.deepEqual(looks, [DEFAULT_RETENTION.jobsMs], 'once an hour');
    Object.assign(retention, { jobsMs: 60_000 });
    for (let turn = 0; turn < 5; turn += 1) await later();
    assert.deepEqual(looks, [DEFAULT_RETENTION.jobsMs, 60_000]);
    assert.equal(progress.overdue(), undefined);
    needs.store.commands.expire = async () => await new Promise(() => undefined);
    await later();
    clock.advance(3_600_000);
    assert.equal(progress.overdue()?.what, 'upkeep: expiry', 'one that never ends shows');
  });

  it('gets on in a pass of any number of steps, each of which may take minutes', async () => {
    await using empty = runsEmpty();
    const { clock, failures, later, needs, progress } = empty;
    const step = () => {
      clock.advance(600_000);
      assert.equal(progress.overdue(), undefined);
    };
    let batches = 0;
    needs.store.jobs.deleteEnded = async () => {
      step();
      batches += 1;
      return batches < 20 ? 500 : 0;
    };
    needs.logs.prune = async (_before, _signal, looked) => {
      for (let log = 0; log < 10; log += 1) {
        step();
        looked!();
      }
      return 0;
    };
    for (let turn = 0; turn < 100 && batches < 20; turn += 1) await later();
    assert.deepEqual([batches, failures], [20, []]);
  });

  it('leaves no log without its job when it is interrupted between the two', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'longline-sweep-'));
    const store = openSqliteStore(join(folder, 'store.db'));
    const logs = new FileLogStore(join(folder, 'logs'), silentLogger);
    const bus = new MemoryBus(silentLogger);
    let nowMs = Date.now();
    const clock = { ...systemClock, now: () => nowMs };
    const needs = { store, bus, clock, log: silentLogger, retention: { ...DEFAULT_RETENTION, jobsMs: 5000 } };
    const { signal } = new AbortController();
    try {
      const { jobId, executionId } = await storeJob(store, nowMs);
      const writer = await logs.writer({ logId: executionId, attempt: 1 });
      await writer.append({ chunks: [chunk('stdout', 0, 'x')], gaps: [] });
      await writer.sync();
      writer.release();
      nowMs += 10_000;
      const interrupted = {
        ...needs,
        logs: {
          prune: async () => 0,
          delete: async () => {
            throw new Error('killed');
          },
        } as unknown as FileLogStore,
      };
      await new Sweeper(interrupted).expire();
      await assert.rejects(new Sweeper(interrupted).retain(signal), /killed/);
      assert.equal(await store.jobs.get(jobId), undefined);
      assert.equal(await logs.latestAttempt(executionId), 1);
      await new Sweeper({ ...needs, logs }).retain(signal);
      assert.equal(await logs.latestAttempt(executionId), undefined);
      assert.deepEqual(await store.jobs.doomedLogs(10), []);
    } finally {
      await bus[Symbol.asyncDispose]();
      await logs[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
