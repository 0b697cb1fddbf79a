import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import type { Distribution } from '../../../src/core/metrics/metric.ts';
import { openProcessMetrics } from '../../../src/telemetry/metrics/process-metrics.ts';

const BUILD = { part: 'test', version: '1.2.3', build: 'source' };

describe('figures of the process', () => {
  it('are those of this process', async () => {
    using opened = openProcessMetrics(BUILD, systemClock, silentLogger);
    const families = await opened.registry.collect();
    const figureOf = (name: string) => families.find(({ definition }) => definition.name === name)?.samples[0]?.value;
    const rss = process.memoryUsage.rss();
    assert.ok(Math.abs((figureOf('process_resident_memory_bytes') as number) - rss) < rss / 2);
    assert.ok(Math.abs((figureOf('process_start_time_seconds') as number) - performance.timeOrigin / 1000) < 1);
    assert.ok((figureOf('process_cpu_seconds_total') as number) > 0);
    assert.ok((figureOf('process_open_fds') as number) > 2);
    assert.ok((figureOf('process_max_fds') as number) > (figureOf('process_open_fds') as number));
    const build = families.find(({ definition }) => definition.name === 'longline_build_info');
    assert.deepEqual(build?.samples, [{ labels: ['test', '1.2.3', 'source', process.version], value: 1 }]);
  });

  it('show an event loop that was held up', async () => {
    using opened = openProcessMetrics(BUILD, systemClock, silentLogger);
    const seen = async () => {
      const families = await opened.registry.collect();
      const lag = families.find(({ definition }) => definition.name === 'longline_event_loop_lag_seconds');
      return lag!.samples[0]!.value as Distribution;
    };
    const until = performance.now() + 1_300;
    while (performance.now() < until);
    const endsAt = performance.now() + 10_000;
    while ((await seen()).sum === 0 && performance.now() < endsAt) await new Promise(setImmediate);
    assert.ok((await seen()).sum > 0.2, 'at least 200 ms late');
  });

  it('say once that a part fails', async () => {
    const told: string[] = [];
    const log = { ...silentLogger, warn: (message: string) => void told.push(message) };
    using opened = openProcessMetrics(BUILD, systemClock, log);
    opened.registry.add({
      name: 'broken',
      collect: () => {
        throw new Error('no');
      },
    });
    await opened.registry.collect();
    await opened.registry.collect();
    assert.equal(told.length, 1);
  });
});
