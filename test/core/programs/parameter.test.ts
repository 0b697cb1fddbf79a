import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LonglineError } from '../../../src/core/errors.ts';
import type { ArtifactParameter } from '../../../src/core/programs/metadata.ts';
import {
  canonicalValue,
  decodeValue,
  encodeMapKey,
  encodeParameter,
  parameterFault,
  sizeFault,
  splitKeySet,
} from '../../../src/core/programs/parameter.ts';
import { PARAMETER_TYPES, type ParameterType } from '../../../src/core/programs/program-type.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const encoded = (type: ParameterType, text: string, size: number) => hex(encodeParameter({ type, text }, size));

function refused(type: ParameterType, text: string, size: number, message: RegExp): void {
  assert.throws(
    () => encodeParameter({ type, text }, size),
    (error) => error instanceof LonglineError && error.reason === 'invalid' && message.test(error.message),
    `${type} ${text}`,
  );
}

const parameter = (draft: Partial<ArtifactParameter>): ArtifactParameter => ({
  name: 'limit',
  description: '',
  type: 'uint',
  target: { kind: 'variable', variable: 'limit' },
  min: undefined,
  max: undefined,
  choices: [],
  defaultText: undefined,
  required: false,
  ...draft,
});

describe('parameters as bytes', () => {
  it('writes numbers little-endian in the size of their place', () => {
    assert.equal(encoded('uint', '100', 1), '64');
    assert.equal(encoded('uint', '0x1234', 4), '34120000');
    assert.equal(encoded('uint', '18446744073709551615', 8), 'ffffffffffffffff');
    assert.equal(encoded('int', '-2', 2), 'feff');
    assert.equal(encoded('int', '-9223372036854775808', 8), '0000000000000080');
    assert.equal(encoded('bool', 'true', 4), '01000000');
  });

  it('writes addresses in network order, and the length of a prefix as a number', () => {
    assert.equal(encoded('ipv4', '192.0.2.1', 4), 'c0000201');
    assert.equal(encoded('ipv6', '2001:db8::1', 16), '20010db8000000000000000000000001');
    assert.equal(encoded('ipv6', '::ffff:c000:201', 16), '00000000000000000000ffffc0000201');
    assert.equal(encoded('mac', '02:00:5E:10:00:01', 6), '02005e100001');
    assert.equal(encoded('prefix', '192.0.2.77/24', 8), '18000000c0000200');
    assert.equal(encoded('prefix', '2001:db8::/32', 20), '2000000020010db8000000000000000000000000');
    assert.equal(encoded('prefix', '192.0.2.7', 8), '20000000c0000207');
  });

  it('writes text with a NUL after it, and bytes as they are', () => {
    assert.equal(encoded('string', 'eth0', 8), '6574683000000000');
    assert.equal(encoded('string', 'é', 3), 'c3a900');
    assert.equal(encoded('bytes', '00FF10', 3), '00ff10');
  });

  it('refuses with the value and what would be right', () => {
    refused('uint', '256', 1, /"256".*from 0 to 255, in 1 byte/);
    refused('uint', '-1', 4, /"-1".*from 0/);
    refused('uint', '18446744073709551616', 8, /from 0 to 18446744073709551615/);
    refused('int', '128', 1, /from -128 to 127/);
    refused('int', '1.5', 4, /whole number/);
    refused('uint', '', 4, /whole number/);
    refused('uint', '007', 4, /whole number/);
    refused('uint', '9'.repeat(100_000), 8, /whole number/);
    refused('uint', '1', 3, /uint has 1 or 2 or 4 or 8 bytes, and what holds it has 3/);
    refused('bool', 'yes', 1, /true or false/);
    refused('string', 'eth0', 4, /at most 3 bytes/);
    refused('string', 'a\0b', 8, /without NUL/);
    refused('string', '\ud800', 8, /without NUL/);
    refused('ipv4', '192.0.2.1/32', 4, /IPv4 address such as/);
    refused('ipv4', '2001:db8::1', 4, /IPv4 address such as/);
    refused('ipv4', '192.0.2.1', 16, /ipv4 has 4 bytes/);
    refused('ipv6', '192.0.2.1', 16, /IPv6 address such as/);
    refused('mac', '02-00-5e-10-00-01', 6, /hardware address/);
    refused('bytes', '0', 1, /hex/);
    refused('bytes', '0011', 4, /8 hex digits, for 4 bytes/);
    refused('prefix', '192.0.2.0/33', 8, /a prefix such as/);
    refused('prefix', '2001:db8::/32', 8, /an IPv4 prefix/);
    refused('prefix', '192.0.2.0/24', 20, /an IPv6 prefix/);
  });

  it('writes what it read, for bytes of any type', () => {
    const cases = fc.constantFrom(...PARAMETER_TYPES).chain((type) => {
      const sizes = Array.from({ length: 32 }, (_, size) => size).filter((size) => sizeFault(type, size) === undefined);
      return fc
        .constantFrom(...sizes)
        .chain((size) => fc.tuple(fc.constant(type), fc.uint8Array({ minLength: size, maxLength: size })));
    });
    fc.assert(
      fc.property(cases, ([type, bytes]) => {
        const text = decodeValue(type, bytes);
        // Bytes that say less than they could (flags above 1, text after a NUL, host bits) come back in the one right form.
        if (type === 'string' || type === 'bool' || type === 'prefix') {
          const read = canonicalValue({ type, text });
          if (!read.ok || (type === 'string' && Buffer.byteLength(text) >= bytes.length)) return;
          assert.equal(
            canonicalValue({ type, text: decodeValue(type, encodeParameter({ type, text }, bytes.length)) }).ok,
            true,
          );
          return;
        }
        assert.equal(hex(encodeParameter({ type, text }, bytes.length)), hex(bytes));
      }),
    );
  });

  it('never fails in any way but one', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...PARAMETER_TYPES),
        fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.bigInt().map(String), fc.ipV4(), fc.ipV6()),
        fc.integer({ min: 0, max: 40 }),
        (type, text, size) => {
          try {
            assert.equal(encodeParameter({ type, text }, size).length, size);
          } catch (error) {
            assert.ok(error instanceof LonglineError && error.reason === 'invalid', String(error));
          }
        },
      ),
    );
  });
});

describe('keys of maps', () => {
  it('reads numbers for small keys, hex for large ones', () => {
    assert.equal(hex(encodeMapKey('1', 4)), '01000000');
    assert.equal(hex(encodeMapKey('0x0102', 6)), '020100000000');
    assert.equal(hex(encodeMapKey('000102030405060708', 9)), '000102030405060708');
    assert.throws(() => encodeMapKey('256', 1), /"256"; must be a key from 0 to 255, in 1 byte/);
    assert.throws(() => encodeMapKey('-1', 4), /from 0 to 4294967295/);
    assert.throws(() => encodeMapKey('1', 16), /32 hex digits|in hex/);
  });
});

describe('event fields', () => {
  it('are told as people write them', () => {
    const bytes = (text: string) => Buffer.from(text, 'hex');
    assert.equal(decodeValue('uint', bytes('ffffffff')), '4294967295');
    assert.equal(decodeValue('int', bytes('feffffff')), '-2');
    assert.equal(decodeValue('bool', bytes('02')), 'true');
    assert.equal(decodeValue('string', Buffer.from('bash\0junk')), 'bash');
    assert.equal(decodeValue('string', Buffer.from('full')), 'full');
    assert.equal(decodeValue('ipv4', bytes('c0000201')), '192.0.2.1');
    assert.equal(decodeValue('ipv6', bytes('20010db8000000000000000000000001')), '2001:db8::1');
    assert.equal(decodeValue('mac', bytes('02005e100001')), '02:00:5e:10:00:01');
    assert.equal(decodeValue('prefix', bytes('18000000c0000200')), '192.0.2.0/24');
  });

  it('are told in hex where they can be nothing else', () => {
    assert.equal(decodeValue('uint', Buffer.from('010203', 'hex')), '010203');
    assert.equal(decodeValue('prefix', Buffer.from('21000000c0000200', 'hex')), '21000000c0000200');
    assert.equal(decodeValue('ipv4', Buffer.from('', 'hex')), '');
  });
});

describe('what a parameter takes', () => {
  it('looks at range and choices, by value and not by writing', () => {
    assert.equal(parameterFault(parameter({ min: 1n, max: 100n }), '0x64'), undefined);
    assert.match(
      parameterFault(parameter({ min: 1n, max: 100n }), '101')!,
      /"101"; must be a whole number from 1 to 100/,
    );
    assert.match(parameterFault(parameter({ min: 1n }), '0')!, /from 1/);
    assert.match(parameterFault(parameter({ type: 'int', max: -1n }), '0')!, /up to -1/);
    assert.equal(parameterFault(parameter({ choices: ['1', '0x10'] }), '16'), undefined);
    assert.match(parameterFault(parameter({ choices: ['1', '0x10'] }), '2')!, /one of 1, 0x10/);
    assert.match(parameterFault(parameter({ type: 'string', choices: ['a', 'b'] }), 'c')!, /one of a, b/);
    assert.match(parameterFault(parameter({ type: 'string' }), 'x'.repeat(70_000))!, /70000 characters; at most 65536/);
  });

  it('looks at each key of a set, and at how many they are', () => {
    const set = parameter({ type: 'prefix', target: { kind: 'key_set', map: 'blocked', maxKeys: 2 } });
    assert.equal(parameterFault(set, ''), undefined);
    assert.equal(parameterFault(set, '192.0.2.0/24, 198.51.100.0/24'), undefined);
    assert.match(parameterFault(set, '192.0.2.0/24,,')!, /3 keys; at most 2/);
    assert.match(parameterFault(set, '192.0.2.0/24,')!, /""; must be a prefix/);
    assert.deepEqual(splitKeySet(' a , b'), ['a', 'b']);
  });
});
