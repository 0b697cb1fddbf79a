import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { crc32c, joinCrc32c } from '../../src/core/crc32c.ts';
import { decodeRecord, encodeRecord, encodeRecordHeader, MAX_RECORD_BYTES } from '../../src/core/record-codec.ts';

const record = fc.tuple(fc.integer({ min: 0, max: 255 }), fc.uint8Array({ maxLength: 300 }));

test('CRC-32C gives the published check values', () => {
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  // RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and counting up.
  assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
  assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e);
});

test('CRC-32C is that of the polynomial, whatever the length and wherever the bytes lie', () => {
  const bitwise = (data: Uint8Array, seed: number) => {
    let crc = ~seed;
    for (const byte of data) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    }
    return ~crc >>> 0;
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(20), fc.nat(0xffffffff), (bytes, cut, seed) => {
      const data = bytes.subarray(cut);
      assert.equal(crc32c(data, seed), bitwise(data, seed));
    }),
    { numRuns: 500 },
  );
});

test('CRC-32C of parts equals that of the whole', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (data, cut) => {
      assert.equal(crc32c(data.subarray(cut), crc32c(data.subarray(0, cut))), crc32c(data));
    }),
  );
});

test('the CRC-32C of a whole follows from those of its parts', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), fc.nat(5000), (data, cut) => {
      const second = data.subarray(cut);
      assert.equal(joinCrc32c(crc32c(data.subarray(0, cut)), crc32c(second), second.length), crc32c(data));
    }),
  );
});

test('a header made from the CRC of a body is that of the whole record', () => {
  fc.assert(
    fc.property(record, ([type, body]) => {
      const header = encodeRecordHeader(type, body.length, crc32c(body));
      assert.deepEqual(Buffer.concat([header, body]), encodeRecord(type, body));
    }),
  );
});

test('records come back as they were, and every shorter buffer is incomplete', () => {
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 4 }), (records) => {
      const file = Buffer.concat(records.map(([type, body]) => encodeRecord(type, body)));
      let offset = 0;
      for (const [type, body] of records) {
        const found = decodeRecord(file, offset);
        assert.ok(found.kind === 'record');
        assert.equal(found.record.type, type);
        assert.deepEqual(Uint8Array.from(found.record.body), body);
        assert.equal(decodeRecord(file.subarray(0, found.record.end - 1), offset).kind, 'incomplete');
        offset = found.record.end;
      }
      assert.equal(offset, file.length);
    }),
  );
});

test('any flipped bit is found', () => {
  fc.assert(
    fc.property(record, fc.nat(), ([type, body], position) => {
      const file = encodeRecord(type, body);
      const bit = position % (file.length * 8);
      file[bit >> 3]! ^= 1 << (bit & 7);
      assert.notEqual(decodeRecord(file, 0).kind, 'record');
    }),
  );
});

test('an absurd length is damage, not a wait for more', () => {
  const file = Buffer.alloc(64);
  file.writeUInt32LE(MAX_RECORD_BYTES + 1, 0);
  assert.equal(decodeRecord(file, 0).kind, 'damaged');
});

test('a body that would be read as damage is not written', () => {
  assert.equal(encodeRecord(1, new Uint8Array(MAX_RECORD_BYTES)).length, MAX_RECORD_BYTES + 9);
  assert.throws(() => encodeRecord(1, new Uint8Array(MAX_RECORD_BYTES + 1)), { reason: 'limit', retryable: false });
});
