// Errors survive both wires with all that may travel, and nothing that may not.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { ConnectError } from '@connectrpc/connect';
import type { ServiceError } from '@grpc/grpc-js';
import fc from 'fast-check';
import { loggable, toConnectError, toGrpcStatus } from '../../../src/controller/front/errors.ts';
import { GRPC_CODE, LonglineError, type Reason } from '../../../src/core/errors.ts';
import { fromConnectError, fromGrpcStatus } from './received-errors.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 40 });
const anyError = fc
  .record({
    reason: fc.constantFrom(...(Object.keys(GRPC_CODE) as Reason[])),
    message: text,
    retryable: fc.boolean(),
    violations: fc.array(fc.record({ field: text, description: text }), { maxLength: 3 }),
    retryAfterMs: fc.option(fc.integer({ min: 0, max: 10 ** 9 }), { nil: undefined }),
    rule: fc.option(text, { nil: undefined }),
  })
  .map(({ reason, message, retryable, violations, retryAfterMs, rule }) => {
    const optional = {
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      ...(rule === undefined ? {} : { rule }),
    };
    return new LonglineError(reason, message, { retryable, violations, ...optional });
  });

const factsOf = ({ reason, message, retryable, violations, retryAfterMs, rule }: LonglineError) => {
  const fields = violations.map(({ field, description }) => ({ field, description }));
  return { reason, message, retryable, violations: fields, retryAfterMs, rule };
};

it('keeps every fact over Connect', () => {
  fc.assert(
    fc.property(anyError, (error) =>
      assert.deepEqual(factsOf(fromConnectError(toConnectError(error))), factsOf(error)),
    ),
  );
});

it('keeps every fact over gRPC', () => {
  fc.assert(
    fc.property(anyError, (error) => {
      const received = Object.assign(new Error(), toGrpcStatus(error)) as ServiceError;
      assert.equal(received.code, GRPC_CODE[error.reason]);
      assert.deepEqual(factsOf(fromGrpcStatus(received)), factsOf(error));
    }),
  );
});

it('sends nothing of unknown causes, and has them logged', () => {
  const inner = new TypeError('a secret of the inside');
  const wrapped = new LonglineError('unavailable', 'the store can not be reached', { cause: inner });
  for (const thrown of [inner, wrapped, 'a secret of the inside', { a: 'secret of the inside' }]) {
    assert.ok(loggable(thrown));
    const { code, details, metadata } = toGrpcStatus(thrown);
    const connect = toConnectError(thrown);
    const sent = `${code} ${details} ${JSON.stringify(metadata.toJSON())} ${connect.message} ${JSON.stringify(connect.details.map((detail) => ('value' in detail ? { ...detail.value, $typeName: '' } : '')))}`;
    assert.doesNotMatch(sent, /secret of the inside/);
  }
  assert.equal(loggable(new LonglineError('invalid', 'x')), false);
  const left = Object.assign(new Error('Session closed with error code 8'), { code: 'ERR_HTTP2_SESSION_ERROR' });
  assert.equal(loggable(left), false, 'a caller that left is no fault of ours');
});

it('takes foreign errors as what their code says', () => {
  const error = fromConnectError(new ConnectError('gone', GRPC_CODE.not_found));
  assert.deepEqual([error.reason, error.message], ['not_found', 'gone']);
});
