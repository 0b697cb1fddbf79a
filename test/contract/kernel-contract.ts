// What every Kernel of the programs capability does, said once: the same bodies run against the real one and the fake.
// Subjects offer a host with two interfaces and a control group, all of it theirs alone.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type {
  AttachOrder,
  AttachPoint,
  FoundProgram,
  FoundRevision,
  Kernel,
  LoadOutcome,
  LoadRequest,
} from '../../src/capabilities/programs/ports.ts';
import { LonglineError, type Reason, toLonglineError } from '../../src/core/errors.ts';
import { KIND_OF_TYPE } from '../../src/core/programs/attach-point.ts';
import { PROGRAM_TYPES } from '../../src/core/programs/program-type.ts';
import { bpfObject, type ObjectName, usualCounter } from '../fixtures/bpf/objects.ts';

/** A host with a kernel. */
export interface KernelSubject extends AsyncDisposable {
  readonly kernel: Kernel;
  /** Of another agent on the same host. */
  readonly other: Kernel;
  /** Interfaces that nothing is attached to. */
  readonly interfaces: readonly [string, string];
  /** Path of a control group of version 2. */
  readonly cgroup: string;
  /** Has this many packets arrive at the first interface, and resolves when they did. */
  send(packets: number): Promise<void>;
  /** Removes the second interface, and makes it anew. */
  renewInterface(): Promise<void>;
  /** Removes the control group, and makes it anew. */
  renewCgroup(): Promise<void>;
}

const LIMIT = 'limit';
const LIMIT_MS = 60_000;

/** What to load: all functions of an object. */
export function loadRequest(
  program: string,
  revision: number,
  name: ObjectName,
  changes: Partial<LoadRequest> = {},
): LoadRequest {
  const { bytes, functions } = bpfObject(name);
  return {
    place: { program, revision },
    object: bytes,
    functions: functions.map((one) => ({ ...one, points: [] })),
    writes: [],
    carryFrom: undefined,
    freshMaps: [],
    objectSha256: createHash('sha256').update(bytes).digest('hex'),
    ...changes,
  };
}

/** What is loaded. Fails if it was refused. */
export function loadedOf(outcome: LoadOutcome): FoundRevision {
  assert.ok(
    outcome.kind === 'loaded',
    outcome.kind === 'refused' ? `${outcome.error.message}\n${outcome.verifierLog}` : '',
  );
  return outcome.revision;
}

/** True for an error of this reason whose message names something. For assert.rejects. */
export function failsWith(reason: Reason, named: string): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof LonglineError, String(error));
    assert.equal(error.reason, reason, error.message);
    assert.ok(error.message.includes(named), `"${error.message}" doesn't name ${named}`);
    return true;
  };
}

function isCancelled(error: unknown): true {
  assert.equal(toLonglineError(error).reason, 'cancelled');
  return true;
}

/** Defines the suite. */
export function kernelContract(
  name: string,
  open: () => Promise<KernelSubject>,
  options: { readonly skip?: string | false } = {},
): void {
  describe(`kernel: ${name}`, { skip: options.skip ?? false }, () => {
    let subject: KernelSubject;
    let kernel: Kernel;
    before(async () => {
      subject = await open();
      kernel = subject.kernel;
    });
    after(async () => await subject[Symbol.asyncDispose]());
    beforeEach(async () => {
      for (const one of [subject.kernel, subject.other]) await empty(one);
    });

    const xdp = (at = 0): AttachPoint => ({ kind: 'xdp', interface: subject.interfaces[at]!, mode: 'auto' });
    const order = (program: string, revision: number, point: AttachPoint, slot = 'main'): AttachOrder => ({
      place: { program, revision },
      function: 'count_packets',
      type: 'xdp',
      point,
      slot,
    });
    const load = async (program: string, revision: number, object: ObjectName, changes: Partial<LoadRequest> = {}) =>
      loadedOf(await kernel.load(loadRequest(program, revision, object, changes)));
    const found = async (program: string, of = kernel): Promise<FoundProgram | undefined> =>
      (await of.list()).find((one) => one.program === program);
    const packets = async (program: string, revision: number) =>
      (await kernel.readCounters({ program, revision }, [usualCounter('packets')]))[0];

    test('says what it can do, twice the same, and leaves nothing', async () => {
      const first = await kernel.support();
      const second = await kernel.support();
      assert.match(first.release, /^\d+\.\d+/);
      assert.equal(first.missing, undefined);
      assert.notEqual(first.bootId, '');
      assert.deepEqual(first.types.map(({ type }) => type).sort(), [...PROGRAM_TYPES].sort());
      assert.deepEqual(second, first);
      const atomic = first.types.flatMap(({ atomic, type }) => (atomic ? [type] : []));
      assert.deepEqual(atomic.sort(), ['cgroup_skb', 'cgroup_sock', 'cgroup_sock_addr', 'tc', 'xdp']);
      for (const { missing, type } of first.types) {
        if (missing !== undefined) assert.ok(missing.length > 10, `${type}: "${missing}" is no reason and mend`);
      }
      assert.deepEqual(await kernel.list(), []);
    });

    test('loads what is asked for, lists it, and unloads it', async () => {
      const revision = await load('counter', 1, 'xdp-counter');
      assert.deepEqual(revision.place, { program: 'counter', revision: 1 });
      assert.deepEqual(
        revision.functions.map((one) => one.name),
        ['count_packets'],
      );
      assert.ok(revision.functions[0]!.id > 0);
      assert.ok(revision.maps.find((map) => map.name === 'counters')!.id > 0);
      const listed = await found('counter');
      assert.deepEqual(listed?.revisions[0]?.functions, revision.functions);
      assert.deepEqual(listed?.links, []);
      await kernel.unload(revision.place);
      assert.deepEqual(await kernel.list(), []);
      await kernel.unload(revision.place);
    });

    test('loads only the functions that are named', async () => {
      const functions = [{ name: 'count_in', type: 'cgroup_skb', points: [] }] as const;
      const revision = await load('one', 1, 'cgroup-skb', { functions });
      assert.deepEqual(
        revision.functions.map((one) => one.name),
        ['count_in'],
      );
    });

    test('sees nothing of another agent, and touches nothing of it', async () => {
      loadedOf(await subject.other.load(loadRequest('counter', 1, 'xdp-counter')));
      await subject.other.attach(order('counter', 1, xdp(1)));
      assert.deepEqual(await kernel.list(), []);
      await kernel.unload({ program: 'counter', revision: 1 });
      await kernel.detach('counter', 'main');
      await load('counter', 1, 'xdp-counter-v2');
      assert.equal((await found('counter', subject.other))?.links.length, 1);
      await kernel.unload({ program: 'counter', revision: 1 });
      assert.equal((await found('counter', subject.other))?.revisions.length, 1);
    });

    test('tells what the verifier said, and leaves nothing of it', async () => {
      const outcome = await kernel.load(loadRequest('bad', 1, 'xdp-refused'));
      assert.ok(outcome.kind === 'refused');
      assert.match(outcome.verifierLog, /R\d+ offset is outside of the packet/);
      assert.ok(outcome.error instanceof LonglineError);
      assert.deepEqual(await kernel.list(), []);
    });

    test('refuses what is no BPF object, and what the object does not have', async () => {
      const noObject = Buffer.from('no ELF object at all');
      const objectSha256 = createHash('sha256').update(noObject).digest('hex');
      await assert.rejects(
        kernel.load(loadRequest('odd', 1, 'xdp-counter', { object: noObject, objectSha256 })),
        failsWith('invalid', 'ELF'),
      );
      const functions = [{ name: 'count_cars', type: 'xdp', points: [] }] as const;
      await assert.rejects(
        kernel.load(loadRequest('odd', 1, 'xdp-counter', { functions })),
        failsWith('invalid', 'count_cars'),
      );
      const value = { type: 'uint', text: '1' } as const;
      const writes = [
        { kind: 'variable', parameter: 'speed', variable: 'speed_limit', value },
        { kind: 'map', parameter: 'road', map: 'roads', key: '0', value },
      ] as const;
      await assert.rejects(kernel.load(loadRequest('odd', 1, 'xdp-counter', { writes })), (error: LonglineError) => {
        assert.equal(error.reason, 'invalid');
        const text = error.violations.map(({ field, description }) => `${field}: ${description}`).join('\n');
        for (const word of ['speed', 'road']) assert.ok(text.includes(word), text);
        return true;
      });
      assert.deepEqual(await kernel.list(), []);
    });

    test('makes a revision anew that is there already', async () => {
      const first = await load('counter', 1, 'xdp-counter');
      const second = await load('counter', 1, 'xdp-counter');
      assert.notEqual(second.functions[0]!.id, first.functions[0]!.id);
      assert.equal((await found('counter'))?.revisions.length, 1);
    });

    test('carries maps over, save for those that are asked for anew or have another size', async () => {
      const id = (revision: FoundRevision) => revision.maps.find((map) => map.name === 'counters')!.id;
      const carryFrom = { program: 'counter', revision: 1 };
      const first = await load('counter', 1, 'xdp-counter');
      const next = await kernel.load(loadRequest('counter', 2, 'xdp-counter-v2', { carryFrom }));
      assert.equal(id(loadedOf(next)), id(first));
      assert.ok(next.kind === 'loaded');
      assert.deepEqual(next.carriedMaps, ['counters']);
      const fresh = await load('counter', 3, 'xdp-counter-v2', { carryFrom, freshMaps: ['counters'] });
      assert.notEqual(id(fresh), id(first));
      const wide = await kernel.load(loadRequest('counter', 4, 'xdp-counter-wide', { carryFrom }));
      assert.ok(wide.kind === 'loaded');
      assert.deepEqual(wide.carriedMaps, []);
      // The map outlives the revision that it was made for.
      await kernel.unload(first.place);
      assert.equal(await packets('counter', 2), 0n);
    });

    test('attaches, counts packets, lists the link and detaches', async () => {
      const revision = await load('counter', 1, 'xdp-counter');
      const link = await kernel.attach(order('counter', 1, xdp()));
      assert.deepEqual(link, {
        program: 'counter',
        slot: 'main',
        linkId: link.linkId,
        programId: revision.functions[0]!.id,
        gone: false,
      });
      assert.ok(link.linkId > 0);
      assert.deepEqual((await found('counter'))?.links, [link]);
      await subject.send(5);
      assert.equal(await packets('counter', 1), 5n);
      await kernel.detach('counter', 'main');
      assert.deepEqual((await found('counter'))?.links, []);
      await subject.send(2);
      assert.equal(await packets('counter', 1), 5n);
      await kernel.detach('counter', 'main');
    });

    test('reads counters in order, and says which it can not read', async () => {
      await load('counter', 1, 'xdp-counter');
      await kernel.attach(order('counter', 1, xdp()));
      await subject.send(3);
      const values = await kernel.readCounters({ program: 'counter', revision: 1 }, [
        usualCounter('errors'),
        { ...usualCounter('packets'), map: 'absent' },
        usualCounter('packets'),
      ]);
      assert.deepEqual(values, [0n, undefined, 3n]);
    });

    test('has a slot run another function if it is attached again', async () => {
      await load('counter', 1, 'xdp-counter');
      const second = await load('counter', 2, 'xdp-counter-v2');
      const before = await kernel.attach(order('counter', 1, xdp()));
      const again = await kernel.attach(order('counter', 1, xdp()));
      assert.deepEqual(again, before);
      const link = await kernel.attach(order('counter', 2, xdp()));
      assert.equal(link.programId, second.functions[0]!.id);
      assert.deepEqual((await found('counter'))?.links, [link]);
      await subject.send(4);
      assert.deepEqual([await packets('counter', 1), await packets('counter', 2)], [0n, 4n]);
    });

    test('moves a slot to another place if it is attached there', async () => {
      await load('counter', 1, 'xdp-counter');
      await kernel.attach(order('counter', 1, xdp(1)));
      const link = await kernel.attach(order('counter', 1, xdp(0)));
      assert.deepEqual((await found('counter'))?.links, [link]);
      await load('other', 1, 'xdp-counter');
      await kernel.attach(order('other', 1, xdp(1)));
      await subject.send(2);
      assert.deepEqual([await packets('counter', 1), await packets('other', 1)], [2n, 0n]);
    });

    test('replaces nothing that is at another place, and attaches nothing where its type can not go', async () => {
      await load('counter', 1, 'xdp-counter');
      const link = await kernel.attach(order('counter', 1, xdp(1)));
      await assert.rejects(
        kernel.replace(order('counter', 1, xdp(0))),
        failsWith('wrong_state', subject.interfaces[0]),
      );
      const egress = { kind: 'tc', interface: subject.interfaces[0], direction: 'egress' } as const;
      await assert.rejects(kernel.attach(order('counter', 1, egress, 'second')), failsWith('invalid', 'egress'));
      assert.deepEqual((await found('counter'))?.links, [link]);
    });

    test('goes on with what is attached while its revision is made anew', async () => {
      await load('counter', 1, 'xdp-counter');
      const link = await kernel.attach(order('counter', 1, xdp()));
      const anew = await load('counter', 1, 'xdp-counter');
      assert.deepEqual((await found('counter'))?.links, [link]);
      assert.equal(await packets('counter', 1), 0n);
      const next = await kernel.replace(order('counter', 1, xdp()));
      assert.deepEqual([next.linkId, next.programId], [link.linkId, anew.functions[0]!.id]);
    });

    test('keeps several attachments of one program apart', async () => {
      const revision = await load('counter', 1, 'xdp-counter');
      const first = await kernel.attach(order('counter', 1, xdp(0), 'first'));
      const second = await kernel.attach(order('counter', 1, xdp(1), 'second'));
      assert.deepEqual((await found('counter'))?.links, [first, second]);
      assert.equal(first.programId, revision.functions[0]!.id);
      assert.equal(second.programId, first.programId);
      await kernel.detach('counter', 'first');
      assert.deepEqual((await found('counter'))?.links, [second]);
    });

    test('refuses names that can not be a slot', async () => {
      await load('counter', 1, 'xdp-counter');
      for (const slot of ['', 'a/b', '..', 'a-b', 'x'.repeat(64)]) {
        await assert.rejects(kernel.attach(order('counter', 1, xdp(), slot)), failsWith('invalid', 'slot'));
      }
      assert.deepEqual((await found('counter'))?.links, []);
    });

    test('replaces the function of a link, and back', async () => {
      const first = await load('counter', 1, 'xdp-counter');
      const second = await load('counter', 2, 'xdp-counter-v2');
      const { linkId } = await kernel.attach(order('counter', 1, xdp()));
      const replaced = await kernel.replace(order('counter', 2, xdp()));
      assert.deepEqual([replaced.linkId, replaced.programId], [linkId, second.functions[0]!.id]);
      await subject.send(1);
      const back = await kernel.replace(order('counter', 1, xdp()));
      assert.deepEqual([back.linkId, back.programId], [linkId, first.functions[0]!.id]);
      await subject.send(2);
      assert.deepEqual([await packets('counter', 1), await packets('counter', 2)], [2n, 1n]);
    });

    test('refuses to replace what is not there, or can not be', async () => {
      await load('counter', 1, 'xdp-counter');
      await assert.rejects(kernel.replace(order('counter', 1, xdp(), 'none')), failsWith('not_found', 'none'));
      await load('calls', 1, 'raw-tracepoint');
      const trace = {
        ...order('calls', 1, { kind: 'raw_tracepoint', name: 'sys_enter' }),
        function: 'count_calls',
        type: 'raw_tracepoint',
      } as const;
      await kernel.attach(trace);
      await assert.rejects(kernel.replace(trace), failsWith('unsupported', 'raw_tracepoint'));
      assert.equal((await found('calls'))?.links.length, 1);
    });

    test('names what it can not find', async () => {
      await assert.rejects(kernel.attach(order('counter', 1, xdp())), failsWith('not_found', 'counter'));
      await load('counter', 1, 'xdp-counter');
      await assert.rejects(
        kernel.attach({ ...order('counter', 1, xdp()), function: 'count_cars' }),
        failsWith('not_found', 'count_cars'),
      );
      const absent = { kind: 'xdp', interface: 'll-absent0', mode: 'auto' } as const;
      await assert.rejects(kernel.attach(order('counter', 1, absent)), failsWith('not_found', 'll-absent0'));
      await load('group', 1, 'cgroup-sock');
      const nowhere = {
        ...order('group', 1, { kind: 'cgroup', path: `${subject.cgroup}/absent` }),
        function: 'count_sockets',
        type: 'cgroup_sock',
      } as const;
      await assert.rejects(kernel.attach(nowhere), failsWith('not_found', `${subject.cgroup}/absent`));
      assert.deepEqual(
        (await kernel.list()).flatMap(({ links }) => links),
        [],
      );
    });

    test('refuses a place that somebody else has', async () => {
      await load('counter', 1, 'xdp-counter');
      await load('rival', 1, 'xdp-counter');
      const link = await kernel.attach(order('counter', 1, xdp()));
      await assert.rejects(kernel.attach(order('rival', 1, xdp())), failsWith('already_exists', subject.interfaces[0]));
      assert.deepEqual((await found('rival'))?.links, []);
      assert.deepEqual((await found('counter'))?.links, [link]);
    });

    test('keeps what is attached when its revision is unloaded', async () => {
      const revision = await load('counter', 1, 'xdp-counter');
      const link = await kernel.attach(order('counter', 1, xdp()));
      await kernel.unload(revision.place);
      assert.deepEqual(await found('counter'), { program: 'counter', revisions: [], links: [link] });
      await kernel.detach('counter', 'main');
      assert.deepEqual(await kernel.list(), []);
    });

    test('sees that an interface is gone, and attaches to the next of that name', async () => {
      await load('counter', 1, 'xdp-counter');
      await kernel.attach(order('counter', 1, xdp(1)));
      await subject.renewInterface();
      assert.deepEqual(
        (await found('counter'))?.links.map(({ gone, slot }) => ({ gone, slot })),
        [{ gone: true, slot: 'main' }],
      );
      await assert.rejects(kernel.replace(order('counter', 1, xdp(1))), failsWith('not_found', subject.interfaces[1]));
      const link = await kernel.attach(order('counter', 1, xdp(1)));
      assert.deepEqual((await found('counter'))?.links, [link]);
      assert.equal(link.gone, false);
    });

    test('sees that a control group is gone, and detaches what was there', async () => {
      await load('group', 1, 'cgroup-sock');
      const there = {
        ...order('group', 1, { kind: 'cgroup', path: subject.cgroup }),
        function: 'count_sockets',
        type: 'cgroup_sock',
      } as const;
      assert.equal((await kernel.attach(there)).gone, false);
      await subject.renewCgroup();
      // The kernel gets round to it a little later.
      const endsAt = performance.now() + LIMIT_MS;
      while ((await found('group'))?.links[0]?.gone !== true) {
        assert.ok(performance.now() < endsAt, 'the group is not gone');
        await delay(5);
      }
      await kernel.detach('group', 'main');
      assert.deepEqual((await found('group'))?.links, []);
    });

    test('attaches every type that it announces', async () => {
      const { types } = await kernel.support();
      for (const [object, point] of placesOf(subject)) {
        const { functions } = bpfObject(object);
        const support = types.find((one) => one.type === functions[0]!.type)!;
        if (support.missing !== undefined) continue;
        const program = object.replaceAll('-', '_');
        await load(program, 1, object, { functions: functions.map((one) => ({ ...one, points: [point] })) });
        for (const { name, type } of functions) {
          assert.equal(KIND_OF_TYPE[type], point.kind);
          const one = { place: { program, revision: 1 }, function: name, type, point, slot: name };
          const link = await kernel.attach(one);
          assert.deepEqual(
            (await found(program))?.links.find(({ slot }) => slot === name),
            link,
          );
        }
        await empty(kernel);
      }
    });

    test('counts runs while statistics are held', async () => {
      await load('counter', 1, 'xdp-counter');
      await kernel.attach(order('counter', 1, xdp()));
      const stats = async () => (await kernel.stats({ program: 'counter', revision: 1 })).functions[0]!;
      await subject.send(1);
      const before = await stats();
      const held = kernel.holdStatistics();
      try {
        await subject.send(6);
        const during = await stats();
        assert.equal(during.name, 'count_packets');
        assert.equal(during.runs - before.runs, 6n);
        assert.ok(during.runTimeNs > before.runTimeNs);
      } finally {
        held[Symbol.dispose]();
      }
      const { memoryBytes } = await kernel.stats({ program: 'counter', revision: 1 });
      assert.ok(memoryBytes > 0);
    });

    test('takes events in order, at most as many as are wanted', async () => {
      await load('teller', 1, 'xdp-events');
      await kernel.attach({ ...order('teller', 1, xdp()), function: 'tell_packets' });
      using events = kernel.openEvents({ program: 'teller', revision: 1 }, 'events');
      assert.deepEqual(events.take(10), []);
      await subject.send(5);
      const numbers = (records: readonly Uint8Array[]) => records.map((one) => Buffer.from(one).readBigUInt64LE(0));
      assert.deepEqual(numbers(events.take(3)), [1n, 2n, 3n]);
      assert.deepEqual(numbers(events.take(10)), [4n, 5n]);
      assert.throws(
        () => kernel.openEvents({ program: 'teller', revision: 1 }, 'absent'),
        failsWith('not_found', 'absent'),
      );
    });

    test('does nothing that was cancelled beforehand', async () => {
      const signal = AbortSignal.abort();
      await assert.rejects(kernel.load(loadRequest('counter', 1, 'xdp-counter'), signal), isCancelled);
      assert.deepEqual(await kernel.list(), []);
      await load('counter', 1, 'xdp-counter');
      await assert.rejects(kernel.attach(order('counter', 1, xdp()), signal), isCancelled);
      assert.deepEqual((await found('counter'))?.links, []);
    });

    test('lets a written limit decide', async () => {
      const value = { type: 'uint', text: '3' } as const;
      await load('counter', 1, 'xdp-counter', {
        writes: [{ kind: 'variable', parameter: LIMIT, variable: LIMIT, value }],
      });
      await kernel.attach(order('counter', 1, xdp()));
      await subject.send(5);
      const counters = [usualCounter('packets'), usualCounter('violations')];
      assert.deepEqual(await kernel.readCounters({ program: 'counter', revision: 1 }, counters), [5n, 2n]);
    });
  });
}

/** A place for each object, save for those of types that have been attached anyway. */
function placesOf(subject: KernelSubject): readonly (readonly [ObjectName, AttachPoint])[] {
  const cgroup: AttachPoint = { kind: 'cgroup', path: subject.cgroup };
  return [
    ['tc-counter', { kind: 'tc', interface: subject.interfaces[0], direction: 'ingress' }],
    ['cgroup-skb', cgroup],
    ['cgroup-connect', cgroup],
    ['cgroup-sock', cgroup],
    ['tracepoint', { kind: 'tracepoint', category: 'syscalls', name: 'sys_enter_getppid' }],
    ['raw-tracepoint', { kind: 'raw_tracepoint', name: 'sys_enter' }],
    ['perf-event', { kind: 'perf', event: 'cpu-clock', hz: 49 }],
    ['uprobe', { kind: 'uprobe', path: process.execPath, symbol: 'main', atReturn: false }],
    ['kprobe', { kind: 'kprobe', symbol: 'do_unlinkat', atReturn: false }],
    ['fentry', { kind: 'fentry', function: 'do_unlinkat' }],
    ['fexit', { kind: 'fexit', function: 'do_unlinkat' }],
    ['lsm', { kind: 'lsm', hook: 'file_open' }],
  ];
}

async function empty(kernel: Kernel): Promise<void> {
  for (const { links, program, revisions } of await kernel.list()) {
    for (const { slot } of links) await kernel.detach(program, slot);
    for (const { place } of revisions) await kernel.unload(place);
  }
}
