import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { type Any, anyPack, durationFromMs } from '@bufbuild/protobuf/wkt';
import { Metadata } from '@grpc/grpc-js';
import { ErrorInfoSchema, RetryInfoSchema } from '#gen/google/rpc/error_details_pb.js';
import { StatusSchema } from '#gen/google/rpc/status_pb.js';
import { describeError } from '../../src/core/errors.ts';
import { callError, statusMessage } from '../../src/link/grpc-client.ts';

test('a status message is told as its sender wrote it', () => {
  assert.equal(
    statusMessage('token%3A ended at 00%3A35%3B make a new one%2C now'),
    'token: ended at 00:35; make a new one, now',
  );
  assert.equal(statusMessage('the disk is 100% full'), 'the disk is 100% full');
});

test('a connection that could not be made is told by its cause alone, and once', () => {
  const details =
    'No connection established. Last error: LonglineError: TLS with 10.0.0.1:7443 failed: closed. Resolution note: ';
  const error = callError(
    'control stream',
    Object.assign(new Error(`14 UNAVAILABLE: ${details}`), { code: 14, details }),
  );
  assert.equal(error.reason, 'unavailable');
  assert.equal(describeError(error), 'TLS with 10.0.0.1:7443 failed: closed');
});

test('a call that was ended says which, how and why', () => {
  const error = callError('control stream', Object.assign(new Error('x'), { code: 8, details: 'too many' }));
  assert.deepEqual(
    [error.reason, error.message],
    ['limit', 'the control stream ended with RESOURCE_EXHAUSTED: too many'],
  );
});

/** What a call ends with whose details are these. */
function endedWith(details: Any[], change = (bytes: Uint8Array) => bytes) {
  const metadata = new Metadata();
  const bytes = toBinary(StatusSchema, create(StatusSchema, { code: 10, message: 'stale', details }));
  metadata.set('grpc-status-details-bin', Buffer.from(change(bytes)));
  return callError('control stream', Object.assign(new Error('x'), { code: 10, details: 'stale', metadata }));
}

const errorInfo = (newestEpoch: string, domain = 'longline') => {
  const metadata = { retryable: 'false', newest_epoch: newestEpoch, rule: 'none' };
  return anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: 'STALE', domain, metadata }));
};

test('a refusal carries the epoch that the controller knows of, and when to come again', () => {
  const retry = anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(1500) }));
  for (const details of [
    [errorInfo('41'), retry],
    [retry, errorInfo('41')],
  ]) {
    const { reason, newestEpoch, retryAfterMs } = endedWith(details);
    assert.deepEqual([reason, newestEpoch, retryAfterMs], ['stale', 41n, 1500]);
  }
  assert.equal(endedWith([errorInfo(String(2n ** 64n - 1n))]).newestEpoch, 2n ** 64n - 1n);
});

test('an epoch that is no number of the contract, or not ours to read, is none', () => {
  for (const text of ['', '-1', '0x10', '1e9', ' 1', String(2n ** 64n), '9'.repeat(60)]) {
    assert.equal(endedWith([errorInfo(text)]).newestEpoch, undefined, text);
  }
  assert.equal(endedWith([errorInfo('41', 'example.org')]).newestEpoch, undefined);
  assert.equal(endedWith([]).newestEpoch, undefined);
  const torn = endedWith([errorInfo('41')], (bytes) => bytes.subarray(0, -3));
  assert.deepEqual([torn.reason, torn.newestEpoch], ['stale', undefined]);
});
