import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AuditLog } from '../../../src/agent/audit/audit-log.ts';
import { auditedExecutor } from '../../../src/agent/audit/audited-executor.ts';
import { exportAuditLog } from '../../../src/agent/audit/export.ts';
import type { CapabilityEvent } from '../../../src/core/capability.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import type { CommandExecutor } from '../../../src/link/ports.ts';

const RESULT: CapabilityEvent = {
  kind: 'result',
  outcome: 'cancelled',
  detail: new Uint8Array(),
  error: new LonglineError('cancelled', 'as asked', { rule: 'r' }),
};
const inner: CommandExecutor = {
  async *execute() {
    yield { kind: 'progress', detail: new Uint8Array() };
    yield RESULT;
  },
  writeInput: async (_id, offset, data) => ({ taken: offset + data.length, closed: false }),
};
const COMMAND = { id: 'c1', action: new Uint8Array(), receivedAtMs: 0, expiresAtMs: 0, traceparent: '' };

test('start, cancellation and end are recorded, the end before the result is passed on', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-executor-'));
  try {
    await using audit = await AuditLog.open({
      dataDir: folder,
      clock: systemClock,
      log: silentLogger,
      onCheckpoint: () => undefined,
    });
    const events = () =>
      [...exportAuditLog(join(folder, 'audit.db'), {})]
        .join('')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line));
    const cancel = new AbortController();
    const executor = auditedExecutor(inner, audit, silentLogger);
    const passed: string[] = [];
    for await (const event of executor.execute('jobs', COMMAND, { signal: cancel.signal, resumed: true })) {
      passed.push(event.kind);
      if (event.kind === 'progress') cancel.abort();
      else
        assert.deepEqual(
          events().map((record) => record.event),
          ['started', 'cancelled', 'ended'],
        );
    }
    assert.deepEqual(passed, ['progress', 'result']);
    const [started, , ended] = events();
    assert.deepEqual([started.command_id, started.capability, started.summary], ['c1', 'jobs', { resumed: true }]);
    assert.deepEqual([ended.outcome, ended.rule, ended.summary.message], ['cancelled', 'r', 'as asked']);
    assert.deepEqual(await executor.writeInput('c1', 3, new Uint8Array(2), false), { taken: 5, closed: false });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('a result is passed on even if its record is lost', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-executor-'));
  const lost: string[] = [];
  const log = { ...silentLogger, error: (message: string) => void lost.push(message) };
  try {
    const audit = await AuditLog.open({ dataDir: folder, clock: systemClock, log, onCheckpoint: () => undefined });
    await audit[Symbol.asyncDispose]();
    const kinds: string[] = [];
    const context = { signal: new AbortController().signal, resumed: false };
    for await (const event of auditedExecutor(inner, audit, log).execute('jobs', COMMAND, context))
      kinds.push(event.kind);
    assert.deepEqual(kinds, ['progress', 'result']);
    assert.deepEqual(lost.toSorted(), ['audit records were lost', 'the end of a command could not be audited']);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('an end before the command is durable is recorded after its start, and not at all if it never is', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-executor-'));
  try {
    await using audit = await AuditLog.open({
      dataDir: folder,
      clock: systemClock,
      log: silentLogger,
      onCheckpoint: () => undefined,
    });
    const executor = auditedExecutor(inner, audit, silentLogger);
    const run = async (durable: Promise<void>) => {
      const context = { signal: new AbortController().signal, resumed: false, durable };
      return await Array.fromAsync(executor.execute('jobs', COMMAND, context));
    };
    const { promise: durable, resolve } = Promise.withResolvers<void>();
    const running = run(durable);
    resolve();
    await running;
    await run(Promise.reject(new LonglineError('limit', 'no room')));
    const lines = [...exportAuditLog(join(folder, 'audit.db'), {})].join('').trimEnd().split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line).event),
      ['started', 'ended'],
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('a resumed command is durable once its resumption is recorded, and never if that fails', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longline-executor-'));
  try {
    const options = { dataDir: folder, clock: systemClock, log: silentLogger, onCheckpoint: () => undefined };
    const audit = await AuditLog.open(options);
    const seen: string[][] = [];
    const events = () =>
      [...exportAuditLog(join(folder, 'audit.db'), {})]
        .join('')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line).event);
    const careful: CommandExecutor = {
      ...inner,
      async *execute(_capability, _command, { durable }) {
        await durable!.then(
          () => seen.push(events()),
          (error: LonglineError) => seen.push([error.reason]),
        );
        yield RESULT;
      },
    };
    const executor = auditedExecutor(careful, audit, silentLogger);
    const resume = async () =>
      await Array.fromAsync(executor.execute('jobs', COMMAND, { signal: new AbortController().signal, resumed: true }));
    await resume();
    await audit[Symbol.asyncDispose]();
    await resume();
    assert.deepEqual(seen, [['started'], ['unavailable']]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
