// Figures over OTLP, to a collector that answers, one that is not there, and one that never answers.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { counter, gauge, histogram } from '../../../src/core/metrics/definition.ts';
import { figure } from '../../../src/core/metrics/metric.ts';
import { MetricRegistry } from '../../../src/core/metrics/metric-registry.ts';
import { startMetricsExport } from '../../../src/telemetry/metrics/otlp-export.ts';
import { metricsExportSettings } from '../../../src/telemetry/metrics/otlp-settings.ts';
import { PROCESS_METRICS } from '../../../src/telemetry/metrics/process-names.ts';

interface Sent {
  readonly path: string | undefined;
  readonly type: string | undefined;
  readonly body: Buffer;
}

/** A collector over HTTP; `answer` may leave a request hanging. */
async function collector(answer: (response: ServerResponse) => void) {
  const sent: Sent[] = [];
  let open = 0;
  let mostOpen = 0;
  const server = createServer(async (request: IncomingMessage, response) => {
    open += 1;
    mostOpen = Math.max(mostOpen, open);
    response.once('close', () => {
      open -= 1;
    });
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    sent.push({ path: request.url, type: request.headers['content-type'], body: Buffer.concat(chunks) });
    answer(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    sent,
    get mostOpen() {
      return mostOpen;
    },
    [Symbol.dispose]: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

const accepted = (response: ServerResponse) =>
  response.writeHead(200, { 'content-type': 'application/json' }).end('{}');

function registryOf(): MetricRegistry {
  const own = { overflows: PROCESS_METRICS.overflows, failures: PROCESS_METRICS.collectorFailures };
  return new MetricRegistry({ own, clock: systemClock, onFailure: () => undefined });
}

async function exportsOf(registry: MetricRegistry): Promise<Record<string, unknown>> {
  const found = (await registry.collect()).find(({ definition }) => definition === PROCESS_METRICS.exports);
  return Object.fromEntries((found?.samples ?? []).map(({ labels, value }) => [labels[0], value]));
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const endsAt = performance.now() + 20_000;
  while (!(await holds())) {
    assert.ok(performance.now() < endsAt, what);
    await new Promise(setImmediate);
  }
}

function start(registry: MetricRegistry, environment: Record<string, string>, flushMs?: number) {
  const resource = { 'service.instance.id': 'host-1' };
  const made = { environment, registry, service: 'longline-test', version: '1.2.3', resource };
  return startMetricsExport({ ...made, clock: systemClock, log: silentLogger, ...(flushMs && { flushMs }) });
}

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string };
}

interface Exported {
  readonly resourceMetrics: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeMetrics: readonly {
      readonly scope: { readonly name: string };
      readonly metrics: readonly Metric[];
    }[];
  }[];
}

interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly description: string;
  readonly sum?: {
    readonly isMonotonic: boolean;
    readonly aggregationTemporality: number;
    readonly dataPoints: readonly Point[];
  };
  readonly gauge?: { readonly dataPoints: readonly Point[] };
  readonly histogram?: { readonly dataPoints: readonly Point[] };
}

interface Point {
  readonly attributes: readonly Attribute[];
  readonly asDouble?: number;
  readonly bucketCounts?: readonly (number | string)[];
  readonly explicitBounds?: readonly number[];
  readonly count?: number | string;
  readonly sum?: number;
}

describe('figures over OTLP', () => {
  it('are what Prometheus sees, with units and the resource', async () => {
    using receiver = await collector(accepted);
    const registry = registryOf();
    registry.counter(counter('jobs_total', 'Jobs.', ['outcome'])).add(3, 'failed');
    registry.histogram(histogram('took_seconds', 'Took.', [], { buckets: [1, 2] })).observe(1.5);
    registry.add({ name: 'disk', collect: () => [figure(gauge('spool_bytes', 'Bytes.'), 7)] });
    const environment = {
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_METRIC_EXPORT_INTERVAL: '100',
    };
    await using exporting = await start(registry, environment);
    assert.equal(exporting.on, true);
    await until('an export', () => receiver.sent.length > 0);
    const [first] = receiver.sent;
    assert.deepEqual([first!.path, first!.type], ['/v1/metrics', 'application/json']);
    const { resource, scopeMetrics } = (JSON.parse(first!.body.toString()) as Exported).resourceMetrics[0]!;
    const attributes = Object.fromEntries(resource.attributes.map(({ key, value }) => [key, value.stringValue]));
    assert.equal(attributes['service.name'], 'longline-test');
    assert.equal(attributes['service.instance.id'], 'host-1');
    const metrics = scopeMetrics.find(({ scope }) => scope.name === 'longline')!.metrics;
    const metric = (name: string) => metrics.find((one) => one.name === name)!;
    const jobs = metric('jobs_total').sum!;
    assert.deepEqual([jobs.isMonotonic, jobs.aggregationTemporality, jobs.dataPoints[0]!.asDouble], [true, 2, 3]);
    assert.deepEqual(jobs.dataPoints[0]!.attributes, [{ key: 'outcome', value: { stringValue: 'failed' } }]);
    assert.deepEqual([metric('spool_bytes').unit, metric('spool_bytes').gauge!.dataPoints[0]!.asDouble], ['By', 7]);
    const took = metric('took_seconds');
    assert.equal(took.unit, 's');
    const { bucketCounts, explicitBounds, sum } = took.histogram!.dataPoints[0]!;
    assert.deepEqual([bucketCounts!.map(Number), explicitBounds, sum], [[0, 1, 0], [1, 2], 1.5]);
    await until('it is counted', async () => ((await exportsOf(registry))['succeeded'] as number) > 0);
  });

  it('go as Protobuf unless it is said otherwise, and a last time at the end', async () => {
    using receiver = await collector(accepted);
    const registry = registryOf();
    const exporting = await start(registry, { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${receiver.url}/in` });
    assert.equal(receiver.sent.length, 0);
    await exporting[Symbol.asyncDispose]();
    await exporting[Symbol.asyncDispose]();
    assert.deepEqual(
      receiver.sent.map(({ path, type }) => [path, type]),
      [['/in', 'application/x-protobuf']],
    );
  });

  it('cost nothing but themselves while the collector is not there', async () => {
    const registry = registryOf();
    const told: string[] = [];
    const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_METRIC_EXPORT_INTERVAL: '100' };
    await using _ = await startMetricsExport({
      ...{ environment, registry, service: 's', version: '1', clock: systemClock, flushMs: 200 },
      log: { ...silentLogger, warn: (message: string) => void told.push(message) },
    });
    await until('failures', async () => ((await exportsOf(registry))['failed'] as number) >= 2);
    assert.deepEqual(told, ['figures did not get to the collector']);
    assert.equal((await exportsOf(registry))['succeeded'], 0);
  });

  it('are one export at a time to a collector that never answers, and the end does not wait for it', async () => {
    using receiver = await collector(() => undefined);
    const registry = registryOf();
    const environment = {
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
      OTEL_METRIC_EXPORT_INTERVAL: '150',
      OTEL_METRIC_EXPORT_TIMEOUT: '100',
    };
    const exporting = await start(registry, environment, 200);
    await until('several exports', () => receiver.sent.length >= 4);
    assert.ok(receiver.mostOpen <= 2, `${receiver.mostOpen} were open at one time`);
    await exporting[Symbol.asyncDispose]();
  });
});

describe('environment of OTLP', () => {
  const asked = (environment: Record<string, string>) => {
    const complaints: string[] = [];
    const settings = metricsExportSettings(environment, (complaint) => complaints.push(complaint));
    return { settings, complaints };
  };

  it('asks for nothing by default, and can say so', async () => {
    assert.equal(asked({}).settings, undefined);
    const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318' };
    assert.equal(asked({ ...endpoint, OTEL_METRICS_EXPORTER: 'none' }).settings, undefined);
    assert.equal(asked({ ...endpoint, OTEL_SDK_DISABLED: 'true' }).settings, undefined);
    assert.equal(asked({ OTEL_METRICS_EXPORTER: 'prometheus' }).settings, undefined);
    assert.equal((await start(registryOf(), {})).on, false);
  });

  it('is taken where it makes sense, and complained of where not', () => {
    assert.deepEqual(asked({ OTEL_METRICS_EXPORTER: 'otlp' }), {
      settings: { protocol: 'http/protobuf', endpoint: undefined, intervalMs: 60_000, timeoutMs: 30_000 },
      complaints: [],
    });
    const grpc = asked({
      OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317',
      OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: 'grpc',
      OTEL_METRIC_EXPORT_INTERVAL: '1000',
    });
    assert.deepEqual([grpc.settings!.endpoint, grpc.settings!.timeoutMs], ['collector:4317', 1000]);
    assert.deepEqual(grpc.complaints, []);
    const { complaints, settings } = asked({
      OTEL_METRICS_EXPORTER: 'otlp,console',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'collector',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'pigeon',
      OTEL_METRIC_EXPORT_INTERVAL: '-1',
      OTEL_METRIC_EXPORT_TIMEOUT: 'soon',
    });
    assert.equal(complaints.length, 5);
    assert.deepEqual(
      [settings!.protocol, settings!.endpoint, settings!.intervalMs],
      ['http/protobuf', undefined, 60_000],
    );
  });
});
