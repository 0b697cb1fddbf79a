import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { LogBatchSchema, LogsRequestSchema } from '#gen/longline/link/v1/link_pb.js';
import { GapReason, LogChunkSchema } from '#gen/longline/v1/log_pb.js';
import { decodeLogsRequest } from '../../../src/controller/link/logs-request.ts';
import { bytesOfChunk, decodeChunk } from '../../../src/controller/logs/chunk-bytes.ts';
import { encodeLogRecord, frameLogRecord } from '../../../src/controller/logs/log-record.ts';
import { crc32c } from '../../../src/core/crc32c.ts';

const data = Buffer.from('some output');
const chunk = create(LogChunkSchema, {
  stream: 'stdout',
  offset: 7n,
  captureTime: { seconds: 1_700_000_000n, nanos: 5 },
  crc32c: crc32c(data),
  data: Uint8Array.from(data),
});
const gap = { stream: 'stderr', from: 1n, to: 9n, reason: GapReason.SPOOL_FULL };

test('requests are decoded as the general decoder does', () => {
  const messages: MessageInitShape<typeof LogsRequestSchema>['message'][] = [
    { case: 'batch', value: { handle: 3, chunks: [chunk, chunk], gaps: [gap] } },
    { case: 'batch', value: { handle: 3 } },
    { case: 'open', value: { handle: 1, logId: 'x', attempt: 1, kind: 'job' } },
    { case: 'end', value: { handle: 1, close: { streams: [{ stream: 'stdout', length: 4n }] } } },
    { case: 'inputAck', value: { logId: 'x', offset: 5n, closed: true } },
  ];
  for (const message of messages) {
    const bytes = toBinary(LogsRequestSchema, create(LogsRequestSchema, { message: message! }));
    assert.deepEqual(decodeLogsRequest(bytes), fromBinary(LogsRequestSchema, bytes));
  }
  assert.deepEqual(decodeLogsRequest(new Uint8Array()), create(LogsRequestSchema));
});

test('a batch in two halves, and fields of a later version, are decoded too', () => {
  const half = (handle: number) => toBinary(LogBatchSchema, create(LogBatchSchema, { handle, chunks: [chunk] }));
  const wrapped = (bytes: Uint8Array) => Buffer.concat([Buffer.of(0x12, bytes.length), bytes]);
  const halves = decodeLogsRequest(Buffer.concat([wrapped(half(1)), wrapped(half(2))])).message;
  assert.ok(halves.case === 'batch');
  assert.equal(halves.value.chunks.length, 2);
  const unknown = Buffer.concat([half(1), Buffer.of(0xf8, 0x01, 0x05)]);
  const later = decodeLogsRequest(wrapped(unknown)).message;
  assert.ok(later.case === 'batch' && later.value.handle === 1 && later.value.chunks.length === 1);
});

test('torn and malformed requests are refused', () => {
  const message = { case: 'batch', value: create(LogBatchSchema, { handle: 3, chunks: [chunk] }) } as const;
  const bytes = toBinary(LogsRequestSchema, create(LogsRequestSchema, { message }));
  for (let length = 1; length < bytes.length; length++) {
    assert.throws(() => decodeLogsRequest(bytes.subarray(0, length)), `cut at ${length}`);
  }
});

test('a chunk is stored in the bytes that it came in', () => {
  const bytes = toBinary(LogChunkSchema, chunk);
  const decoded = decodeChunk(bytes);
  assert.equal(bytesOfChunk(decoded), bytes);
  const pieces = frameLogRecord({ case: 'chunk', value: decoded });
  assert.equal(pieces[1], bytes, 'it is not copied');
  assert.deepEqual(Buffer.concat(pieces), encodeLogRecord({ case: 'chunk', value: chunk }));
});

test('a chunk whose data is not its end is stored in bytes of our own', () => {
  const bytes = Buffer.concat([toBinary(LogChunkSchema, chunk), Buffer.of(0x10, 0x08)]);
  const decoded = decodeChunk(bytes);
  assert.equal(decoded.offset, 8n);
  assert.equal(bytesOfChunk(decoded), undefined);
  const expected = encodeLogRecord({ case: 'chunk', value: { ...chunk, offset: 8n } });
  assert.deepEqual(Buffer.concat(frameLogRecord({ case: 'chunk', value: decoded })), expected);
});
