// Controller and agent as services run them, from the bundle: what is loaded on demand has to be in it, and to work there. Over each
// protocol of OTLP spans, lines and figures of both arrive; and an agent is elected by Redis.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { before, suite, test } from 'node:test';
import { startFleet } from '../fixtures/fleet.ts';
import { OtlpReceiver } from '../fixtures/otlp-receiver.ts';
import { missingRedis, RedisServer } from '../fixtures/redis-server.ts';

const SERVICES = ['longline-agent', 'longline-controller'];

suite('services from the bundle', { skip: missingRedis }, () => {
  before(() => {
    execFileSync(process.execPath, [join(import.meta.dirname, '../../deploy/build/main.ts')], { timeout: 120_000 });
  });

  for (const protocol of ['grpc', 'http/protobuf', 'http/json'] as const) {
    test(`spans, lines and figures over ${protocol}, from an agent that Redis elects`, async () => {
      await using redis = await RedisServer.start();
      await using receiver = await OtlpReceiver.start();
      const serviceEnvironment = {
        ...receiver.environment(protocol),
        OTEL_LOGS_EXPORTER: 'otlp',
        OTEL_METRIC_EXPORT_INTERVAL: '200',
        OTEL_METRIC_EXPORT_TIMEOUT: '200',
      };
      await using fleet = await startFleet({ launcher: true, serviceEnvironment });
      const election = ['--enable-ha', '--leader-election-backend', 'redis'];
      const args = [...election, '--redis-url', `redis://127.0.0.1:${redis.port}/0`];
      const agent = await fleet.enrolled('bundled', args);
      assert.match(agent.command.stderr, /"build":"bundle"/);
      assert.match(agent.command.stderr, /"msg":"this replica leads"/);
      // A read has a span only in a trace of its caller; this one is refused and has one of its own.
      await fleet.longline('job', 'run', '--agent', 'bundled', '--', 'true');
      await receiver.until('spans, lines and figures of both', (spans, logs) => {
        const told = [spans.map(({ service }) => service), logs.map(({ service }) => service), [...receiver.figures]];
        return told.every((services) => SERVICES.every((one) => services.includes(one))) || undefined;
      });
    });
  }
});
