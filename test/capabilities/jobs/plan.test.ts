import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { parseJobsConfig } from '../../../src/capabilities/jobs/config.ts';
import {
  chooseCourse,
  containerSpec,
  LABEL,
  LAUNCH,
  strays,
  UNDO,
  warmContainerSpec,
  warmShape,
} from '../../../src/capabilities/jobs/plan.ts';
import type { ContainerFacts } from '../../../src/capabilities/jobs/ports.ts';
import { type JobSpec, parseJobSpec } from '../../../src/capabilities/jobs/spec.ts';
import { judge, signalOf } from '../../../src/capabilities/jobs/verdict.ts';
import { emptyJobSpec } from '../../../src/capabilities/jobs/wire.ts';

const JOB = parseJobSpec(emptyJobSpec('alpine:latest'), parseJobsConfig({}));
const IDS = { executionId: 'e1', instanceId: 'i1', image: { id: 'sha256:1', pinned: 'alpine@sha256:1', sizeBytes: 1 } };
const RECORD = { containerId: 'c1', warm: false, atMs: 0, inputDone: true };
const STATES = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'] as const;

function facts(more: Partial<ContainerFacts> = {}): ContainerFacts {
  const base = {
    id: 'c1',
    name: 'n',
    labels: {},
    state: 'running',
    image: '',
    exitCode: undefined,
    oomKilled: false,
  } as const;
  return { ...base, startedAtMs: 1, finishedAtMs: undefined, error: '', ...more };
}

suite('the container of a job', () => {
  test('is hardened, named after the execution and labelled', () => {
    const spec = containerSpec(JOB, IDS);
    assert.equal(spec.name, 'longline-job-e1');
    assert.equal(spec.image, 'sha256:1');
    assert.equal(spec.user, '65534:65534');
    assert.deepEqual(spec.network, { mode: 'none' });
    assert.deepEqual([spec.readOnlyRoot, spec.noNewPrivileges, spec.openStdin], [true, true, false]);
    assert.deepEqual(spec.addCapabilities, []);
    assert.equal(spec.labels[LABEL.instance], 'i1');
    assert.equal(spec.labels[LABEL.execution], 'e1');
    assert.equal(spec.labels[LABEL.role], 'job');
  });

  test('has a tmpfs where the image would have the engine make a volume', () => {
    const volumes = ['/var/lib/data', '/tmp/', '/srv', '/srv/', 'relative', '/', '/mine'];
    const ids = { ...IDS, image: { ...IDS.image, volumes } };
    const mounts = [{ source: '/a', target: '/mine', writable: false }];
    assert.deepEqual(containerSpec({ ...JOB, mounts }, ids).tmpFolders, ['/srv', '/var/lib/data']);
    assert.equal(containerSpec({ ...JOB, writableRoot: true }, ids).tmpFolders, undefined);
    assert.equal(containerSpec(JOB, IDS).tmpFolders, undefined);
  });

  test('shares its warm shape with jobs that differ in command, environment, place and input only', () => {
    const shape = (more: Partial<JobSpec>) => warmShape(containerSpec({ ...JOB, ...more }, IDS));
    const base = shape({});
    assert.equal(shape({ argv: ['other'], env: { A: 'b' }, workingDir: '/x', input: { kind: 'stream' } }), base);
    assert.equal(warmShape(containerSpec(JOB, { ...IDS, executionId: 'e2' })), base);
    const differing: readonly Partial<JobSpec>[] = [
      { cpus: 1 },
      { memoryBytes: JOB.memoryBytes + 1 },
      { pids: 65 },
      { tmpBytes: 8192 },
      { user: '0:0' },
      { network: { mode: 'bridge' } },
      { mounts: [{ source: '/a', target: '/b', writable: false }] },
      { addCapabilities: ['CHOWN'] },
      { writableRoot: true },
      { allowNewPrivileges: true },
      { runtime: 'runsc' },
      { outputBytes: 1 },
    ];
    const shapes = new Set(differing.map(shape));
    assert.equal(shapes.size, differing.length);
    assert.ok(!shapes.has(base));
    const otherImage = { ...IDS, image: { ...IDS.image, id: 'sha256:2' } };
    assert.notEqual(warmShape(containerSpec(JOB, otherImage)), base);
  });

  test('when warm has the same hardening and one read-only mount more', () => {
    const cold = containerSpec(JOB, IDS);
    const warm = warmContainerSpec(cold, {
      warmId: 'w',
      instanceId: 'i1',
      initPath: '/bin/busybox',
      script: 's',
      token: 't',
    });
    const { name: _n, labels, argv: _a, mounts, openStdin, ...rest } = warm;
    const { name: _n2, labels: _l2, argv: _a2, mounts: _m2, openStdin: _o2, ...wanted } = cold;
    assert.deepEqual(rest, wanted);
    assert.equal(openStdin, true);
    assert.deepEqual(mounts, [{ source: '/bin/busybox', target: '/.longline/busybox', writable: false }]);
    assert.deepEqual([labels[LABEL.role], labels[LABEL.execution]], ['warm', undefined]);
  });
});

suite('the course of a job', () => {
  test('never launches what has a record, and never follows what has ended', () => {
    for (const record of [undefined, RECORD]) {
      assert.equal(chooseCourse(undefined, record).kind, record === undefined ? 'launch' : 'lost');
      const kinds = STATES.map(
        (state) => chooseCourse(facts({ state, startedAtMs: state === 'created' ? undefined : 1 }), record).kind,
      );
      assert.deepEqual(kinds, ['replace', 'follow', 'follow', 'follow', 'collect', 'collect', 'collect']);
      assert.equal(chooseCourse(facts({ state: 'created' }), record).kind, 'collect');
    }
  });

  test('records and attaches after create and before start, and undoes all of it', () => {
    const order = LAUNCH.flat();
    assert.deepEqual([order[0], order.at(-1)], ['create', 'start']);
    assert.deepEqual([...order].sort(), Object.keys(UNDO).sort());
    assert.ok(order.indexOf('record') > order.indexOf('create') && order.indexOf('attach') < order.indexOf('start'));
  });
});

suite('strays', () => {
  test('are all containers but those of unfinished commands', () => {
    const job = (id: string, execution: string) =>
      facts({ id, labels: { [LABEL.role]: 'job', [LABEL.execution]: execution } });
    const warm = (id: string) => facts({ id, labels: { [LABEL.role]: 'warm' } });
    const all = [job('a', 'open'), job('b', 'done'), warm('c'), warm('d'), warm('e'), facts({ id: 'f' })];
    const records = new Map([
      ['running warm', { ...RECORD, containerId: 'd', warm: true }],
      ['ended warm', { ...RECORD, containerId: 'e', warm: true }],
    ]);
    const found = strays(all, new Set(['open', 'running warm']), records);
    assert.deepEqual(
      found.map((container) => container.id),
      ['b', 'c', 'e', 'f'],
    );
  });
});

suite('a verdict', () => {
  const observation = fc.record({
    exitCode: fc.option(fc.constantFrom(0, 1, 137, 143, 255, 139), { nil: undefined }),
    stoppedFor: fc.option(fc.constantFrom('cancelled', 'timeout', 'host_limit'), { nil: undefined }),
    oomSeen: fc.boolean(),
    engineWasLost: fc.boolean(),
    inputCut: fc.boolean(),
  });

  test('is success only for exit code 0 of a job that nobody stopped and that saw all of its input', () => {
    fc.assert(
      fc.property(observation, (seen) => {
        const verdict = judge(seen as Parameters<typeof judge>[0]);
        const clean = seen.exitCode === 0 && seen.stoppedFor === undefined && !seen.inputCut;
        assert.equal(verdict.state === 'succeeded', clean);
        assert.equal(verdict.exitCode, seen.exitCode);
        assert.equal(verdict.oomKilled, seen.oomSeen);
        if (seen.exitCode === undefined) assert.equal(verdict.state, 'indeterminate');
        if (verdict.reason === 'out_of_memory') assert.ok(seen.oomSeen && seen.exitCode === 137);
        if (verdict.state === 'indeterminate' || verdict.reason === 'engine_lost')
          assert.ok(verdict.error !== undefined);
      }),
    );
  });

  test('names signals by the convention of shells', () => {
    assert.deepEqual(
      [signalOf(137), signalOf(143), signalOf(139), signalOf(0), signalOf(1), signalOf(255)],
      ['SIGKILL', 'SIGTERM', 'SIGSEGV', '', '', ''],
    );
  });
});
