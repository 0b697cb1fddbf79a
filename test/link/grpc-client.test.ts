import assert from 'node:assert/strict';
import { test } from 'node:test';
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
