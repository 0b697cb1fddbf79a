import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { ControllerMessageSchema } from '#gen/longline/link/v1/link_pb.js';
import { SignedPayloadSchema } from '#gen/longline/v1/signature_pb.js';
import { commandMessage } from '../../../src/controller/link/wire.ts';

test('a command goes out with the bytes of its statement as they are stored', () => {
  const signed = create(SignedPayloadSchema, {
    payloadType: 'a type',
    payload: new Uint8Array(300).fill(7),
    signatures: [{ keyId: 'k', value: new Uint8Array(64) }],
  });
  const stored = toBinary(SignedPayloadSchema, signed);
  const facts = { id: 'c1', seq: 9, createdAtMs: 1000, expiresAtMs: 2000, traceparent: 'p', tracestate: 's' };
  const value = commandMessage({ ...facts, statement: stored }, 4n);
  // Neither decoded nor kept anew: what an agent gets is not what some version of the schema makes of it.
  assert.equal(value.statement, undefined);
  const sent = toBinary(
    ControllerMessageSchema,
    create(ControllerMessageSchema, { message: { case: 'command', value } }),
  );
  assert.ok(Buffer.from(sent).includes(stored));
  const { message } = fromBinary(ControllerMessageSchema, sent);
  assert.ok(message.case === 'command');
  assert.deepEqual(message.value.statement, signed);
  const { id, seq, traceparent, tracestate, issueTime, expireTime } = message.value;
  assert.deepEqual([id, seq, traceparent, tracestate], ['c1', 9n, 'p', 's']);
  assert.equal(message.value.leaderEpoch, 4n);
  assert.deepEqual([timestampDate(issueTime!).getTime(), timestampDate(expireTime!).getTime()], [1000, 2000]);
});
