// Figures of the agent's process as a whole: health, traces, tunnels, watchdog, and what no name can make grow.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { OpenTunnelSchema } from '#gen/longline/link/v1/link_pb.js';
import { SessionActionSchema } from '#gen/longline/v1/session_pb.js';
import { AgentHealth } from '../../../src/agent/health/agent-health.ts';
import { fine } from '../../../src/agent/health/check.ts';
import { AgentMetrics } from '../../../src/agent/metrics/agent-metrics.ts';
import { commandKind } from '../../../src/agent/metrics/command-kind.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { family } from '../../../src/core/metrics/metric.ts';
import type { TunnelTargets } from '../../../src/link/ports.ts';
import { NETWORK_METRICS, PROGRAM_METRICS } from '../../../src/telemetry/metrics/agent-names.ts';
import { logCollector, traceCollector } from '../../../src/telemetry/metrics/export-figures.ts';
import { prometheusMissing, promtool } from '../../fixtures/prometheus.ts';

async function exposed(metrics: AgentMetrics): Promise<string> {
  return (await metrics.route().answer({ trusted: true, accept: undefined })).body;
}

function lines(text: string, name: string): readonly string[] {
  return text.split('\n').filter((line) => line.startsWith(name));
}

describe('figures of an agent as a whole', () => {
  it('tell each check with its state, of one that hangs too, and whether it is ready', async () => {
    using metrics = new AgentMetrics(systemClock, silentLogger);
    const hanging = { name: 'engine', look: () => new Promise<never>(() => undefined) };
    const well = { name: 'link', look: () => fine('open') };
    const health = new AgentHealth({ checks: [hanging, well], clock: systemClock, unready: () => undefined });
    using shown = metrics.show(health);
    const text = await exposed(metrics);
    assert.deepEqual(lines(text, 'longline_health_status{'), [
      'longline_health_status{check="engine",state="ok"} 0',
      'longline_health_status{check="engine",state="degraded"} 0',
      'longline_health_status{check="engine",state="failed"} 1',
      'longline_health_status{check="link",state="ok"} 1',
      'longline_health_status{check="link",state="degraded"} 0',
      'longline_health_status{check="link",state="failed"} 0',
    ]);
    assert.deepEqual(lines(text, 'longline_ready '), ['longline_ready 1']);
    assert.deepEqual(lines(text, 'longline_metrics_collector_failures_total{collector="health"'), [
      'longline_metrics_collector_failures_total{collector="health"} 0',
    ]);
    shown[Symbol.dispose]();
    assert.deepEqual(lines(await exposed(metrics), 'longline_ready '), ['longline_ready 0']);
  });

  it('tell what becomes of spans and log lines, where there are any', async () => {
    using metrics = new AgentMetrics(systemClock, silentLogger);
    const counts = () => ({ ended: 15, waiting: 1, sending: 2, sent: 3, failed: 4, dropped: 5 });
    using off = metrics.add(traceCollector({ on: false, counts }));
    assert.deepEqual(lines(await exposed(metrics), 'longline_traces'), []);
    off[Symbol.dispose]();
    using _on = metrics.add(traceCollector({ on: true, counts }));
    assert.deepEqual(lines(await exposed(metrics), 'longline_traces'), [
      'longline_traces_dropped_spans_total{reason="queue_full"} 5',
      'longline_traces_dropped_spans_total{reason="export_failed"} 4',
      'longline_traces_exported_spans_total 3',
      'longline_traces_queued_spans 3',
    ]);
    using _copy = metrics.add(logCollector({ on: true, counts }));
    assert.deepEqual(lines(await exposed(metrics), 'longline_logs'), [
      'longline_logs_dropped_lines_total{reason="queue_full"} 5',
      'longline_logs_dropped_lines_total{reason="export_failed"} 4',
      'longline_logs_exported_lines_total 3',
      'longline_logs_queued_lines 3',
    ]);
  });

  it('tell tunnels that are open, and what became of the others', async () => {
    using metrics = new AgentMetrics(systemClock, silentLogger);
    let ends = Promise.withResolvers<void>();
    const inner: TunnelTargets = {
      reach: async ({ port }) => {
        if (port === 1) throw new LonglineError('policy', 'no');
        return { woken: false, run: () => ends.promise, [Symbol.asyncDispose]: async () => undefined };
      },
    };
    const targets = metrics.tunnels.targets(inner);
    const { signal } = new AbortController();
    const open = (more: object) => targets.reach(create(OpenTunnelSchema, { port: 22, ...more }), signal);
    await assert.rejects(open({ port: 1 }), /no/);
    const shell = await open({ process: { case: 'exec', value: {} } });
    const running = shell.run({} as never);
    assert.ok((await exposed(metrics)).includes('longline_tunnels_open{kind="exec"} 1\n'));
    ends.resolve();
    await running;
    await shell[Symbol.asyncDispose]();
    await shell[Symbol.asyncDispose]();
    ends = Promise.withResolvers();
    ends.reject(new LonglineError('unavailable', 'broke'));
    const broken = await open({});
    await assert.rejects(broken.run({} as never), /broke/);
    await broken[Symbol.asyncDispose]();
    const text = await exposed(metrics);
    assert.deepEqual(
      lines(text, 'longline_tunnels_open').map((line) => line.slice(-1)),
      ['0', '0', '0'],
    );
    for (const [kind, outcome] of [
      ['port', 'policy'],
      ['exec', 'succeeded'],
      ['port', 'unavailable'],
    ]) {
      assert.ok(text.includes(`longline_tunnels_total{kind="${kind}",outcome="${outcome}"} 1\n`), `${kind} ${outcome}`);
    }
  });

  it('tell of a watchdog only where there is one', async () => {
    using metrics = new AgentMetrics(systemClock, silentLogger);
    assert.deepEqual(lines(await exposed(metrics), 'longline_watchdog'), []);
    metrics.beaten('told');
    assert.deepEqual(lines(await exposed(metrics), 'longline_watchdog'), [
      'longline_watchdog_beats_total{result="told"} 1',
      'longline_watchdog_beats_total{result="withheld"} 0',
    ]);
  });

  it('stay bounded, and right in sum, whatever names there are', { skip: prometheusMissing() ?? false }, async () => {
    using metrics = new AgentMetrics(systemClock, silentLogger);
    const odd = (index: number) => `"${index}\n\\${'é'.repeat(300)}`;
    const many = Array.from({ length: 20_000 }, (_, index) => odd(index));
    metrics.add({
      name: 'names',
      collect: () => [
        family(
          PROGRAM_METRICS.packets,
          many.map((name) => [1, name]),
        ),
        family(
          NETWORK_METRICS.problems,
          many.map((name) => [1, name, 'wg0']),
        ),
      ],
    });
    const text = await exposed(metrics);
    assert.ok(text.length < 200_000, `${text.length} characters`);
    const packets = lines(text, 'longline_program_packets_total{');
    assert.equal(packets.length, PROGRAM_METRICS.packets.maxSeries + 1);
    assert.equal(
      packets.at(-1),
      `longline_program_packets_total{program="other"} ${20_000 - PROGRAM_METRICS.packets.maxSeries}`,
    );
    assert.match(text, /^longline_metrics_overflows_total\{metric="longline_program_packets_total"\} 19936$/m);
    const { code, output } = promtool('check', 'metrics', { input: text });
    assert.equal(code, 0, output);
  });
});

describe('kind of a command', () => {
  it('is the name of what it asks for', () => {
    const wake = toBinary(SessionActionSchema, create(SessionActionSchema, { action: { case: 'wake', value: {} } }));
    assert.equal(commandKind('sessions', wake), 'wake');
    assert.equal(commandKind('programs', Uint8Array.of((2 << 3) | 2, 0)), 'roll_back');
    assert.equal(commandKind('sessions', new Uint8Array()), 'other');
    assert.equal(commandKind('sessions', Uint8Array.of((15 << 3) | 2, 0)), 'other', 'of a later version');
    assert.equal(commandKind('sessions', Uint8Array.of(0x82, 0x01, 0)), 'other');
    assert.equal(commandKind('workloads', wake), 'other');
  });
});
