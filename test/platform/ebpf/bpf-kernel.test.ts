import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { runCommand } from '../../../deploy/dev/command.ts';
import type { LonglineError } from '../../../src/core/errors.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { BpfKernel } from '../../../src/platform/ebpf/bpf-kernel.ts';
import { Pins } from '../../../src/platform/ebpf/pins.ts';
import { usualCounter } from '../../fixtures/bpf/objects.ts';
import { BpfHost, bpfHostMissing, loadRequest, openDescriptors } from '../../fixtures/bpf-host.ts';

const FIRST = { program: 'counter', revision: 1 };
const LOADER = join(import.meta.dirname, 'loading-process.ts');
const LIMIT_MS = 60_000;
const RECORD = 16;

function numbersOf(records: readonly Uint8Array[]): readonly number[] {
  return records.map((record) => Number(Buffer.from(record).readBigUInt64LE(0)));
}

function range(from: number, to: number): readonly number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

/** Waits until no more descriptors are open than before. Fewer, if the verifier was still at what an earlier test had given up. */
async function untilDescriptors(before: number): Promise<void> {
  const endsAt = performance.now() + LIMIT_MS;
  while (openDescriptors() > before && performance.now() < endsAt) await new Promise(setImmediate);
  assert.ok(openDescriptors() <= before, `${openDescriptors()} and not ${before}`);
}

describe('the kernel of a host', { skip: bpfHostMissing() ?? false }, () => {
  it('mounts the BPF file system, and says what can be loaded', async () => {
    await using host = new BpfHost();
    assert.deepEqual(await host.kernel.list(), []);
    await host.kernel.unload(FIRST);
    assert.equal(host.files.mounts(), 0);
    const support = await host.kernel.support();
    assert.equal(support.missing, undefined);
    assert.match(support.bootId, /^[0-9a-f-]{36}$/);
    assert.match(support.release, /^\d+\.\d+/);
    assert.deepEqual(
      support.types.find(({ type }) => type === 'xdp'),
      { atomic: true, missing: undefined, type: 'xdp' },
    );
    await host.kernel.support();
    assert.equal(host.files.mounts(), 1);
    assert.equal(existsSync(host.folder), false);
  });

  it('says what it lacks to somebody without privileges', async () => {
    await using host = new BpfHost();
    const asked = await runCommand(
      ['setpriv', '--bounding-set=-all', '--inh-caps=-all', process.execPath, LOADER, host.files.mountPoint, 'support'],
      { timeoutMs: LIMIT_MS },
    );
    assert.equal(asked.code, 0, asked.stderr);
    const { list, load, support } = JSON.parse(asked.stdout);
    assert.match(support.missing, /no BPF file system at .*EPERM: as root.*: mount -t bpf bpf /);
    assert.ok(support.types.every((one: { missing?: string }) => one.missing !== undefined));
    assert.deepEqual([list, load], [[], 'policy']);
    // With the file system there, it is the loading that is refused.
    await host.files.mount();
    const again = await runCommand(
      ['setpriv', '--bounding-set=-all', '--inh-caps=-all', process.execPath, LOADER, host.files.mountPoint, 'support'],
      { timeoutMs: LIMIT_MS },
    );
    const refused = JSON.parse(again.stdout);
    assert.equal(refused.load, 'policy', again.stderr);
    assert.match(refused.support.missing, /the agent needs CAP_BPF/);
  });

  it('does all it does with three capabilities', async () => {
    await using host = new BpfHost();
    await host.files.mount();
    const capabilities = '--bounding-set=-all,+bpf,+perfmon,+net_admin';
    const asked = await runCommand(
      ['setpriv', capabilities, '--inh-caps=-all', process.execPath, LOADER, host.files.mountPoint, 'life'],
      { timeoutMs: LIMIT_MS },
    );
    assert.deepEqual(JSON.parse(asked.stdout || asked.stderr), {
      carried: ['counters'],
      counted: ['0'],
      found: [1, 2],
    });
  });

  it('lets others have their turn between two attachments', async () => {
    await using host = new BpfHost();
    await host.load('tracepoint', FIRST);
    const point = { category: 'sched', kind: 'tracepoint', name: 'sched_process_exit' } as const;
    const slots = ['one', 'two', 'three'];
    let turns = 0;
    for (const slot of slots) {
      setImmediate(() => turns++);
      await host.kernel.attach({ function: 'count_calls', place: FIRST, point, slot, type: 'tracepoint' });
      setImmediate(() => turns++);
      await host.kernel.detach('counter', slot);
    }
    assert.equal(turns, 2 * slots.length);
  });

  it('says what to install where libbpf is missing', async () => {
    await using host = new BpfHost();
    await host.files.mount();
    await host.kernel.support();
    const library = /(\/\S*\/libbpf\.so\.1\S*)$/m.exec(readFileSync('/proc/self/maps', 'latin1'))![1]!;
    // In a mount namespace of its own, so that nobody else misses it.
    const script = 'mount --bind /dev/null "$1" && shift && exec "$@"';
    const asked = await runCommand(
      ['unshare', '-m', 'sh', '-c', script, 'sh', library, process.execPath, LOADER, host.files.mountPoint, 'support'],
      { timeoutMs: LIMIT_MS },
    );
    assert.equal(asked.code, 0, asked.stderr);
    const { load, support } = JSON.parse(asked.stdout);
    assert.match(support.missing, /libbpf\.so\.1 can't be loaded: install libbpf 1\.0 or newer/);
    assert.equal(load, 'unsupported');
  });

  it('loads what needs no types of the kernel where that has none, and warns of mounts that end with it', async () => {
    await using host = new BpfHost();
    const script = 'mount --bind /dev/null /sys/kernel/btf/vmlinux && exec "$@"';
    const asked = await runCommand(
      ['unshare', '-m', 'sh', '-c', script, 'sh', process.execPath, LOADER, host.files.mountPoint, 'support'],
      { timeoutMs: LIMIT_MS },
    );
    assert.equal(asked.code, 0, asked.stderr);
    const { load, support, warnings } = JSON.parse(asked.stdout);
    assert.deepEqual([load, support.missing], ['loaded', undefined]);
    const missing = new Map<string, string>(
      support.types.map((one: { type: string; missing?: string }) => [one.type, one.missing]),
    );
    assert.equal(missing.get('xdp'), undefined);
    assert.match(missing.get('fentry')!, /BTF/);
    // Unless it may not look at whose the other mounts are.
    const known = await access('/proc/1/ns/mnt').then(
      () => true,
      () => false,
    );
    assert.deepEqual(
      warnings.map((one: string) => one.replace(/^.* (ends with this service),.*$/, '$1')),
      known ? ['ends with this service'] : [],
    );
    // It was mounted there alone.
    assert.equal(host.files.mounts(), 0);
  });

  it('finds a hundred programs, and touches none of another instance', async () => {
    await using host = new BpfHost();
    await using other = host.another('instance-2');
    await other.load(loadRequest('xdp-counter', FIRST));
    for (let index = 0; index < 100; index++) {
      await host.load('xdp-counter', { program: `program-${String(index).padStart(3, '0')}`, revision: 1 });
    }
    const found = await host.kernel.list();
    assert.deepEqual(
      found.map(({ program, revisions }) => [program, revisions.length, revisions[0]!.functions.length]),
      range(0, 99).map((index) => [`program-${String(index).padStart(3, '0')}`, 1, 1]),
    );
    for (const { program } of found) await host.kernel.unload({ program, revision: 1 });
    assert.deepEqual(await host.kernel.list(), []);
    assert.equal((await other.list()).length, 1);
  });

  it('takes events out of a ring buffer as they come, and goes on after it was full', async () => {
    await using host = new BpfHost();
    await host.load('xdp-events', FIRST);
    using events = host.kernel.openEvents(FIRST, 'events');
    assert.deepEqual(events.take(10), []);
    await host.run(FIRST, 'tell_packets', 5);
    assert.deepEqual(events.take(0), []);
    const [first, ...more] = events.take(2);
    assert.equal(first!.length, RECORD);
    assert.deepEqual(numbersOf([first!, ...more]), [1, 2]);
    assert.deepEqual(numbersOf(events.take(10)), [3, 4, 5]);
    // 4096 bytes hold 170 records of 16 bytes with a header of 8 each.
    await host.run(FIRST, 'tell_packets', 300);
    const taken = numbersOf(events.take(1000));
    assert.deepEqual(taken, range(6, 5 + taken.length));
    assert.ok(taken.length >= 165 && taken.length <= 171, `${taken.length}`);
    await host.run(FIRST, 'tell_packets', 2);
    assert.deepEqual(numbersOf(events.take(1000)), [306, 307]);
    const errors = await host.kernel.readCounters(FIRST, [usualCounter('errors')]);
    assert.deepEqual(errors, [BigInt(300 - taken.length)]);
    events[Symbol.dispose]();
    events[Symbol.dispose]();
    assert.deepEqual(events.take(10), []);
  });

  it('opens ring buffers only', async () => {
    await using host = new BpfHost();
    await host.load('xdp-events', FIRST);
    assert.throws(() => host.kernel.openEvents(FIRST, 'counters'), {
      message: /counters can't be read/,
      reason: 'invalid',
    });
    assert.throws(() => host.kernel.openEvents(FIRST, 'absent'), {
      message: /revision 1 has no map absent/,
      reason: 'not_found',
    });
  });

  it('counts runs while somebody wants it, and tells what memory is taken', async () => {
    await using host = new BpfHost();
    await host.load('xdp-counter-v2', FIRST);
    const before = (await host.kernel.stats(FIRST)).functions[0]!;
    {
      using _ = host.kernel.holdStatistics();
      await host.run(FIRST, 'count_packets', 100);
    }
    const after = await host.kernel.stats(FIRST);
    assert.equal(after.functions[0]!.runs - before.runs, 100n);
    assert.ok(after.functions[0]!.runTimeNs > before.runTimeNs);
    assert.equal(after.functions[0]!.name, 'count_packets');
    const shown = (await host.bpftool('prog', 'show', 'pinned', host.pinned(FIRST, 'programs', 'count_packets'))) as {
      readonly bytes_memlock: number;
      readonly map_ids: readonly number[];
    };
    let memory = shown.bytes_memlock;
    for (const id of shown.map_ids) {
      memory += ((await host.bpftool('map', 'show', 'id', String(id))) as { readonly bytes_memlock: number })
        .bytes_memlock;
    }
    assert.equal(after.memoryBytes, memory);
    await assert.rejects(host.kernel.stats({ program: 'counter', revision: 2 }), { reason: 'not_found' });
  });

  it('keeps no descriptor of what it is done with', async () => {
    await using host = new BpfHost();
    const round = async () => {
      await host.load('xdp-events', FIRST);
      await host.load('xdp-events', { program: 'counter', revision: 2 }, { carryFrom: FIRST });
      await host.load('xdp-refused', { program: 'counter', revision: 3 }, { carryFrom: FIRST });
      await assert.rejects(host.load('xdp-counter', FIRST, { object: Buffer.alloc(100) }));
      await host.kernel.list();
      await host.kernel.stats(FIRST);
      await host.kernel.readCounters(FIRST, [usualCounter('packets')]);
      host.kernel.openEvents(FIRST, 'events')[Symbol.dispose]();
      host.kernel.holdStatistics()[Symbol.dispose]();
      await host.kernel.unload(FIRST);
      await host.kernel.unload({ program: 'counter', revision: 2 });
    };
    // libbpf keeps a few for itself once it has needed them.
    await round();
    const before = openDescriptors();
    for (let index = 0; index < 5; index++) await round();
    await untilDescriptors(before);
  });

  it('waits for the verifier only so long', async () => {
    await using host = new BpfHost();
    const options = { instanceId: 'instance-1', loadLimitMs: 1, log: silentLogger, mountPoint: host.files.mountPoint };
    await using kernel = new BpfKernel(options);
    // Where this process is held up for as long as the verifier works, nobody had to wait for it.
    for (let tries = 0; tries < 20; tries++) {
      const outcome = await kernel.load(loadRequest('xdp-laborious', FIRST)).catch((error: unknown) => error);
      if (outcome instanceof Error) {
        assert.equal(outcome.message, 'loading counter revision 1 took more than 0.001 s');
        assert.equal((outcome as LonglineError).reason, 'late');
        break;
      }
      assert.ok(tries < 19, 'no load was late');
      await kernel.unload(FIRST);
    }
    assert.deepEqual(await host.kernel.list(), []);
    assert.equal((await host.load('xdp-counter', FIRST)).kind, 'loaded');
  });

  it('lets go of what it holds when it is disposed, and of nothing that is pinned', async () => {
    await using host = new BpfHost();
    await host.load('xdp-events', FIRST);
    const kernel = host.another();
    const before = openDescriptors();
    const events = kernel.openEvents(FIRST, 'events');
    kernel.holdStatistics();
    const loading = kernel.load(loadRequest('xdp-laborious', { program: 'counter', revision: 2 }));
    await kernel[Symbol.asyncDispose]();
    await assert.rejects(loading, { reason: 'cancelled' });
    assert.deepEqual(events.take(1), []);
    assert.equal((await host.kernel.list()).length, 1);
    // The verifier ends when it ends; what it had goes then.
    await untilDescriptors(before);
  });

  it('is found whole or not at all after a kill at any moment', async () => {
    await using host = new BpfHost();
    await host.kernel.support();
    for (let round = 0; round < 12; round++) {
      const child = spawn(process.execPath, [LOADER, host.files.mountPoint, 'loop'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const ended = once(child, 'exit');
      try {
        // It tells once it is about to begin; what is told later says how far it got.
        for (let told = 0; told < 1 + (round % 4); told++) await once(child.stdout!, 'data');
        for (let turn = 0; turn < round * 40; turn++) await new Promise(setImmediate);
      } finally {
        child.kill('SIGKILL');
        await ended;
      }
      for (const { program, revisions } of await host.kernel.list()) {
        for (const one of revisions) {
          assert.deepEqual(
            one.functions.map(({ name }) => name),
            ['count_packets'],
          );
          assert.deepEqual(
            one.maps.map(({ name }) => name),
            ['bytes', 'counters'],
          );
          await host.kernel.stats(one.place);
          await host.kernel.unload(one.place);
        }
        assert.match(program, /^looped$/);
      }
      assert.equal(existsSync(host.folder), false);
    }
  });

  it('takes away what a killed one had half pinned, and says so once', async () => {
    await using host = new BpfHost();
    await host.load('xdp-counter', FIRST);
    new Pins(host.files.mountPoint, 'instance-1').draft({ program: 'counter', revision: 2 });
    const warnings: string[] = [];
    const log = { ...silentLogger, warn: (message: string) => warnings.push(message) };
    await using kernel = new BpfKernel({ instanceId: 'instance-1', log, mountPoint: host.files.mountPoint });
    assert.equal((await kernel.list())[0]!.revisions.length, 1);
    assert.equal((await kernel.list())[0]!.revisions.length, 1);
    assert.deepEqual(readdirSync(join(host.folder, 'counter/revisions')), ['1']);
    assert.deepEqual(warnings, ['a revision that was only half there is taken away']);
  });
});
