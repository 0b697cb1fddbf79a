import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { ProgramSpecSchema, type ProgramSpec as WireSpec } from '#gen/longline/v1/program_pb.js';
import { type FieldViolation, LonglineError } from '../../../src/core/errors.ts';
import { applyProgramDelta, canonicalPrograms, diffPrograms } from '../../../src/core/programs/program-delta.ts';
import {
  type ProgramSpecMessage,
  programSpecMessage,
  readProgramSpec,
} from '../../../src/core/programs/program-spec.ts';
import { resolveSpec } from '../../../src/core/programs/resolved-spec.ts';
import { functionOf, metadataOf, parameterOf } from './metadata-fixture.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}`;

const messageOf = (draft: Partial<ProgramSpecMessage> = {}): ProgramSpecMessage => ({
  name: 'drop',
  artifact: DIGEST,
  attach: [],
  parameters: {},
  renewal: 0n,
  ...draft,
});

function violations(run: () => unknown): Record<string, string> {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof LonglineError && error.reason === 'invalid', String(error));
    return Object.fromEntries(error.violations.map(({ field, description }: FieldViolation) => [field, description]));
  }
  return {};
}

describe('specs of programs', () => {
  it('are read whole', () => {
    const spec = readProgramSpec(
      messageOf({
        attach: ['count@xdp:eth0', 'tc:eth0:ingress'],
        parameters: { limit: '100' },
        ttl: { seconds: 3600n, nanos: 500_000_000 },
        thresholds: { maxErrors: 0n, maxCpuPercent: 12.5 },
        renewal: 2n,
      }),
    );
    assert.equal(spec.attach[0]!.function, 'count');
    assert.deepEqual(spec.attach[1]!.point, { kind: 'tc', interface: 'eth0', direction: 'ingress' });
    assert.equal(spec.parameters.get('limit'), '100');
    assert.equal(spec.ttlMs, 3_600_500);
    assert.equal(spec.thresholds.maxErrors, 0);
    assert.equal(spec.thresholds.maxCpuPercent, 12.5);
    assert.equal(spec.thresholds.minRuns, undefined);
    assert.equal(readProgramSpec(messageOf({ ttl: { seconds: 0n, nanos: 0 } })).ttlMs, 0);
    assert.equal(readProgramSpec(messageOf()).ttlMs, undefined);
  });

  it('are refused with every field that is wrong', () => {
    const found = violations(() =>
      readProgramSpec(
        messageOf({
          name: '9drop',
          artifact: 'sha256:AB',
          attach: ['xdp:eth0', 'xdp', 'xdp:eth0:auto'],
          parameters: { '1st': '1', __long: 'x', big: 'x'.repeat(70_000) },
          ttl: { seconds: -1n, nanos: 0 },
          thresholds: {
            maxErrors: 2n ** 63n,
            maxViolations: 2n ** 60n,
            maxCpuPercent: Number.NaN,
            maxLatencyMs: -1,
            maxMemoryKb: 2n ** 53n,
          },
        }),
        'spec.',
      ),
    );
    assert.match(found['spec.name']!, /"9drop"; must be a letter, then/);
    assert.match(found['spec.artifact']!, /"sha256:AB"; must be "sha256:" and the 64 hex digits/);
    assert.match(found['spec.attach[1]']!, /"xdp" is no place.*xdp:INTERFACE/);
    assert.match(found['spec.attach[2]']!, /attach\[0\] again/);
    assert.match(found['spec.parameters']!, /"__long" is no name of a parameter/);
    assert.match(found['spec.parameters.big']!, /70000 characters; at most 65536/);
    assert.match(found['spec.ttl']!, /got -1 s; must be from 1 to/);
    for (const field of ['max_errors', 'max_violations', 'max_cpu_percent', 'max_latency_ms', 'max_memory_kb']) {
      assert.match(found[`spec.thresholds.${field}`]!, /^got .*; must be/, field);
    }
    assert.equal(violations(() => readProgramSpec(messageOf({ name: '' })))['name']!.startsWith('missing'), true);
    const many = Array.from({ length: 65 }, (_, place) => `xdp:eth${place}`);
    assert.match(violations(() => readProgramSpec(messageOf({ attach: many })))['attach']!, /65 places are too many/);
    const names = Object.fromEntries(Array.from({ length: 257 }, (_, place) => [`p${place}`, '1']));
    assert.match(violations(() => readProgramSpec(messageOf({ parameters: names })))['parameters']!, /257 parameters/);
    assert.match(violations(() => readProgramSpec(messageOf({ ttl: { seconds: 0n, nanos: 5 } })))['ttl']!, /5 ns/);
  });

  it('have one canonical message, which reads as the same', () => {
    const parameters = fc.dictionary(fc.stringMatching(/^[a-zA-Z][a-zA-Z0-9_-]{0,8}$/), fc.string(), { maxKeys: 6 });
    const specs = fc.record({
      attach: fc.uniqueArray(fc.constantFrom('xdp:eth0', 'a@xdp:eth0', 'cgroup:/a', 'tc:eth1:egress', 'lsm:file_open')),
      parameters,
      ttl: fc.option(fc.record({ seconds: fc.bigInt(1n, 1000n), nanos: fc.integer({ min: 0, max: 999_999_999 }) })),
      maxErrors: fc.option(fc.bigInt(0n, 1000n)),
      maxCpuPercent: fc.option(fc.double({ min: 0, max: 100, noNaN: true })),
    });
    fc.assert(
      fc.property(specs, ({ attach, parameters: given, ttl, maxErrors, maxCpuPercent }) => {
        const thresholds = {
          ...(maxErrors !== null && { maxErrors }),
          ...(maxCpuPercent !== null && { maxCpuPercent }),
        };
        const message = messageOf({ attach, parameters: given, ...(ttl !== null && { ttl }), thresholds });
        const canonical = programSpecMessage(readProgramSpec(message));
        assert.deepEqual(programSpecMessage(readProgramSpec(canonical)), canonical);
        const wire = create(ProgramSpecSchema, { ...canonical, attach: [...canonical.attach] });
        const read = fromBinary(ProgramSpecSchema, toBinary(ProgramSpecSchema, wire));
        assert.deepEqual(programSpecMessage(readProgramSpec(read)), canonical);
      }),
    );
  });
});

describe('desired states of programs', () => {
  const wire = (name: string, parameters: Record<string, string> = {}): WireSpec =>
    create(ProgramSpecSchema, { name, artifact: DIGEST, parameters });
  const bytes = (programs: readonly WireSpec[]) => programs.map((one) => Buffer.from(toBinary(ProgramSpecSchema, one)));
  const same = (one: WireSpec, other: WireSpec) => Buffer.compare(bytes([one])[0]!, bytes([other])[0]!) === 0;
  const states = fc
    .uniqueArray(
      fc.record({
        name: fc.constantFrom('a', 'b', 'c', 'B', 'a-1', 'a_1'),
        parameters: fc.dictionary(fc.constantFrom('limit', 'x', 'y10', 'y9'), fc.constantFrom('1', '2')),
      }),
      { selector: ({ name }) => name },
    )
    .map((programs) => programs.map(({ name, parameters }) => wire(name, parameters)));

  it('have one order, whatever order they came in', () => {
    fc.assert(
      fc.property(states, fc.infiniteStream(fc.nat()), (programs, random) => {
        const shuffled = programs
          .map((program) => ({ program, key: random.next().value as number }))
          .sort((one, other) => one.key - other.key)
          .map(({ program }) => {
            const parameters = Object.fromEntries(Object.entries(program.parameters).reverse());
            return { ...program, parameters };
          });
        assert.deepEqual(bytes(canonicalPrograms(shuffled)), bytes(canonicalPrograms(programs)));
      }),
    );
    const names = canonicalPrograms([wire('b'), wire('B'), wire('a_1'), wire('a-1'), wire('a')]).map(
      ({ name }) => name,
    );
    assert.deepEqual(names, ['B', 'a', 'a-1', 'a_1', 'b']);
  });

  it('lead into each other by their differences, to the byte', () => {
    fc.assert(
      fc.property(states, states, (from, to) => {
        const delta = diffPrograms(from, to, same);
        assert.deepEqual(bytes(applyProgramDelta(canonicalPrograms(from), delta)), bytes(canonicalPrograms(to)));
        assert.deepEqual(diffPrograms(to, to, same), { programs: [], removedPrograms: [] });
        assert.ok(delta.programs.length <= to.length && delta.removedPrograms.length <= from.length);
      }),
    );
  });

  it('take a removal of what is not there, and refuse a program that is there twice', () => {
    const state = applyProgramDelta([wire('a')], { programs: [wire('a', { x: '1' })], removedPrograms: ['a', 'zzz'] });
    assert.deepEqual(bytes(state), bytes([wire('a', { x: '1' })]));
    const found = violations(() => applyProgramDelta([], { programs: [wire('a'), wire('a')], removedPrograms: [] }));
    assert.deepEqual(found, { 'programs[1].name': '"a" is there twice' });
  });
});

describe('a spec with its artifact', () => {
  const resolve = (draft: Partial<ProgramSpecMessage>, metadata: Parameters<typeof metadataOf>[0]) =>
    resolveSpec(readProgramSpec(messageOf(draft)), metadataOf(metadata));
  const placed = (draft: Partial<ProgramSpecMessage>, metadata: Parameters<typeof metadataOf>[0]) =>
    Object.fromEntries(resolve(draft, metadata).functions.map(({ name, points }) => [name, points]));
  const eth1 = { kind: 'xdp', interface: 'eth1', mode: 'auto' };

  it('goes where the artifact says, or where the spec does', () => {
    assert.deepEqual(placed({}, {}), { count: [{ kind: 'xdp', interface: 'eth0', mode: 'auto' }] });
    assert.deepEqual(placed({ attach: ['xdp:eth1'] }, {}), { count: [eth1] });
    assert.deepEqual(placed({ attach: ['count@xdp:eth1'] }, {}), { count: [eth1] });
  });

  it('loads what others call, and not what the spec passes over', () => {
    const functions = [
      functionOf('entry', 'xdp', ['xdp:eth0']),
      functionOf('tail', 'xdp'),
      functionOf('leave', 'tc', ['tc:eth0:egress']),
      functionOf('hook', 'fentry'),
    ];
    assert.deepEqual(placed({ attach: ['xdp:eth1'] }, { functions }), { entry: [eth1], tail: [] });
    assert.deepEqual(Object.keys(placed({}, { functions })), ['entry', 'tail', 'leave']);
    assert.deepEqual(placed({ attach: ['hook@fentry:tcp_connect'] }, { functions }), {
      tail: [],
      hook: [{ kind: 'fentry', function: 'tcp_connect' }],
    });
  });

  it('names what is ambiguous, mismatched, missing or taken', () => {
    const functions = [functionOf('one', 'cgroup_skb'), functionOf('two', 'cgroup_sock'), functionOf('three', 'xdp')];
    const found = violations(() =>
      resolve(
        { attach: ['cgroup:/web', 'two@xdp:eth0', 'four@xdp:eth0', 'tc:eth0:ingress', 'xdp:eth0', 'xdp:eth0:generic'] },
        { functions },
      ),
    );
    assert.match(found['attach[0]']!, /one and two can all go to cgroup:\/web; say which: "one@cgroup:\/web"/);
    assert.match(found['attach[1]']!, /two is of type cgroup_sock and can't go to xdp:eth0; it goes to "cgroup:…"/);
    assert.match(
      found['attach[2]']!,
      /no function four; it has one \(cgroup_skb\), two \(cgroup_sock\), three \(xdp\)/,
    );
    assert.match(found['attach[3]']!, /no function can go to tc:eth0:ingress/);
    assert.equal(found['attach[4]'], undefined);
    assert.match(found['attach[5]']!, /xdp:eth0 takes one function/);
    assert.match(violations(() => resolve({}, { functions }))['attach']!, /missing; the artifact doesn't say/);
    const twice = violations(() => resolve({ attach: ['xdp:eth0', 'count@xdp:eth0'] }, {}));
    assert.match(twice['attach[1]']!, /count goes to xdp:eth0 twice/);
  });

  it('writes parameters, or what they are by default', () => {
    const parameters = [
      parameterOf({ name: 'limit', min: 1n, max: 1000n, defaultText: '10' }),
      parameterOf({ name: 'mode', type: 'string', choices: ['drop', 'count'] }),
      parameterOf({ name: 'burst', target: { kind: 'map', map: 'settings', key: '1' }, required: true }),
      parameterOf({
        name: 'blocked',
        type: 'prefix',
        target: { kind: 'key_set', map: 'blocked', maxKeys: undefined },
        defaultText: '192.0.2.0/24',
      }),
    ];
    const { writes } = resolve(
      { parameters: { burst: '5', blocked: '10.0.0.0/8, 10.1.2.3/8,2001:db8::/32' } },
      { parameters },
    );
    assert.deepEqual(writes, [
      { kind: 'variable', parameter: 'limit', variable: 'limit', value: { type: 'uint', text: '10' } },
      { kind: 'map', parameter: 'burst', map: 'settings', key: '1', value: { type: 'uint', text: '5' } },
      {
        kind: 'key_set',
        parameter: 'blocked',
        map: 'blocked',
        maxKeys: undefined,
        keys: [
          { type: 'prefix', text: '10.1.2.3/8' },
          { type: 'prefix', text: '2001:db8::/32' },
        ],
      },
    ]);
    const found = violations(() => resolve({ parameters: { limit: '0', mode: 'x', blcked: '1' } }, { parameters }));
    assert.match(found['parameters.limit']!, /"0"; must be a whole number from 1 to 1000/);
    assert.match(found['parameters.mode']!, /one of drop, count/);
    assert.match(found['parameters.burst']!, /missing; the artifact needs a value of type uint/);
    assert.match(found['parameters.blcked']!, /no parameter blcked; it has limit, mode, burst, blocked/);
  });

  it('has time and thresholds of the spec before those of the artifact', () => {
    const artifact = { ttlMs: 5000, thresholds: { maxErrors: 3, minRuns: 7 } };
    const own = resolve({ ttl: { seconds: 0n, nanos: 0 }, thresholds: { maxErrors: 0n } }, artifact);
    assert.equal(own.ttlMs, 0);
    assert.equal(own.thresholds.maxErrors, 0);
    assert.equal(own.thresholds.minRuns, 7);
    assert.equal(resolve({}, artifact).ttlMs, 5000);
    assert.equal(resolve({}, {}).ttlMs, undefined);
  });
});
