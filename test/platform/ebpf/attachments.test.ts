import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { AttachPoint, ProgramType } from '../../../src/capabilities/programs/ports.ts';
import type { AttachTask } from '../../../src/platform/ebpf/attach-task.ts';
import { type Attachment, Attachments } from '../../../src/platform/ebpf/attachments.ts';
import { pin } from '../../../src/platform/ebpf/bpf-syscall.ts';
import { hasTcx } from '../../../src/platform/ebpf/type-probes.ts';
import { failsWith } from '../../contract/kernel-contract.ts';
import { KernelLab, kernelLabMissing } from '../../fixtures/bpf/kernel-lab.ts';
import { programMissing } from '../../fixtures/netns.ts';
import { LoadedObject } from './loaded-object.ts';

const missing = kernelLabMissing() ?? programMissing('bpftool', 'bpftool') ?? false;

describe('attachments at interfaces', { skip: missing }, () => {
  const attachments = new Attachments();
  const filters = new Attachments({ withoutTcx: true });
  let lab: KernelLab;
  let folder: string;
  before(async () => {
    lab = await KernelLab.create();
    folder = join(lab.pins, 'links');
    mkdirSync(folder);
  });
  after(async () => await lab[Symbol.asyncDispose]());
  afterEach(() => {
    for (const { slot } of attachments.list(folder)) attachments.detach(at(slot));
    assert.deepEqual(readdirSync(folder), []);
  });
  const at = (slot = 'main') => join(folder, slot);
  const xdp = (name = 'in0', mode: 'auto' | 'native' | 'generic' = 'auto') =>
    ({ kind: 'xdp', interface: name, mode }) as const;
  const tc = (direction: 'ingress' | 'egress', name = 'in0') => ({ kind: 'tc', interface: name, direction }) as const;
  const task = (object: LoadedObject, point: AttachPoint, name?: string): AttachTask => ({
    function: object.function(name),
    type: point.kind as ProgramType,
    point,
  });
  const list = () => attachments.list(folder);
  /** Somebody else's, which runs count_ingress. */
  const addFilter = async (object: LoadedObject, ...place: readonly string[]) => {
    const pinned = join(lab.pins, 'theirs');
    pin(object.function('count_ingress').fd, pinned);
    const shown = ['bpf', 'da', 'pinned', pinned];
    await lab.inReceiver('tc', 'qdisc', 'replace', 'dev', 'in0', 'clsact');
    await lab.inReceiver('tc', 'filter', 'add', 'dev', 'in0', 'ingress', ...place, ...shown);
    rmSync(pinned);
  };
  const removeFilters = async () => await lab.inReceiver('tc', 'qdisc', 'del', 'dev', 'in0', 'clsact');

  test('xdp: counts every packet until it is detached', async () => {
    using counter = new LoadedObject('xdp-counter');
    const found = attachments.attach(at(), task(counter, xdp()));
    assert.deepEqual(found, { slot: 'main', linkId: found.linkId, programId: counter.function().id, gone: false });
    await lab.send(20);
    assert.equal(counter.number(), 20n);
    assert.deepEqual(list(), [found]);
    attachments.detach(at());
    await lab.send(5);
    assert.equal(counter.number(), 20n);
    attachments.detach(at());
  });

  for (const mode of ['native', 'generic'] as const) {
    test(`xdp: runs in mode ${mode}, and changes into it`, async () => {
      using counter = new LoadedObject('xdp-counter');
      const auto = attachments.attach(at(), task(counter, xdp()));
      const changed = attachments.attach(at(), task(counter, xdp('in0', mode)));
      // The mode that a driver has by itself is no change.
      assert.equal(changed.linkId === auto.linkId, mode === 'native');
      const shown = await lab.receiver.ip('-d', 'link', 'show', 'in0');
      assert.match(shown, mode === 'generic' ? /xdpgeneric/ : /xdp\b/);
      await lab.send(3);
      assert.equal(counter.number(), 3n);
      assert.deepEqual(list(), [changed]);
    });
  }

  test('xdp: refuses a mode that the driver does not have', () => {
    using counter = new LoadedObject('xdp-counter');
    const offload = { kind: 'xdp', interface: 'in0', mode: 'offload' } as const;
    assert.throws(() => attachments.attach(at(), task(counter, offload)), failsWith('unsupported', 'in0'));
    assert.deepEqual(list(), []);
  });

  test('xdp: what ran before comes back if the mode of the next can not be had', async () => {
    using before = new LoadedObject('xdp-counter');
    using next = new LoadedObject('xdp-counter');
    attachments.attach(at(), task(before, xdp('in0', 'generic')));
    const offload = { kind: 'xdp', interface: 'in0', mode: 'offload' } as const;
    assert.throws(() => attachments.attach(at(), task(next, offload)), failsWith('unsupported', 'in0'));
    assert.equal(list()[0]?.programId, before.function().id);
    assert.match(await lab.receiver.ip('-d', 'link', 'show', 'in0'), /xdpgeneric/);
    await lab.send(1);
    assert.equal(before.number(), 1n);
  });

  test('xdp: leaves the program of somebody else alone', async () => {
    using theirs = new LoadedObject('xdp-counter');
    using ours = new LoadedObject('xdp-counter-v2');
    const id = String(theirs.function().id);
    await lab.receiver.run('bpftool', 'net', 'attach', 'xdp', 'id', id, 'dev', 'in0');
    try {
      assert.throws(() => attachments.attach(at(), task(ours, xdp())), failsWith('already_exists', `program ${id}`));
      assert.deepEqual(list(), []);
      await lab.send(2);
      assert.equal(theirs.number(), 2n);
    } finally {
      await lab.receiver.run('bpftool', 'net', 'detach', 'xdp', 'dev', 'in0');
    }
  });

  const kinds = [
    ['xdp', attachments, xdp(), 'xdp-counter'],
    ['tcx', attachments, tc('ingress'), 'tc-counter'],
    ['clsact', filters, tc('ingress'), 'tc-counter'],
  ] as const;
  for (const [name, with_, point, object] of kinds) {
    test(`${name}: no packet goes unseen, or is seen twice, in 100 exchanges under traffic`, async (t) => {
      if (name === 'tcx' && !hasTcx()) return t.skip('needs a kernel with TCX (6.6)');
      using first = new LoadedObject(object);
      using second = new LoadedObject(object);
      with_.attach(at(), task(first, point));
      const ids = new Set<number>();
      const packets = await lab.flood(async () => {
        for (let exchange = 0; exchange < 100; exchange++) {
          const next = exchange % 2 === 0 ? second : first;
          const found = with_.replace(at(), task(next, point));
          assert.equal(found.programId, next.function().id);
          ids.add(found.linkId);
          // Lets packets pass between two.
          const seen = lab.received();
          while (lab.received() === seen) await new Promise((resolve) => setImmediate(resolve));
        }
      });
      assert.equal(ids.size, 1);
      assert.ok(first.number() > 0n && second.number() > 0n);
      assert.equal(first.number() + second.number(), BigInt(packets));
    });
  }

  for (const [name, with_] of [
    ['tcx', attachments],
    ['clsact', filters],
  ] as const) {
    test(`${name}: counts what comes in and what goes out`, async (t) => {
      if (name === 'tcx' && !hasTcx()) return t.skip('needs a kernel with TCX (6.6)');
      using counter = new LoadedObject('tc-counter');
      const coming = with_.attach(at('coming'), task(counter, tc('ingress'), 'count_ingress'));
      const going = with_.attach(at('going'), task(counter, tc('egress'), 'count_egress'));
      assert.equal(coming.linkId > 0, name === 'tcx');
      assert.deepEqual(list(), [coming, going]);
      await lab.send(7);
      assert.deepEqual([counter.number('counters', 0), counter.number('counters', 1)], [7n, 0n]);
      await lab.answer(4);
      assert.deepEqual([counter.number('counters', 0), counter.number('counters', 1)], [7n, 4n]);
      with_.detach(at('coming'));
      await lab.send(1);
      assert.equal(counter.number('counters', 0), 7n);
      assert.deepEqual(list(), [going]);
    });

    test(`${name}: takes turns with what others have there, and leaves it`, async (t) => {
      if (name === 'tcx' && !hasTcx()) return t.skip('needs a kernel with TCX (6.6)');
      using counter = new LoadedObject('tc-counter');
      using theirs = new LoadedObject('tc-counter');
      await addFilter(theirs, 'prio', '1');
      with_.attach(at(), task(counter, tc('ingress'), 'count_ingress'));
      using another = new LoadedObject('tc-counter');
      with_.attach(at('second'), task(another, tc('ingress'), 'count_ingress'));
      await lab.send(3);
      assert.deepEqual([counter.number(), another.number(), theirs.number()], [3n, 3n, 3n]);
      with_.detach(at());
      with_.detach(at('second'));
      await lab.send(2);
      assert.deepEqual([counter.number(), another.number(), theirs.number()], [3n, 3n, 5n]);
      await removeFilters();
    });

    test(`${name}: says that an interface is gone, and comes to the next one of its name`, async (t) => {
      if (name === 'tcx' && !hasTcx()) return t.skip('needs a kernel with TCX (6.6)');
      using counter = new LoadedObject('tc-counter');
      const order = task(counter, tc('ingress', 'in1'), 'count_ingress');
      const before = with_.attach(at(), order);
      await lab.removeInterface();
      assert.deepEqual(list(), [{ ...before, gone: true }]);
      assert.throws(() => with_.attach(at(), order), failsWith('not_found', 'in1'));
      assert.throws(() => with_.replace(at(), order), failsWith('not_found', 'in1'));
      assert.deepEqual(list(), [{ ...before, gone: true }]);
      await lab.makeInterface();
      const again = with_.attach(at(), order);
      assert.deepEqual(list(), [again]);
      assert.equal(again.gone, false);
      await lab.renewInterface();
      with_.detach(at());
    });
  }

  test('tcx: has no function twice at one place', (t) => {
    if (!hasTcx()) return t.skip('needs a kernel with TCX (6.6)');
    using counter = new LoadedObject('tc-counter');
    const order = task(counter, tc('ingress'), 'count_ingress');
    attachments.attach(at(), order);
    assert.throws(() => attachments.attach(at('second'), order), failsWith('already_exists', 'tc:in0:ingress'));
  });

  test('clsact: sees that somebody took the filter away, and puts it back', async () => {
    using counter = new LoadedObject('tc-counter');
    const order = task(counter, tc('ingress'), 'count_ingress');
    const before = filters.attach(at(), order);
    await removeFilters();
    assert.deepEqual(list(), [{ ...before, gone: true }]);
    assert.deepEqual(filters.attach(at(), order), before);
    await lab.send(2);
    assert.equal(counter.number(), 2n);
  });

  test('clsact: takes away what a kill in the middle of its end left', () => {
    mkdirSync(at());
    mkdirSync(at('main-old'));
    assert.deepEqual(list(), []);
    assert.deepEqual(readdirSync(folder), []);
  });

  test('clsact: takes nobody else for its own', async () => {
    using counter = new LoadedObject('tc-counter');
    using theirs = new LoadedObject('tc-counter');
    const order = task(counter, tc('ingress'), 'count_ingress');
    filters.attach(at(), order);
    // The same slot of another agent would be another path; this is the handle of ours in other hands.
    const [pinned = ''] = readdirSync(at());
    const handle = `0x${Number(pinned.split('-').at(-1)).toString(16)}`;
    attachments.detach(at());
    await addFilter(theirs, 'prio', '19532', 'handle', handle);
    assert.throws(() => filters.attach(at(), order), failsWith('already_exists', 'in0'));
    assert.deepEqual(list(), []);
    await lab.send(2);
    assert.equal(theirs.number(), 2n);
    // And after it was ours.
    await removeFilters();
    filters.attach(at(), order);
    await removeFilters();
    await addFilter(theirs, 'prio', '19532', 'handle', handle);
    assert.deepEqual(
      list().map(({ gone }) => gone),
      [true],
    );
    assert.throws(() => filters.attach(at(), order), failsWith('already_exists', 'in0'));
    attachments.detach(at());
    await lab.send(2);
    assert.equal(theirs.number(), 4n);
    await removeFilters();
  });

  test('refuses places of another kind', () => {
    using counter = new LoadedObject('xdp-counter');
    const wrong = { function: counter.function(), type: 'xdp', point: tc('ingress') } as const;
    assert.throws(() => attachments.attach(at(), wrong), failsWith('invalid', 'tc:in0:ingress'));
  });

  test('a link that is elsewhere is moved by attach, and not by replace', async () => {
    using counter = new LoadedObject('xdp-counter');
    const before = attachments.attach(at(), task(counter, xdp('in1')));
    assert.throws(() => attachments.replace(at(), task(counter, xdp('in0'))), failsWith('wrong_state', 'xdp:in0'));
    assert.deepEqual(list(), [before]);
    const moved = attachments.attach(at(), task(counter, xdp('in0')));
    assert.notEqual(moved.linkId, before.linkId);
    assert.deepEqual(list(), [moved]);
    assert.doesNotMatch(await lab.receiver.ip('link', 'show', 'in1'), /xdp/);
  });

  describe('after a kill in the middle of an exchange', () => {
    const kinds: readonly (readonly [string, Attachments, AttachPoint, 'xdp-counter' | 'tc-counter'])[] = [
      ['xdp', attachments, xdp(), 'xdp-counter'],
      ['clsact', filters, tc('ingress'), 'tc-counter'],
    ];
    const states: readonly (readonly [string, readonly string[], readonly string[]])[] = [
      ['a draft alone is taken back', ['-new'], []],
      ['a draft beside the slot is taken back', ['', '-new'], ['']],
      ['a whole draft takes the place of the former', ['-new', '-old'], ['-new']],
      ['the former alone comes back', ['-old'], ['-old']],
      ['the former beside the slot is ended', ['', '-old'], ['']],
    ];
    for (const [name, with_, point, object] of kinds) {
      for (const [what, suffixes, kept] of states) {
        test(`${name}: ${what}`, async () => {
          const places = suffixes.map((_, index) => onInterface(point, `in${index}`));
          const objects = suffixes.map(() => new LoadedObject(object));
          const made = new Map<string, Attachment>();
          for (const [index, suffix] of suffixes.entries()) {
            made.set(suffix, with_.attach(at(`main${suffix}`), task(objects[index]!, places[index]!)));
          }
          const found = with_.list(folder);
          assert.deepEqual(
            found,
            kept.map((suffix) => ({ ...made.get(suffix)!, slot: 'main' })),
          );
          assert.deepEqual(readdirSync(folder), kept.length > 0 ? ['main'] : []);
          // What was taken back doesn't run any more.
          await lab.send(1);
          for (const [index, suffix] of suffixes.entries()) {
            const runs = kept.includes(suffix) && index === 0;
            assert.equal(objects[index]!.number(), runs ? 1n : 0n, suffix);
          }
          with_.detach(at());
          for (const one of objects) one[Symbol.dispose]();
        });
      }
    }
  });
});

function onInterface(point: AttachPoint, name: string): AttachPoint {
  return point.kind === 'xdp' || point.kind === 'tc' ? { ...point, interface: name } : point;
}
