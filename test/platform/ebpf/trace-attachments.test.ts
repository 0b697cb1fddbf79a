import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { AttachPoint, ProgramType } from '../../../src/capabilities/programs/ports.ts';
import type { AttachTask } from '../../../src/platform/ebpf/attach-task.ts';
import { Attachments, isAtomic } from '../../../src/platform/ebpf/attachments.ts';
import { setAttachTarget } from '../../../src/platform/ebpf/function-choice.ts';
import { onlineProcessors } from '../../../src/platform/ebpf/perf-event.ts';
import { probeTypes } from '../../../src/platform/ebpf/type-probes.ts';
import { failsWith } from '../../contract/kernel-contract.ts';
import { KernelLab, kernelLabMissing, until } from '../../fixtures/bpf/kernel-lab.ts';
import type { ObjectName } from '../../fixtures/bpf/objects.ts';
import { LoadedObject } from './loaded-object.ts';

const CALLS = 50;
/** The C library of this process. */
const LIBC = /\S+\/libc[.-]\S*$/m.exec(readFileSync('/proc/self/maps', 'utf8'))?.[0] ?? '/lib/libc.so.6';

/** Calls getppid, in the C library and so in the kernel. */
function callGetppid(): void {
  for (let call = 0; call < CALLS; call++) assert.ok(process.ppid >= 0);
}

describe('attachments at hooks of the kernel', { skip: kernelLabMissing() ?? false }, () => {
  const attachments = new Attachments();
  const support = new Map<ProgramType, string | undefined>();
  let lab: KernelLab;
  let folder: string;
  before(async () => {
    lab = await KernelLab.create();
    folder = join(lab.pins, 'links');
    mkdirSync(folder);
    for (const { missing, type } of probeTypes(isAtomic)) support.set(type, missing);
  });
  after(async () => await lab[Symbol.asyncDispose]());
  afterEach(() => {
    for (const { slot } of attachments.list(folder)) attachments.detach(at(slot));
    assert.deepEqual(readdirSync(folder), []);
  });
  const at = (slot = 'main') => join(folder, slot);
  const task = (object: LoadedObject, type: ProgramType, point: AttachPoint, name?: string): AttachTask => ({
    function: object.function(name),
    type,
    point,
  });
  /** Only this process is counted. */
  const load = (name: ObjectName) => new LoadedObject(name, { only_process: ownProcess() });

  const counted: readonly (readonly [ObjectName, ProgramType, AttachPoint, bigint | undefined])[] = [
    [
      'tracepoint',
      'tracepoint',
      { kind: 'tracepoint', category: 'syscalls', name: 'sys_enter_getppid' },
      BigInt(CALLS),
    ],
    ['raw-tracepoint', 'raw_tracepoint', { kind: 'raw_tracepoint', name: 'sys_enter' }, undefined],
    ['uprobe', 'uprobe', { kind: 'uprobe', path: LIBC, symbol: 'getppid', atReturn: false }, BigInt(CALLS)],
    ['kprobe', 'kprobe', { kind: 'kprobe', symbol: '__x64_sys_getppid', atReturn: false }, BigInt(CALLS)],
  ];
  for (const [name, type, point, calls] of counted) {
    test(`${type}: counts calls until it is detached`, () => {
      using counter = load(name);
      const order = task(counter, type, point);
      const reason = support.get(type);
      if (reason !== undefined) {
        assert.throws(() => attachments.attach(at(), order), failsWith('unsupported', 'this kernel has no'));
        assert.match(reason, /CONFIG_/);
        return;
      }
      const found = attachments.attach(at(), order);
      assert.deepEqual(found, { slot: 'main', linkId: found.linkId, programId: counter.function().id, gone: false });
      assert.ok(found.linkId > 0);
      callGetppid();
      const seen = counter.number();
      if (calls === undefined) assert.ok(seen >= BigInt(CALLS));
      else assert.equal(seen, calls);
      assert.deepEqual(attachments.list(folder), [found]);
      attachments.detach(at());
      const last = counter.number();
      callGetppid();
      assert.equal(counter.number(), last);
    });

    test(`${type}: has another take its place by attaching that first`, () => {
      if (support.get(type) !== undefined) return assert.match(support.get(type)!, /kernel/);
      using first = load(name);
      using second = load(name);
      attachments.attach(at(), task(first, type, point));
      assert.throws(() => attachments.replace(at(), task(second, type, point)), failsWith('unsupported', type));
      const found = attachments.attach(at(), task(second, type, point));
      assert.deepEqual(attachments.list(folder), [found]);
      assert.equal(found.programId, second.function().id);
      const last = first.number();
      callGetppid();
      assert.equal(first.number(), last);
      assert.ok(second.number() >= BigInt(CALLS));
    });
  }

  test('uretprobe: counts returns', () => {
    using counter = load('uprobe');
    const point = { kind: 'uprobe', path: LIBC, symbol: 'getppid', atReturn: true } as const;
    attachments.attach(at(), task(counter, 'uprobe', point, 'count_returns'));
    callGetppid();
    assert.equal(counter.number('returns'), BigInt(CALLS));
    assert.equal(counter.number(), 0n);
  });

  test('perf: samples every processor, under one slot', async () => {
    using counter = new LoadedObject('perf-event');
    using next = new LoadedObject('perf-event');
    const point = { kind: 'perf', event: 'cpu-clock', hz: 499 } as const;
    const found = attachments.attach(at(), task(counter, 'perf_event', point));
    assert.equal(readdirSync(at()).length, onlineProcessors().length);
    assert.deepEqual(attachments.list(folder), [found]);
    await until('samples', () => counter.number() > 20n);
    const other = attachments.attach(at(), task(next, 'perf_event', point));
    assert.deepEqual(attachments.list(folder), [other]);
    const last = counter.number();
    await until('samples', () => next.number() > 20n);
    assert.equal(counter.number(), last);
    attachments.detach(at());
    assert.deepEqual(attachments.list(folder), []);
  });

  test('perf: refuses what can not be counted', () => {
    using counter = new LoadedObject('perf-event');
    const perf = (event: string, hz: number) => () =>
      attachments.attach(at(), task(counter, 'perf_event', { kind: 'perf', event, hz }));
    assert.throws(perf('sunshine', 1), failsWith('not_found', 'sunshine'));
    assert.throws(perf('cpu-clock', 10_000_000), failsWith('invalid', 'perf_event_max_sample_rate'));
    assert.deepEqual(attachments.list(folder), []);
  });

  test('names tracepoints, files and symbols that are not there', () => {
    using tracepoint = load('tracepoint');
    using raw = load('raw-tracepoint');
    using uprobe = load('uprobe');
    const absent: readonly (readonly [LoadedObject, ProgramType, AttachPoint, string])[] = [
      [tracepoint, 'tracepoint', { kind: 'tracepoint', category: 'sched', name: 'no_such' }, 'sched:no_such'],
      [raw, 'raw_tracepoint', { kind: 'raw_tracepoint', name: 'no_such' }, 'no_such'],
      [uprobe, 'uprobe', { kind: 'uprobe', path: '/no/such', symbol: 'main', atReturn: false }, '/no/such'],
      [uprobe, 'uprobe', { kind: 'uprobe', path: LIBC, symbol: 'no_such', atReturn: false }, 'no_such'],
    ];
    for (const [object, type, point, named] of absent) {
      assert.throws(() => attachments.attach(at(), task(object, type, point)), failsWith('not_found', named));
    }
    assert.deepEqual(attachments.list(folder), []);
  });

  const targets: readonly (readonly ['fentry' | 'fexit' | 'lsm', AttachPoint])[] = [
    ['fentry', { kind: 'fentry', function: 'do_unlinkat' }],
    ['fexit', { kind: 'fexit', function: 'do_unlinkat' }],
    ['lsm', { kind: 'lsm', hook: 'file_open' }],
  ];
  for (const [type, point] of targets) {
    test(`${type}: counts calls, or says why it can not be had`, () => {
      const open = () => {
        const prepare = (program: bigint, name: string) => setAttachTarget(program, { name, type, points: [point] });
        return new LoadedObject(type, { only_process: ownProcess() }, prepare);
      };
      const reason = support.get(type);
      if (reason !== undefined) {
        assert.match(reason, /EPERM|CONFIG_|lsm=/);
        assert.throws(() => open()[Symbol.dispose](), /can't be loaded: -1/);
        return;
      }
      using counter = open();
      attachments.attach(at(), task(counter, type, point));
      writeFileSync(join(tmpdir(), `ll-unlinked.${process.pid}`), '');
      rmSync(join(tmpdir(), `ll-unlinked.${process.pid}`));
      assert.ok(counter.number() > 0n);
      attachments.detach(at());
    });

    test(`${type}: names what the kernel does not have`, () => {
      const wrong: AttachPoint = type === 'lsm' ? { kind: type, hook: 'no_such' } : { kind: type, function: 'no_such' };
      const prepare = (points: readonly AttachPoint[]) => (program: bigint, name: string) =>
        setAttachTarget(program, { name, type, points });
      assert.throws(() => new LoadedObject(type, {}, prepare([wrong])), failsWith('not_found', 'no_such'));
      assert.throws(() => new LoadedObject(type, {}, prepare([point, wrong])), failsWith('invalid', 'no_such'));
    });
  }
});

function ownProcess(): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(process.pid);
  return bytes;
}
