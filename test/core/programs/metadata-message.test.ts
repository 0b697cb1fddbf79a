import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fromJson, type JsonValue } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { ProgramMetadataSchema } from '#gen/longline/v1/program_pb.js';
import { LonglineError } from '../../../src/core/errors.ts';
import { kernelFault } from '../../../src/core/programs/kernel-release.ts';
import { readMetadata } from '../../../src/core/programs/metadata-message.ts';

const whole = {
  name: 'drop_egress',
  version: '1.4.0-rc.1',
  description: 'Counts and drops.',
  object_sha256: 'ab'.repeat(32),
  object_size: '1234',
  functions: [
    { name: 'count_packets', type: 'PROGRAM_TYPE_XDP', attach: ['xdp:eth0', 'xdp:eth1:generic'] },
    { name: 'tail', type: 'PROGRAM_TYPE_XDP' },
  ],
  parameters: [
    { name: 'limit', type: 'PROGRAM_PARAMETER_TYPE_UINT', variable: 'limit', min: '1', max: '0xff', default: '100' },
    { name: 'mode', type: 'PROGRAM_PARAMETER_TYPE_STRING', map: { map: 'settings', key: '0' }, choices: ['a', 'b'] },
    { name: 'blocked', type: 'PROGRAM_PARAMETER_TYPE_PREFIX', key_set: { map: 'blocked', max_keys: 10 } },
  ],
  counters: { packets: { map: 'stats', key: '0' }, others: { bytes: { map: 'stats', key: '0', offset: 8, size: 4 } } },
  events: [
    {
      map: 'events',
      type: 'dropped',
      fields: [{ name: 'source', type: 'PROGRAM_PARAMETER_TYPE_IPV4', offset: 0, size: 4 }],
    },
  ],
  thresholds: { max_errors: '5' },
  minimum_kernel: '5.15',
  ttl: '3600s',
  fresh_maps: ['stats'],
  expire_time: '2030-01-31T12:00:00Z',
};

const read = (value: JsonValue) => readMetadata(fromJson(ProgramMetadataSchema, value));

function violations(value: JsonValue): Record<string, string> {
  try {
    read(value);
  } catch (error) {
    assert.ok(error instanceof LonglineError && error.reason === 'invalid', String(error));
    return Object.fromEntries(error.violations.map(({ field, description }) => [field, description]));
  }
  return {};
}

function saysOf(found: Record<string, string>, expected: Readonly<Record<string, RegExp>>): void {
  for (const [field, message] of Object.entries(expected)) {
    assert.match(found[field] ?? `nothing said of ${field}`, message);
  }
}

describe('metadata of artifacts', () => {
  it('is read whole', () => {
    const metadata = read(whole);
    assert.equal(metadata.objectSize, 1234);
    assert.deepEqual(metadata.functions[0]!.attach[1], {
      function: 'count_packets',
      point: { kind: 'xdp', interface: 'eth1', mode: 'generic' },
    });
    assert.deepEqual(metadata.functions[1], { name: 'tail', type: 'xdp', attach: [] });
    const [limit, mode, blocked] = metadata.parameters;
    assert.equal(limit!.max, 255n);
    assert.equal(limit!.defaultText, '100');
    assert.deepEqual(mode!.target, { kind: 'map', map: 'settings', key: '0' });
    assert.equal(mode!.defaultText, undefined);
    assert.deepEqual(blocked!.target, { kind: 'key_set', map: 'blocked', maxKeys: 10 });
    assert.deepEqual(metadata.counters.packets, { map: 'stats', key: '0', offset: 0, size: 8 });
    assert.deepEqual(metadata.counters.others['bytes'], { map: 'stats', key: '0', offset: 8, size: 4 });
    assert.equal(metadata.counters.errors, undefined);
    assert.equal(metadata.events[0]!.perSecond, 10);
    assert.equal(metadata.thresholds.maxErrors, 5);
    assert.equal(metadata.ttlMs, 3_600_000);
    assert.equal(metadata.expiresAtMs, Date.parse('2030-01-31T12:00:00Z'));
  });

  it('may leave out all but name, version, object and a function', () => {
    const { name, version, object_sha256, object_size } = whole;
    const metadata = read({ name, version, object_sha256, object_size, functions: [whole.functions[0]!] });
    assert.equal(metadata.ttlMs, undefined);
    assert.equal(metadata.minimumKernel, undefined);
    assert.equal(metadata.expiresAtMs, undefined);
    assert.deepEqual(metadata.counters, { packets: undefined, violations: undefined, errors: undefined, others: {} });
  });

  it('is refused with every field that is wrong', () => {
    const found = violations({
      name: '',
      version: '1.4',
      description: 'x'.repeat(1025),
      object_sha256: 'AB'.repeat(32),
      object_size: '0',
      functions: [
        { name: 'a b', type: 'PROGRAM_TYPE_XDP', attach: ['tc:eth0:ingress', 'xdp', 'xdp:e', 'xdp:e', 'other@xdp:f'] },
        { name: 'one' },
        { name: 'one', type: 'PROGRAM_TYPE_TC' },
      ],
      events: Array.from({ length: 2 }, () => ({
        map: 'events',
        type: 'a-b',
        per_second: 1_000_000,
        fields: [
          { name: 'x', type: 'PROGRAM_PARAMETER_TYPE_UINT', size: 3 },
          { name: 'x', offset: 70_000 },
        ],
      })),
      counters: { errors: { map: '', key: 'one', size: 2, offset: 70_000 }, others: { '1st': { map: 'm', key: '0' } } },
      thresholds: { max_latency_ms: -1 },
      minimum_kernel: 'new',
      ttl: '-1s',
      fresh_maps: ['a/b'],
      expire_time: '1969-01-01T00:00:00Z',
    });
    assert.match(found['name']!, /^missing; must be a letter/);
    saysOf(found, {
      version: /"1.4"; must be a version such as/,
      description: /1025 characters/,
      object_sha256: /64 hex digits/,
      object_size: /got 0; must be the bytes/,
      'functions[0].name': /"a b"/,
      'functions[0].attach[0]': /of type xdp and can't go to tc:eth0:ingress; it goes to "xdp:…"/,
      'functions[0].attach[1]': /"xdp" is no place/,
      'functions[0].attach[3]': /xdp:e is there twice/,
      'functions[0].attach[4]': /names other; it stands at/,
      'functions[1].type': /missing; must be one of xdp/,
      'functions[2].name': /"one" is there twice/,
      'events[0].type': /"a-b"/,
      'events[0].per_second': /at most 10000/,
      'events[0].fields[0].size': /uint has 1 or 2 or 4 or 8 bytes, and what holds it has 3/,
      'events[0].fields[1].name': /"x" is there twice/,
      'events[0].fields[1].type': /missing; must be one of uint/,
      'events[1].map': /"events" is there twice/,
      'counters.errors.map': /^missing/,
      'counters.errors.key': /"one"; must be a key/,
      'counters.errors.size': /got 2; must be 4 or 8/,
      'counters.errors.offset': /at most 65536/,
      'counters.others': /"1st"/,
      'thresholds.max_latency_ms': /got -1/,
      minimum_kernel: /"new"; must be a version such as "5.15"/,
      ttl: /got -1 s/,
      'fresh_maps[0]': /"a\/b"/,
      expire_time: /from 1970/,
    });
  });

  it('is refused with parameters that can not be', () => {
    const type = 'PROGRAM_PARAMETER_TYPE_UINT';
    const found = violations({
      ...whole,
      parameters: [
        { name: '1st', type, variable: 'a' },
        { name: 'a', type, variable: 'b', min: '10', max: '5' },
        { name: 'a', type, variable: 'c', default: '300', max: '255' },
        { name: 'd', type: 'PROGRAM_PARAMETER_TYPE_BOOL', variable: 'd', min: '1', choices: ['yes'] },
        { name: 'e', type },
        { name: 'f', variable: 'f' },
        { name: 'g', type, variable: 'b' },
        { name: 'h', type, map: { map: 'm', key: '' }, default: '1', required: true },
        { name: 'i', type, variable: 'a.b', min: 'x' },
      ],
    });
    saysOf(found, {
      'parameters[0].name': /"1st"; must be a letter/,
      'parameters[1].max': /5 is less than min, which is 10/,
      'parameters[2].name': /"a" is there twice/,
      'parameters[2].default': /"300"; must be a whole number up to 255/,
      'parameters[3].min': /bool has no range/,
      'parameters[3].choices[0]': /"yes"; must be true or false/,
      'parameters[4]': /goes nowhere; must have one of variable, map, key_set/,
      'parameters[5].type': /missing; must be one of uint/,
      'parameters[6].variable': /the variable b is set by a already/,
      'parameters[7].map.key': /missing; must be a key/,
      'parameters[7].default': /is never used/,
      'parameters[8].variable': /"a\.b"/,
      'parameters[8].min': /"x"; must be a whole number/,
    });
  });

  it('fails in one way only, whatever it says', () => {
    const texts = fc.oneof(fc.string(), fc.constantFrom('', 'xdp:eth0', '0', '-1', '0x10', 'a'));
    const messages = fc.record({
      name: texts,
      version: texts,
      description: texts,
      objectSha256: texts,
      objectSize: fc.bigInt(),
      functions: fc.array(fc.record({ name: texts, type: fc.integer({ min: -1, max: 20 }), attach: fc.array(texts) })),
      parameters: fc.array(
        fc.record({
          name: texts,
          description: texts,
          type: fc.integer({ min: -1, max: 12 }),
          target: fc.oneof(
            fc.record({ case: fc.constant('variable' as const), value: texts }),
            fc.record({ case: fc.constant('map' as const), value: fc.record({ map: texts, key: texts }) }),
            fc.constant({ case: undefined }),
          ),
          min: texts,
          max: texts,
          choices: fc.array(texts),
          default: texts,
          required: fc.boolean(),
        }),
      ),
      events: fc.constant([]),
      minimumKernel: texts,
      freshMaps: fc.array(texts),
    });
    fc.assert(
      fc.property(messages, (message) => {
        try {
          readMetadata(message);
        } catch (error) {
          assert.ok(error instanceof LonglineError && error.reason === 'invalid', String(error));
        }
      }),
    );
  });
});

describe('releases of the kernel', () => {
  it('are old enough or not by their numbers', () => {
    for (const release of ['5.15.0', '5.15', '5.15.0-91-generic', '6.1.0-13-amd64', '10.0.0']) {
      assert.equal(kernelFault('5.15', release), undefined, release);
    }
    assert.equal(kernelFault(undefined, 'whatever'), undefined);
    assert.equal(kernelFault('6.1.2', '6.1.10'), undefined);
    assert.match(kernelFault('5.15', '5.9.16')!, /needs a kernel from 5\.15 on; this one is 5\.9\.16/);
    assert.match(kernelFault('6.1.2', '6.1.1')!, /from 6\.1\.2 on/);
    assert.match(kernelFault('5.15', 'unknown')!, /"unknown" doesn't say/);
  });
});
