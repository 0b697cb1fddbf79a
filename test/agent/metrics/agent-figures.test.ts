import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { CommandSchema } from '#gen/longline/link/v1/link_pb.js';
import { JobActionSchema } from '#gen/longline/v1/signature_pb.js';
import { CommandMeter } from '../../../src/agent/metrics/command-meter.ts';
import { linkCollector } from '../../../src/agent/metrics/link-figures.ts';
import { networkFigures } from '../../../src/agent/metrics/network-figures.ts';
import { programsCollector } from '../../../src/agent/metrics/program-figures.ts';
import type { NetworkView } from '../../../src/capabilities/network/status.ts';
import type { CapabilityCommand, CapabilityEvent } from '../../../src/core/capability.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import type { Distribution, MetricFamily } from '../../../src/core/metrics/metric.ts';
import { Link } from '../../../src/link/link.ts';
import type { AdmittedCommand, CommandAdmission, CommandExecutor } from '../../../src/link/ports.ts';
import { openProcessMetrics } from '../../../src/telemetry/metrics/process-metrics.ts';

function open() {
  return openProcessMetrics({ part: 'test', version: '0', build: 'source' }, systemClock, silentLogger);
}

function valuesOf(families: Iterable<MetricFamily>, name: string): Record<string, unknown> {
  const found = [...families].find(({ definition }) => definition.name === name);
  return Object.fromEntries((found?.samples ?? []).map(({ labels, value }) => [labels.join(','), value]));
}

const COMMAND: CapabilityCommand = {
  id: 'c1',
  action: toBinary(JobActionSchema, create(JobActionSchema, { action: { case: 'run', value: {} } })),
  receivedAtMs: Date.now(),
  expiresAtMs: 0,
  traceparent: '',
};
const CONTEXT = { signal: new AbortController().signal, resumed: false };

function executorOf(events: readonly CapabilityEvent[]): CommandExecutor {
  return {
    writeInput: async () => ({ taken: 0, closed: true }),
    execute: async function* () {
      yield* events;
    },
  };
}

describe('meter of commands', () => {
  it('counts what runs, and what came of it', async () => {
    using opened = open();
    const meter = new CommandMeter(opened.registry, systemClock);
    const result: CapabilityEvent = { kind: 'result', outcome: 'failed', detail: new Uint8Array() };
    const executor = meter.executor(executorOf([{ kind: 'progress', detail: new Uint8Array() }, result]));
    const seen: unknown[] = [];
    for await (const event of executor.execute('jobs', COMMAND, CONTEXT)) {
      seen.push(event.kind);
      assert.deepEqual(valuesOf(await opened.registry.collect(), 'longline_commands_in_flight'), { jobs: 1 });
    }
    assert.deepEqual(seen, ['progress', 'result']);
    const families = await opened.registry.collect();
    assert.deepEqual(valuesOf(families, 'longline_commands_in_flight'), { jobs: 0 });
    const ended = { succeeded: 0, failed: 1, cancelled: 0, timed_out: 0, indeterminate: 0 };
    assert.deepEqual(valuesOf(families, 'longline_jobs_ended_total'), ended);
    const { counts } = valuesOf(families, 'longline_command_duration_seconds')['jobs,run,failed'] as Distribution;
    assert.equal(
      counts.reduce((sum, count) => sum + count),
      1,
    );
  });

  it('counts one that is let go of as over, and not as ended', async () => {
    using opened = open();
    const meter = new CommandMeter(opened.registry, systemClock);
    const executor = meter.executor(executorOf([{ kind: 'progress', detail: new Uint8Array() }]));
    for await (const _ of executor.execute('sessions', COMMAND, CONTEXT)) break;
    const families = await opened.registry.collect();
    assert.deepEqual(valuesOf(families, 'longline_commands_in_flight'), { sessions: 0 });
    assert.deepEqual(valuesOf(families, 'longline_command_duration_seconds'), {});
  });

  it('counts each refusal once, whoever refuses', async () => {
    using opened = open();
    const meter = new CommandMeter(opened.registry, systemClock);
    const told: string[] = [];
    let recorded: Promise<void> = Promise.resolve();
    const inner: CommandAdmission = {
      admit: async ({ id }) => {
        if (id === 'bad') throw new LonglineError('policy', 'no');
        const admitted = { capability: 'jobs', action: new Uint8Array(), nonce: new Uint8Array(), nonceExpiresAtMs: 0 };
        return { ...admitted, recorded } satisfies AdmittedCommand;
      },
      refused: ({ id }) => void told.push(id),
    };
    const admission = meter.admission(inner);
    await admission.admit(create(CommandSchema, { id: 'good' }), () => false);
    await assert.rejects(
      admission.admit(create(CommandSchema, { id: 'bad' }), () => false),
      /no/,
    );
    admission.refused(create(CommandSchema, { id: 'late' }), new LonglineError('late', 'too late'));
    recorded = Promise.reject(new LonglineError('limit', 'disk full'));
    const { recorded: failing } = await admission.admit(create(CommandSchema, { id: 'full' }), () => false);
    await assert.rejects(failing, /disk full/);
    const families = await opened.registry.collect();
    const rejected = valuesOf(families, 'longline_commands_rejected_total');
    assert.deepEqual(
      Object.entries(rejected).filter(([, count]) => count !== 0),
      [
        ['limit', 1],
        ['late', 1],
        ['policy', 1],
      ],
    );
    assert.equal(rejected['identity'], 0);
    assert.deepEqual(Object.keys(valuesOf(families, 'longline_command_admission_seconds')), ['admitted', 'refused']);
    assert.deepEqual(told, ['late']);
  });
});

describe('figures of the link', () => {
  it('are there before there is a link, and of one that never connected', async () => {
    const parts = { status: () => undefined, certificateExpiresAtMs: () => 5_000 };
    const early = await linkCollector(parts).collect();
    assert.deepEqual(valuesOf(early, 'longline_certificate_expiry_timestamp_seconds'), { '': 5 });
    const dataDir = await mkdtemp(join(tmpdir(), 'll-figures-'));
    try {
      await using link = await Link.open({
        dataDir,
        targets: { current: () => Promise.reject(new Error('none')), proven: () => undefined },
        admission: { admit: () => Promise.reject(new Error('none')), refused: () => undefined },
        executor: executorOf([]),
        report: { facts: () => assert.fail(), usage: () => assert.fail() },
        clock: systemClock,
        log: silentLogger,
      });
      link.emit({ type: 'test', message: 'waits' });
      const log = await link.logs.open('log-1');
      await log.gap('stdout', 7, 'output_limit');
      const families = [...(await linkCollector({ ...parts, status: () => link.status() }).collect())];
      const one = (name: string) => valuesOf(families, name);
      assert.equal(one('longline_link_state')['closed'], 1);
      assert.equal(one('longline_link_state')['open'], 0);
      assert.deepEqual(one('longline_link_round_trip_seconds'), {});
      assert.deepEqual(one('longline_link_queued_messages'), { commands: 0, reports: 0, events: 1 });
      assert.deepEqual(one('longline_spool_gap_bytes_total'), { output_limit: 7, spool_full: 0 });
      assert.ok((one('longline_spool_bytes')[''] as number) > 0);
      assert.equal(one('longline_journal_backlog')[''], 0);
    } finally {
      await rm(dataDir, { recursive: true });
    }
  });
});

describe('figures of networks and programs', () => {
  const peer = (index: number) => ({
    name: `peer-${index}`,
    publicKey: `key-${index}`,
    endpoint: undefined,
    prefixes: [],
    health: 'active' as const,
    lastHandshakeMs: index === 0 ? undefined : 1_000,
    receivedBytes: 1,
    sentBytes: 2,
    keepaliveSecs: 0,
    hasPresharedKey: false,
    foreign: false,
  });
  const view: NetworkView = {
    name: 'mesh',
    source: 'local',
    interface: 'wg0',
    state: 'degraded',
    backend: undefined,
    keys: [],
    keyEpoch: 0,
    listenPort: undefined,
    addresses: [],
    mtu: 0,
    problems: [
      { field: 'dns', message: 'known', harmless: true },
      { field: 'routes', message: 'wrong', harmless: false },
    ],
    counts: { active: 2, idle: 0, suspect: 0, stale: 0 },
    peers: [0, 1].map(peer),
    receivedBytes: 2,
    sentBytes: 4,
    handshakes: 3,
    recoveries: 1,
    reconciledAtMs: 9_000,
    passes: { succeeded: 5, failed: 1, tookMs: 250 },
  };

  it('tell a network with its peers', () => {
    const families = networkFigures([view], 3_000);
    assert.equal(valuesOf(families, 'longline_network_state')['mesh,wg0,degraded'], 1);
    assert.deepEqual(valuesOf(families, 'longline_network_problems'), { 'mesh,wg0': 1 });
    assert.deepEqual(valuesOf(families, 'longline_network_reconciles_total'), {
      'mesh,wg0,succeeded': 5,
      'mesh,wg0,failed': 1,
    });
    assert.deepEqual(valuesOf(families, 'longline_network_reconcile_seconds_total'), { 'mesh,wg0': 0.25 });
    assert.deepEqual(valuesOf(families, 'longline_network_peer_handshake_age_seconds'), {
      'mesh,wg0,peer-1,key-1': 2,
    });
  });

  it('stay bounded with thousands of peers', async () => {
    using opened = open();
    const peers = Array.from({ length: 5_000 }, (_, index) => peer(index + 1));
    opened.registry.add({ name: 'network', collect: () => networkFigures([{ ...view, peers }], 3_000) });
    const families = await opened.registry.collect();
    const bytes = Object.values(valuesOf(families, 'longline_network_peer_bytes_total')) as number[];
    assert.equal(bytes.length, 1_001);
    assert.equal(
      bytes.reduce((sum, one) => sum + one),
      15_000,
    );
  });

  it('tell programs by state, and rollbacks also where there were none', async () => {
    const families = await programsCollector({
      look: () => [],
      measured: () => new Map(),
      quarantined: () => [],
      rollbackCounts: () => new Map([['cpu', { succeeded: 2, failed: 1 }]]),
    }).collect();
    assert.equal(valuesOf(families, 'longline_programs')['active'], 0);
    const rollbacks = valuesOf(families, 'longline_program_rollbacks_total');
    assert.deepEqual([rollbacks['cpu,succeeded'], rollbacks['cpu,failed'], rollbacks['errors,failed']], [2, 1, 0]);
  });
});
