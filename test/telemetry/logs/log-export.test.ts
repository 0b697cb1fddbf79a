// Log lines over OTLP, to a collector made from the official protos that answers, refuses, hangs or is not there.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { traced } from '../../../src/core/tracer.ts';
import { createLogger, type LogLevel } from '../../../src/telemetry/logger.ts';
import { startLogExport } from '../../../src/telemetry/logs/log-export.ts';
import { startTracing } from '../../../src/telemetry/tracing/tracing.ts';
import { OtlpReceiver } from '../../fixtures/otlp-receiver.ts';

const ON = { OTEL_LOGS_EXPORTER: 'otlp' };

function recording(level: LogLevel = 'debug') {
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) };
  return { lines, log: createLogger({ level, name: 'test', destination }) };
}

async function copying(environment: Record<string, string>, level?: LogLevel) {
  const { lines, log } = recording(level);
  const resource = { 'longline.agent.id': 'host-1' };
  const options = { service: 'longline-test', version: '1.2.3', resource, clock: systemClock, flushMs: 2000 };
  return { lines, log, copy: await startLogExport({ ...options, environment, log }) };
}

describe('log lines over OTLP', () => {
  for (const protocol of ['grpc', 'http/protobuf', 'http/json'] as const) {
    it(`come with severity, body, fields, ids and resource over ${protocol}`, async () => {
      await using receiver = await OtlpReceiver.start();
      const environment = { ...receiver.environment(protocol), ...ON };
      const { copy, lines, log } = await copying(environment);
      const { tracer, ...tracing } = await startTracing({
        ...{ environment, service: 'longline-test', version: '1', clock: systemClock, log: silentLogger },
      });
      const { traceparent } = await traced(tracer, 'a', {}, async (span) => {
        log
          .child({ part: 'link', agentId: 'host-1' })
          .warn('late', { seq: 7n, waitMs: 1.5, up: false, tried: ['a', 2] });
        return span;
      });
      log.error('failed', { err: new Error('no such thing') });
      await copy[Symbol.asyncDispose]();
      await tracing[Symbol.asyncDispose]();
      const [late, failed] = receiver.logs;
      assert.deepEqual(
        [late!.severity, late!.severityText, late!.body, late!.service],
        ['SEVERITY_NUMBER_WARN', 'WARN', 'late', 'longline-test'],
      );
      const fields = { part: 'link', agentId: 'host-1', seq: '7', waitMs: 1.5, up: false, tried: ['a', '2'] };
      assert.deepEqual(late!.attributes, fields);
      assert.deepEqual([late!.traceId, late!.spanId], traceparent.split('-').slice(1, 3));
      assert.equal(late!.resource['longline.agent.id'], 'host-1');
      assert.equal(late!.resource['process.pid'], String(process.pid));
      assert.ok(Math.abs(Number(late!.timeNs / 1_000_000n) - Date.parse(String(lines[0]!['time']))) < 1000);
      const { type, message, stack } = failed!.attributes['err'] as Record<string, unknown>;
      assert.deepEqual([type, message, failed!.traceId], ['Error', 'no such thing', '']);
      assert.match(String(stack), /log-export\.test/);
      // Standard error has them as ever.
      assert.deepEqual(
        lines.map(({ msg, trace_id: trace }) => [msg, trace]),
        [
          ['late', late!.traceId],
          ['failed', undefined],
        ],
      );
      assert.deepEqual(copy.counts(), { ended: 2, waiting: 0, sending: 0, sent: 2, failed: 0, dropped: 0 });
    });
  }

  it('have no secret in them, wherever it stood', async () => {
    await using receiver = await OtlpReceiver.start();
    const { copy, log } = await copying({ ...receiver.environment(), ...ON });
    const secret = 'A'.repeat(43);
    log.child({ sessionToken: secret, url: `nats://me:${secret}@host` }).error(`with lla1.${secret}`, {
      password: secret,
      nested: [{ api_key: secret, note: `Bearer ${secret}` }],
      err: new Error(`lle1.${secret}.${secret}`, { cause: new Error(`lla1.${secret}`) }),
    });
    await copy[Symbol.asyncDispose]();
    assert.equal(receiver.logs.length, 1);
    const text = JSON.stringify(receiver.logs, (_, value: unknown) =>
      typeof value === 'bigint' ? String(value) : value,
    );
    assert.doesNotMatch(text, /AAAA/);
    assert.equal(text.match(/\[redacted\]/g)!.length > 6, true, text);
  });

  it('follow the level as it is at the moment, of all and of a part', async () => {
    await using receiver = await OtlpReceiver.start();
    const { copy, log } = await copying({ ...receiver.environment(), ...ON }, 'info');
    const link = log.child({ part: 'link' });
    link.debug('1');
    log.setPart('link', 'debug');
    link.debug('2');
    log.debug('3');
    log.setPart('link', undefined);
    log.setLevel('warn');
    link.info('4');
    log.warn('5');
    await copy[Symbol.asyncDispose]();
    log.warn('6');
    assert.deepEqual(
      receiver.logs.map(({ body }) => body),
      ['2', '5'],
    );
  });

  it('are cut where they are long, so that those that wait take no more than they may', async () => {
    await using receiver = await OtlpReceiver.start();
    const { copy, log } = await copying({ ...receiver.environment(), ...ON });
    log.info('long', { list: Array.from({ length: 90 }, () => 'x'.repeat(4000)), after: 'y' });
    await copy[Symbol.asyncDispose]();
    const { attributes } = receiver.logs[0]!;
    const text = JSON.stringify(attributes);
    assert.ok(text.length < 10_000, `${text.length}`);
    assert.match(text, /x{4000}.*x{3000}…/);
  });

  it('are not sent because of the endpoint of all signals, and nothing is copied then', async () => {
    const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' };
    for (const environment of [{}, endpoint, { ...endpoint, OTEL_SDK_DISABLED: 'true', ...ON }]) {
      const { copy, log } = await copying(environment);
      log.info('a');
      assert.equal(copy.on, false);
      assert.equal(copy.counts().ended, 0);
    }
    const { copy, lines } = await copying({ ...endpoint, OTEL_LOGS_EXPORTER: 'oltp' });
    assert.equal(copy.on, false);
    assert.match(JSON.stringify(lines), /OTEL_LOGS_EXPORTER: \\"oltp\\" can't be had; otlp can/);
  });

  it('go to an endpoint of their own', async () => {
    await using receiver = await OtlpReceiver.start();
    const { copy, log } = await copying({ OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: `${receiver.httpUrl}/v1/logs` });
    log.info('a');
    await copy[Symbol.asyncDispose]();
    assert.deepEqual(
      receiver.logs.map(({ body }) => body),
      ['a'],
    );
  });
});

for (const behaviour of ['hangs', 'refuses', 'down'] as const) {
  it(`holds no more lines than it may, and counts every other, while the collector ${behaviour}`, async () => {
    await using receiver = await OtlpReceiver.start();
    const bounds = {
      OTEL_BLRP_MAX_QUEUE_SIZE: '100',
      OTEL_BLRP_MAX_EXPORT_BATCH_SIZE: '50',
      OTEL_BLRP_SCHEDULE_DELAY: '1',
    };
    const environment = { ...receiver.environment(), ...ON, ...bounds };
    if (behaviour === 'down') await receiver[Symbol.asyncDispose]();
    else receiver.behaviour = behaviour;
    const { copy, lines, log } = await copying(environment);
    for (let i = 0; i < 5000; i++) {
      log.info('line', { i });
      const { ended, waiting, sending, sent, failed, dropped } = copy.counts();
      assert.ok(waiting <= 100 && sending <= 200, `${waiting} wait and ${sending} are on their way`);
      assert.equal(ended, waiting + sending + sent + failed + dropped);
      if (i % 10 === 0) await new Promise(setImmediate);
    }
    await copy[Symbol.asyncDispose]();
    const { ended, dropped, failed, sent } = copy.counts();
    // What it says itself is in none of them.
    assert.deepEqual([ended, sent], [5000, 0]);
    assert.ok(dropped > 0 || failed === 5000);
    const told = lines.filter(({ msg }) => msg !== 'line');
    assert.deepEqual(
      told.map(({ msg, level }) => [msg, level]),
      [['log lines did not get to the collector', 'warn']],
    );
    assert.equal(lines.length, 5001);
  });
}

it('sends what waits at the end although a batch before it failed', async () => {
  await using receiver = await OtlpReceiver.start();
  receiver.behaviour = 'refuses';
  receiver.delayMs = 300;
  const { copy, log } = await copying({ ...receiver.environment(), ...ON });
  log.info('lost');
  await receiver.until('a request', () => (receiver.requests > 0 ? true : undefined));
  receiver.delayMs = 0;
  log.info('kept');
  receiver.behaviour = 'takes';
  await copy[Symbol.asyncDispose]();
  assert.deepEqual(
    receiver.logs.map(({ body }) => body),
    ['kept'],
  );
  assert.deepEqual([copy.counts().sent, copy.counts().failed], [1, 1]);
});
