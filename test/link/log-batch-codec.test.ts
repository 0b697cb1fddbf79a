import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { LogsRequestSchema } from '#gen/longline/link/v1/link_pb.js';
import { GapReason, LogChunkSchema, LogGapSchema } from '#gen/longline/v1/log_pb.js';
import { crc32c } from '../../src/core/crc32c.ts';
import { encodeLogBatch } from '../../src/link/log-batch-codec.ts';
import { wireTime } from '../../src/link/wire.ts';

test('a batch has the bytes that the general encoder gives it', () => {
  const chunk = fc.record({
    stream: fc.constantFrom('stdout', 'stderr'),
    offset: fc.oneof(fc.constant(0), fc.maxSafeNat()),
    capturedAtMs: fc.nat(4_000_000_000_000),
    data: fc.uint8Array({ minLength: 1, maxLength: 300 }),
  });
  const gap = fc.record({ stream: fc.constantFrom('stdout', 'stderr'), from: fc.nat(), bytes: fc.integer({ min: 1 }) });
  const batch = fc.tuple(fc.integer({ min: 1, max: 4_000_000_000 }), fc.array(chunk), fc.array(gap));
  fc.assert(
    fc.property(batch, ([handle, drawnChunks, drawnGaps]) => {
      const chunks = drawnChunks.map((one) => ({ ...one, crc32c: crc32c(one.data) }));
      const gaps = drawnGaps.map(({ stream, from, bytes }) =>
        create(LogGapSchema, { stream, from: BigInt(from), to: BigInt(from + bytes), reason: GapReason.CORRUPT }),
      );
      const value = {
        handle,
        gaps,
        chunks: chunks.map(({ offset, capturedAtMs, ...one }) =>
          create(LogChunkSchema, { ...one, offset: BigInt(offset), captureTime: wireTime(capturedAtMs) }),
        ),
      };
      const message = create(LogsRequestSchema, { message: { case: 'batch', value } });
      const bytes = encodeLogBatch(handle, chunks, gaps);
      assert.deepEqual(Uint8Array.from(bytes), toBinary(LogsRequestSchema, message));
      assert.deepEqual(fromBinary(LogsRequestSchema, Uint8Array.from(bytes)), message);
    }),
  );
});
