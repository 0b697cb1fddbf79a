import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { LoadOutcome, ParameterType, ParameterWrite } from '../../../src/capabilities/programs/ports.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { updateElement } from '../../../src/platform/ebpf/bpf-syscall.ts';
import { MAX_LOG_BYTES } from '../../../src/platform/ebpf/object-file.ts';
import { Pins } from '../../../src/platform/ebpf/pins.ts';
import { bpfObject, usualCounter } from '../../fixtures/bpf/objects.ts';
import { BpfHost, bpfHostMissing, loadRequest } from '../../fixtures/bpf-host.ts';

const FIRST = { program: 'counter', revision: 1 };
const SECOND = { program: 'counter', revision: 2 };
const DROP = 1;
const PASS = 2;

function variable(name: string, type: ParameterType, text: string): ParameterWrite {
  return { kind: 'variable', parameter: name, value: { text, type }, variable: name };
}

function loaded(outcome: LoadOutcome) {
  assert.equal(outcome.kind, 'loaded', outcome.kind === 'refused' ? outcome.verifierLog : '');
  return outcome as Extract<LoadOutcome, { kind: 'loaded' }>;
}

/** What is wrong, by field. */
async function violations(loading: Promise<unknown>): Promise<Readonly<Record<string, string>>> {
  const error = await loading.then(
    () => assert.fail('it was loaded'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof LonglineError && error.reason === 'invalid', String(error));
  return Object.fromEntries(error.violations.map(({ description, field }) => [field, description]));
}

describe('loading a revision', { skip: bpfHostMissing() ?? false }, () => {
  it('loads, pins and finds it again, and lets go of it', async () => {
    await using host = new BpfHost();
    const { revision, carriedMaps } = loaded(await host.load('xdp-counter-v2', FIRST));
    assert.deepEqual(carriedMaps, []);
    assert.deepEqual(
      revision.functions.map(({ name }) => name),
      ['count_packets'],
    );
    assert.deepEqual(
      revision.maps.map(({ name }) => name),
      ['bytes', 'counters'],
    );
    await using next = host.another();
    assert.deepEqual(await next.list(), [{ links: [], program: 'counter', revisions: [revision] }]);
    const seen = (await host.bpftool('prog', 'show', 'id', String(revision.functions[0]!.id))) as { name: string };
    assert.equal(seen.name, 'count_packets');
    await next.unload(FIRST);
    await next.unload(FIRST);
    assert.deepEqual(await next.list(), []);
    assert.equal(existsSync(host.folder), false);
  });

  it('writes variables of every type before the verifier looks', async () => {
    await using host = new BpfHost();
    loaded(
      await host.load('xdp-filter', FIRST, {
        writes: [
          variable('wide', 'uint', '18446744073709551615'),
          variable('port', 'uint', '443'),
          variable('offset', 'int', '-2'),
          variable('enabled', 'bool', 'false'),
          variable('label', 'string', 'web'),
          variable('address', 'ipv4', '192.0.2.1'),
          variable('address6', 'ipv6', '2001:db8::1'),
          variable('hardware', 'mac', '02:00:5e:10:00:01'),
        ],
      }),
    );
    const dump = (await host.bpftool('map', 'dump', 'pinned', host.pinned(FIRST, 'maps', '-rodata'))) as {
      readonly formatted: { readonly value: { readonly '.rodata': readonly object[] } };
    }[];
    const values = Object.assign({}, ...dump[0]!.formatted.value['.rodata']) as Readonly<Record<string, unknown>>;
    assert.deepEqual(values, {
      address: Buffer.from([192, 0, 2, 1]).readUInt32LE(),
      address6: [...Buffer.from('20010db8000000000000000000000001', 'hex')],
      enabled: false,
      hardware: [2, 0, 0x5e, 0x10, 0, 1],
      label: 'web',
      offset: -2,
      port: 443,
      // As JSON.parse has it.
      wide: Number(2n ** 64n - 1n),
    });
  });

  it('has a function do what its parameters say', async () => {
    await using host = new BpfHost();
    loaded(await host.load('xdp-counter', FIRST, { writes: [variable('limit', 'uint', '2')] }));
    assert.equal(await host.run(FIRST, 'count_packets', 2), PASS);
    assert.equal(await host.run(FIRST, 'count_packets', 3), DROP);
    const counters = [usualCounter('packets'), usualCounter('violations'), usualCounter('errors')];
    assert.deepEqual(await host.kernel.readCounters(FIRST, counters), [5n, 3n, 0n]);
  });

  it('writes values and sets of keys into maps', async () => {
    await using host = new BpfHost();
    const packet = Buffer.alloc(64);
    packet.set([8, 0], 12);
    packet.set([198, 51, 100, 7], 26);
    const keys = (...texts: string[]): ParameterWrite => ({
      keys: texts.map((text) => ({ text, type: 'prefix' })),
      kind: 'key_set',
      map: 'blocked_networks',
      maxKeys: 4,
      parameter: 'networks',
    });
    loaded(await host.load('xdp-filter', FIRST, { writes: [keys('198.51.100.0/24', '203.0.113.0/24')] }));
    assert.equal(await host.run(FIRST, 'filter_packets', 1, packet), DROP);
    // The set is the next revision's as a whole: what isn't in it is gone, though the map is the same.
    const next = loaded(await host.load('xdp-filter', SECOND, { carryFrom: FIRST, writes: [keys('203.0.113.0/24')] }));
    assert.ok(next.carriedMaps.includes('blocked_networks'));
    assert.equal(await host.run(SECOND, 'filter_packets', 1, packet), PASS);
    const setting: ParameterWrite = {
      key: '0',
      kind: 'map',
      map: 'settings',
      parameter: 'all',
      value: { text: '1', type: 'uint' },
    };
    loaded(await host.load('xdp-filter', { program: 'counter', revision: 3 }, { writes: [setting] }));
    assert.equal(await host.run({ program: 'counter', revision: 3 }, 'filter_packets', 1, packet), DROP);
  });

  it('tells of all that doesn’t fit at once, before anything happens', async () => {
    await using host = new BpfHost();
    await host.load('xdp-counter', FIRST);
    const map = (parameter: string, name: string, key: string, text: string): ParameterWrite => {
      return { key, kind: 'map', map: name, parameter, value: { text, type: 'uint' } };
    };
    const set = (
      parameter: string,
      name: string,
      maxKeys: number | undefined,
      texts: readonly string[],
    ): ParameterWrite => {
      return { keys: texts.map((text) => ({ text, type: 'ipv4' })), kind: 'key_set', map: name, maxKeys, parameter };
    };
    const writes = [
      variable('absent', 'uint', '1'),
      variable('port', 'uint', '65536'),
      variable('enabled', 'bool', 'maybe'),
      variable('label', 'uint', '1'),
      variable('hardware', 'ipv4', '192.0.2.1'),
      map('no_map', 'nothing', '0', '1'),
      map('past', 'settings', '4', '1'),
      map('odd_key', 'settings', 'ff', '1'),
      map('struct', 'counters', '0', '1'),
      set('array', 'settings', undefined, ['192.0.2.1']),
      set('many', 'blocked', 1, ['192.0.2.1', '192.0.2.2']),
      set('wrong', 'blocked_networks', undefined, ['192.0.2.1']),
    ];
    const found = await violations(host.load('xdp-filter', FIRST, { writes }));
    const expected: Readonly<Record<string, RegExp>> = {
      absent: /no variable absent; it has .*wide/,
      array: /settings is of type 2, which has no set of keys/,
      enabled: /got "maybe"; must be true or false/,
      hardware: /ipv4 has 4 bytes, and what holds it has 6/,
      label: /label isn't a number/,
      many: /has 2 keys; map blocked takes 1/,
      no_map: /no map nothing; it has counters, settings/,
      odd_key: /got "ff"; must be a key from 0/,
      past: /settings has 4 values, and key 4 is past them/,
      port: /from 0 to 65535/,
      struct: /what holds it has 24, for map counters/,
      wrong: /ipv4 has 4 bytes, and what holds it has 8/,
    };
    assert.deepEqual(Object.keys(found).sort(), Object.keys(expected).sort());
    for (const [name, text] of Object.entries(expected)) assert.match(found[name]!, text);
    assert.deepEqual(await host.kernel.readCounters(FIRST, [usualCounter('packets')]), [0n]);
  });

  it('refuses functions that aren’t there, or are something else', async () => {
    await using host = new BpfHost();
    const ask = (name: string, type: 'xdp' | 'tracepoint') => {
      return violations(host.load('xdp-counter', FIRST, { functions: [{ name, points: [], type }] }));
    };
    assert.match((await ask('count_bytes', 'xdp'))['count_bytes']!, /no function count_bytes; it has count_packets/);
    assert.match(
      (await ask('count_packets', 'tracepoint'))['count_packets']!,
      /section "xdp" .* isn't one for type tracepoint/,
    );
    const one = { name: 'count_packets', points: [], type: 'xdp' } as const;
    const twice = await violations(host.load('xdp-counter', FIRST, { functions: [one, { ...one }] }));
    assert.deepEqual(twice, { count_packets: 'function count_packets is there twice' });
    assert.match((await violations(host.load('xdp-counter', FIRST, { functions: [] })))['functions']!, /none/);
    await assert.rejects(host.load('xdp-counter', FIRST, { object: Buffer.from('not an object') }), {
      reason: 'invalid',
    });
    assert.deepEqual(await host.kernel.list(), []);
  });

  it('gives the whole log of the verifier, and leaves nothing', async () => {
    await using host = new BpfHost();
    loaded(await host.load('xdp-counter', FIRST));
    const outcome = await host.load('xdp-refused', SECOND, { carryFrom: FIRST });
    assert.equal(outcome.kind, 'refused');
    assert.match(
      outcome.verifierLog,
      /^0: .*\n(.*\n)*.*invalid access to packet, off=64 size=1(.*\n)*processed \d+ insns/m,
    );
    assert.match(
      outcome.error.message,
      /refused function count_packets of counter revision 2 .*: R1 offset is outside/,
    );
    assert.equal(outcome.error.reason, 'invalid');
    assert.deepEqual(readdirSync(join(host.folder, 'counter/revisions')), ['1']);
  });

  it('tells what fails before anything is verified', async () => {
    await using host = new BpfHost();
    await assert.rejects(host.load('xdp-too-large', FIRST), {
      message: /^loading counter revision 1 failed with E\w+: .*enormous/,
      reason: 'limit',
    });
    assert.deepEqual(await host.kernel.list(), []);
  });

  it('gives the end of a log that is too long', async () => {
    await using host = new BpfHost();
    const outcome = await host.load('xdp-refused-late', FIRST);
    assert.equal(outcome.kind, 'refused');
    const bytes = Buffer.byteLength(outcome.verifierLog);
    assert.ok(bytes > 60_000 && bytes <= MAX_LOG_BYTES, `${bytes}`);
    assert.match(outcome.verifierLog, /invalid access to packet.*\n(.*\n)*processed \d+ insns.*$/);
    assert.match(outcome.error.message, /: R\d offset is outside of the packet$/);
  });

  it('loads only what is named, and names sections that say nothing', async () => {
    await using host = new BpfHost();
    const functions = [{ name: 'pass_packets', points: [], type: 'xdp' }] as const;
    const { revision } = loaded(await host.load('xdp-counter-shape', FIRST, { functions }));
    assert.deepEqual(
      revision.functions.map(({ name }) => name),
      ['pass_packets'],
    );
    assert.equal(await host.run(FIRST, 'pass_packets'), PASS);
  });

  it('pins no map where the object would have it', async () => {
    await using host = new BpfHost();
    await host.kernel.support();
    const before = existsSync('/sys/fs/bpf/shared');
    loaded(await host.load('xdp-counter-shape', FIRST));
    assert.equal(existsSync('/sys/fs/bpf/shared'), before);
    // The kernel has two of its own there.
    const others = readdirSync(host.files.mountPoint).filter((name) => !name.endsWith('.debug'));
    assert.deepEqual(others, ['longline']);
  });

  it('carries maps over with what is in them where they are the same', async () => {
    await using host = new BpfHost();
    const first = loaded(await host.load('xdp-counter', FIRST));
    await host.run(FIRST, 'count_packets', 7);
    const second = loaded(await host.load('xdp-counter-v2', SECOND, { carryFrom: FIRST }));
    assert.deepEqual(second.carriedMaps, ['counters']);
    assert.equal(second.revision.maps.find(({ name }) => name === 'counters')!.id, first.revision.maps[0]!.id);
    await host.run(SECOND, 'count_packets', 1);
    assert.deepEqual(await host.kernel.readCounters(FIRST, [usualCounter('packets')]), [8n]);
    // It stays for as long as one of them does.
    await host.kernel.unload(FIRST);
    assert.deepEqual(await host.kernel.readCounters(SECOND, [usualCounter('packets')]), [8n]);
  });

  it('makes maps anew that are others, or are to be', async () => {
    await using host = new BpfHost();
    loaded(await host.load('xdp-counter', FIRST));
    await host.run(FIRST, 'count_packets', 7);
    const read = async (revision: number) => {
      return await host.kernel.readCounters({ program: 'counter', revision }, [usualCounter('packets')]);
    };
    for (const [index, [name, freshMaps]] of (
      [
        ['xdp-counter-wide', []],
        ['xdp-counter-shape', []],
        ['xdp-counter-v2', ['counters']],
      ] as const
    ).entries()) {
      const revision = index + 2;
      const outcome = loaded(await host.load(name, { program: 'counter', revision }, { carryFrom: FIRST, freshMaps }));
      assert.deepEqual([outcome.carriedMaps, await read(revision)], [[], [0n]], name);
    }
    const none = { program: 'counter', revision: 99 };
    const outcome = loaded(await host.load('xdp-counter', { program: 'counter', revision: 5 }, { carryFrom: none }));
    assert.deepEqual([outcome.carriedMaps, await read(1)], [[], [7n]]);
  });

  it('carries a ring buffer over, whose size the kernel rounds', async () => {
    await using host = new BpfHost();
    loaded(await host.load('xdp-events', FIRST));
    const second = loaded(await host.load('xdp-events', SECOND, { carryFrom: FIRST }));
    assert.deepEqual(second.carriedMaps.toSorted(), ['counters', 'events']);
  });

  it('takes away what is left of the same place', async () => {
    await using host = new BpfHost();
    const before = loaded(await host.load('xdp-counter-v2', FIRST));
    const after = loaded(await host.load('xdp-counter', FIRST));
    assert.notEqual(after.revision.functions[0]!.id, before.revision.functions[0]!.id);
    assert.deepEqual((await host.kernel.list())[0]!.revisions, [after.revision]);
    // As a kill leaves it in the middle of pinning.
    new Pins(host.files.mountPoint, 'instance-1').draft(SECOND);
    assert.deepEqual(readdirSync(join(host.folder, 'counter/revisions')).toSorted(), ['1', 'new-2']);
    loaded(await host.load('xdp-counter', SECOND));
    assert.deepEqual(readdirSync(join(host.folder, 'counter/revisions')).toSorted(), ['1', '2']);
  });

  it('lets others run while the verifier works, and lets go of it when told', async () => {
    await using host = new BpfHost();
    let turns = 0;
    let over = false;
    const count = () => {
      turns++;
      if (!over) setImmediate(count);
    };
    // More than once where this process is held up for as long as the verifier works.
    for (let tries = 0; tries < 10 && turns <= 10; tries++) {
      [turns, over] = [0, false];
      setImmediate(count);
      loaded(await host.load('xdp-laborious', FIRST).finally(() => (over = true)));
    }
    assert.ok(turns > 10, `${turns} turns`);
    const abort = new AbortController();
    const loading = host.kernel.load(loadRequest('xdp-laborious', SECOND), abort.signal);
    abort.abort(new LonglineError('cancelled', 'enough'));
    await assert.rejects(loading, { message: 'enough', reason: 'cancelled' });
    await assert.rejects(host.kernel.load(loadRequest('xdp-counter', SECOND), abort.signal), { message: 'enough' });
    assert.deepEqual(
      (await host.kernel.list())[0]!.revisions.map(({ place }) => place.revision),
      [1],
    );
    loaded(await host.load('xdp-counter', SECOND));
  });

  it('adds up what each processor counts', async () => {
    await using host = new BpfHost();
    loaded(await host.load('tc-counter', FIRST));
    const pins = new Pins(host.files.mountPoint, 'instance-1');
    using map = pins.openMap(FIRST, 'counters');
    const dump = (await host.bpftool('map', 'dump', 'pinned', host.pinned(FIRST, 'maps', 'counters'))) as {
      readonly values: readonly unknown[];
    }[];
    const possible = dump[0]!.values.length;
    const value = Buffer.alloc(8 * possible);
    for (let cpu = 0; cpu < possible; cpu++) value.writeBigUInt64LE(BigInt(cpu + 1), 8 * cpu);
    updateElement('writing', map!.fd, Buffer.from([1, 0, 0, 0]), value);
    const sum = BigInt((possible * (possible + 1)) / 2);
    const counter = (key: string, offset: number, size: 4 | 8, name = 'counters') => ({ key, map: name, offset, size });
    const asked = [counter('1', 0, 8), counter('1', 4, 4), counter('0', 0, 8), counter('2', 0, 8)];
    assert.deepEqual(await host.kernel.readCounters(FIRST, asked), [sum, 0n, 0n, undefined]);
    const odd = [counter('0', 8, 8), counter('0', 0, 8, 'absent'), counter('zz', 0, 8), counter('0', -8, 8)];
    assert.deepEqual(await host.kernel.readCounters(FIRST, odd), [undefined, undefined, undefined, undefined]);
    await assert.rejects(host.kernel.readCounters(SECOND, asked), { reason: 'not_found' });
  });

  it('is the same for every fixture that this kernel takes', async () => {
    await using host = new BpfHost();
    const { types } = await host.kernel.support();
    const missing = new Set(types.flatMap((one) => (one.missing === undefined ? [] : [one.type])));
    const names = [
      'tc-counter',
      'cgroup-skb',
      'cgroup-connect',
      'cgroup-sock',
      'tracepoint',
      'raw-tracepoint',
      'uprobe',
    ] as const;
    for (const [index, name] of names.entries()) {
      const { functions, maps } = bpfObject(name);
      if (functions.some(({ type }) => missing.has(type))) continue;
      const { revision } = loaded(await host.load(name, { program: 'all', revision: index + 1 }));
      assert.deepEqual(
        revision.functions.map((one) => one.name),
        functions.map((one) => one.name).toSorted(),
        name,
      );
      assert.deepEqual(
        revision.maps.map((one) => one.name),
        maps,
        name,
      );
    }
  });
});
