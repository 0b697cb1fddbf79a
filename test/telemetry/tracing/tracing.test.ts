import assert from 'node:assert/strict';
import { it } from 'node:test';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { noTracer, traced } from '../../../src/core/tracer.ts';
import { createLogger } from '../../../src/telemetry/logger.ts';
import { startTracing, type Tracing } from '../../../src/telemetry/tracing/tracing.ts';
import { OtlpReceiver } from '../../fixtures/otlp-receiver.ts';

const REMOTE = `00-${'a'.repeat(32)}-${'b'.repeat(16)}`;

async function tracing(environment: Record<string, string>, log = silentLogger): Promise<Tracing> {
  const options = { service: 'longline-test', version: '1', clock: systemClock, log, flushMs: 2000 };
  return await startTracing({ ...options, environment });
}

for (const protocol of ['grpc', 'http/protobuf'] as const) {
  it(`sends spans with their parents, kinds, attributes and errors over ${protocol}`, async () => {
    await using receiver = await OtlpReceiver.start();
    await using started = await tracing(receiver.environment(protocol));
    const { tracer } = started;
    const failure = new LonglineError('policy', 'not here; the token was Bearer abcdefghijkl');
    await assert.rejects(
      traced(tracer, 'outer', { kind: 'server', attributes: { a: 1, b: true, c: undefined } }, async (outer) => {
        await traced(tracer, 'inner', {}, async () => assert.notEqual(tracer.current(), outer.traceparent));
        assert.equal(tracer.current(), outer.traceparent);
        throw failure;
      }),
      failure,
    );
    await started[Symbol.asyncDispose]();
    const outer = receiver.spans.find(({ name }) => name === 'outer')!;
    const inner = receiver.spans.find(({ name }) => name === 'inner')!;
    assert.deepEqual([outer.parent, inner.parent, inner.traceId], ['', outer.id, outer.traceId]);
    assert.deepEqual([outer.kind, inner.kind], ['SPAN_KIND_SERVER', 'SPAN_KIND_INTERNAL']);
    assert.deepEqual(outer.attributes, { a: '1', b: true, 'error.type': 'policy' });
    assert.equal(outer.status, 'STATUS_CODE_ERROR');
    assert.equal(outer.statusMessage, 'not here; the token was [redacted]');
    assert.deepEqual(outer.events, [
      { name: 'exception', attributes: { 'exception.type': 'policy', 'exception.message': outer.statusMessage } },
    ]);
    assert.deepEqual([inner.status, outer.service], ['STATUS_CODE_UNSET', 'longline-test']);
    assert.deepEqual(started.counts(), { ended: 2, waiting: 0, sending: 0, sent: 2, failed: 0, dropped: 0 });
  });
}

it('goes on with a trace of elsewhere, and begins one where what it is given is none', async () => {
  await using receiver = await OtlpReceiver.start();
  await using started = await tracing(receiver.environment());
  const { tracer } = started;
  const spans = ['', `${REMOTE}-01`, `${REMOTE}-00`, 'nonsense', `00-${'0'.repeat(32)}-${'b'.repeat(16)}-01`].map(
    (parent) => tracer.start('span', { parent, startedAtMs: 1000 }),
  );
  const [, remote, unsampled] = spans;
  assert.equal(remote!.traceparent.slice(0, 36), REMOTE.slice(0, 36));
  // What isn't sampled is told on, so that nobody below begins to.
  assert.equal(unsampled!.traceparent.slice(-3), '-00');
  for (const span of spans) span.end();
  await started[Symbol.asyncDispose]();
  assert.deepEqual(
    receiver.spans.map(({ parent, traceId }) => [parent, traceId === 'a'.repeat(32)]),
    [
      ['', false],
      ['b'.repeat(16), true],
      ['', false],
      ['', false],
    ],
  );
  assert.deepEqual(new Set(receiver.spans.map(({ startNs }) => startNs)), new Set([1_000_000_000n]));
});

it('records nothing where sampling is off, and as much as is asked for', async () => {
  await using receiver = await OtlpReceiver.start();
  for (const sampler of ['always_off', 'parentbased_always_off']) {
    await using started = await tracing({ ...receiver.environment(), OTEL_TRACES_SAMPLER: sampler });
    await traced(started.tracer, 'a', {}, async () => traced(started.tracer, 'b', {}, async () => undefined));
  }
  assert.equal(receiver.spans.length, 0);
  const ratio = { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.5' };
  await using started = await tracing({ ...receiver.environment(), ...ratio });
  for (let i = 0; i < 400; i++) {
    await traced(started.tracer, 'a', {}, async () => traced(started.tracer, 'b', {}, async () => undefined));
  }
  await started[Symbol.asyncDispose]();
  const seen = receiver.spans.filter(({ name }) => name === 'a').length;
  assert.ok(seen > 100 && seen < 300, `${seen} of 400`);
  // Whole traces or none.
  assert.equal(receiver.spans.length, 2 * seen);
});

it('takes service name and resource from the environment', async () => {
  await using receiver = await OtlpReceiver.start();
  const names = { OTEL_SERVICE_NAME: 'mine', OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test' };
  Object.assign(process.env, names);
  try {
    await using started = await tracing({ ...receiver.environment(), ...names });
    started.tracer.start('span').end();
    await started[Symbol.asyncDispose]();
  } finally {
    for (const name of Object.keys(names)) delete process.env[name];
  }
  const { resource } = receiver.spans[0]!;
  assert.deepEqual(
    [resource['service.name'], resource['service.version'], resource['deployment.environment.name']],
    ['mine', '1', 'test'],
  );
});

it('is off, and loads nothing, where nobody asks', async () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' };
  for (const environment of [
    {},
    { OTEL_SERVICE_NAME: 'a' },
    { ...endpoint, OTEL_SDK_DISABLED: 'true' },
    { ...endpoint, OTEL_TRACES_EXPORTER: 'none' },
  ]) {
    await using started = await tracing(environment);
    assert.equal(started.on, false);
    assert.equal(started.tracer, noTracer);
    assert.equal(await traced(started.tracer, 'a', {}, async (span) => span.traceparent), '');
  }
});

it('complains of values that make no sense and does without them', async () => {
  await using receiver = await OtlpReceiver.start();
  const complaints: unknown[] = [];
  const log = { ...silentLogger, warn: (_: string, fields?: object) => void complaints.push(fields) };
  const wrong = {
    OTEL_TRACES_SAMPLER: 'sometimes',
    OTEL_BSP_MAX_QUEUE_SIZE: '-5',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'smoke',
  };
  const environment = { ...receiver.environment('http/protobuf'), ...wrong };
  await using started = await tracing(environment, log);
  started.tracer.start('span').end();
  await started[Symbol.asyncDispose]();
  assert.equal(receiver.spans.length, 1);
  assert.equal(complaints.length, 3);
  for (const [name, value] of Object.entries(wrong)) {
    assert.ok(
      complaints.some((told) => JSON.stringify(told).includes(name) && JSON.stringify(told).includes(value)),
      name,
    );
  }
});

for (const behaviour of ['hangs', 'refuses', 'down'] as const) {
  it(`holds no more spans than it may, and counts every other, while the collector ${behaviour}`, async () => {
    await using receiver = await OtlpReceiver.start();
    const environment = receiver.environment();
    if (behaviour === 'down') await receiver[Symbol.asyncDispose]();
    else receiver.behaviour = behaviour;
    const told: string[] = [];
    const log = { ...silentLogger, warn: (message: string) => void told.push(message) };
    const bounds = {
      OTEL_BSP_MAX_QUEUE_SIZE: '100',
      OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '50',
      OTEL_BSP_SCHEDULE_DELAY: '1',
    };
    await using started = await tracing({ ...environment, ...bounds }, log);
    for (let i = 0; i < 5000; i++) {
      started.tracer.start('span').end();
      const { waiting, sending } = started.counts();
      assert.ok(waiting <= 100 && sending <= 150, `${waiting} wait and ${sending} are on their way`);
      if (i % 10 === 0) await new Promise(setImmediate);
    }
    await started[Symbol.asyncDispose]();
    const { ended, dropped, sent, failed, waiting, sending } = started.counts();
    assert.deepEqual([ended, sent], [5000, 0]);
    assert.equal(dropped + failed + waiting + sending, 5000);
    assert.ok(dropped > 0 || failed === 5000);
    assert.equal(told.length, 1);
  });
}

it('sends again once the collector is back', async () => {
  await using receiver = await OtlpReceiver.start();
  receiver.behaviour = 'refuses';
  await using started = await tracing(receiver.environment());
  started.tracer.start('lost').end();
  await receiver.until('a refused request', () => (receiver.requests > 0 ? true : undefined));
  receiver.behaviour = 'takes';
  started.tracer.start('kept').end();
  await receiver.until('the next span', (spans) => spans.find(({ name }) => name === 'kept'));
  await started[Symbol.asyncDispose]();
  assert.deepEqual([started.counts().sent, started.counts().failed], [1, 1]);
});

it('names trace and span on log lines, and neither where there is none', async () => {
  await using receiver = await OtlpReceiver.start();
  await using started = await tracing(receiver.environment());
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const log = createLogger({ level: 'info', name: 'test', destination });
  log.info('before');
  const { traceparent } = await traced(started.tracer, 'a', {}, async (span) => {
    await new Promise(setImmediate);
    log.child({ a: 1 }).info('within');
    return span;
  });
  const [, traceId, spanId] = traceparent.split('-');
  assert.deepEqual(
    lines.map((line) => [line['msg'], line['trace_id'], line['span_id']]),
    [
      ['before', undefined, undefined],
      ['within', traceId, spanId],
    ],
  );
});
