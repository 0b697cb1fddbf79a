import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { ErrorReason } from '#gen/longline/v1/error_pb.js';
import { Backoff } from '../../src/core/backoff.ts';
import { formatDuration, parseDuration, systemClock } from '../../src/core/clock.ts';
import { formatEnrollmentToken, parseEnrollmentToken } from '../../src/core/enrollment-token.ts';
import {
  describeError,
  GRPC_CODE,
  invalid,
  LonglineError,
  reasonOfGrpcCode,
  toLonglineError,
} from '../../src/core/errors.ts';
import { isUuid, newId } from '../../src/core/ids.ts';

test('every reason has the gRPC code that its wire comment names, and none is missing', () => {
  const wire = Object.keys(ErrorReason).filter((key) => Number.isNaN(Number(key)) && key !== 'UNSPECIFIED');
  assert.deepEqual(
    Object.keys(GRPC_CODE).map((reason) => reason.toUpperCase()),
    wire,
  );
  const names: Record<keyof typeof GRPC_CODE, keyof typeof status> = {
    invalid: 'INVALID_ARGUMENT',
    not_found: 'NOT_FOUND',
    already_exists: 'ALREADY_EXISTS',
    wrong_state: 'FAILED_PRECONDITION',
    stale: 'ABORTED',
    limit: 'RESOURCE_EXHAUSTED',
    unavailable: 'UNAVAILABLE',
    late: 'DEADLINE_EXCEEDED',
    cancelled: 'CANCELLED',
    policy: 'PERMISSION_DENIED',
    identity: 'UNAUTHENTICATED',
    unsupported: 'UNIMPLEMENTED',
    internal: 'INTERNAL',
  };
  for (const [reason, name] of Object.entries(names)) {
    const code = GRPC_CODE[reason as keyof typeof GRPC_CODE];
    assert.equal(code, status[name], reason);
    assert.equal(reasonOfGrpcCode(code), reason);
  }
  assert.equal(reasonOfGrpcCode(status.DATA_LOSS), 'internal');
});

test('an unknown cause is kept for the log and not put into the message', () => {
  const error = toLonglineError(new Error('password=hunter2'));
  assert.equal(error.reason, 'internal');
  assert.doesNotMatch(error.message, /hunter2/);
  assert.match(describeError(error), /hunter2/);
  const told = new Error('no link: refused', { cause: new Error('refused', { cause: new Error('port 1') }) });
  assert.equal(describeError(told), 'no link: refused: port 1');
  const known = new LonglineError('limit', 'queue is full');
  assert.equal(toLonglineError(known), known);
  const abort = new DOMException('x', 'AbortError');
  assert.equal(toLonglineError(abort).reason, 'cancelled');
});

test('an invalid error lists all its fields', () => {
  const error = invalid([
    { field: 'spec.image', description: 'is empty' },
    { field: 'spec.argv', description: 'is missing' },
  ]);
  assert.equal(error.message, 'spec.image: is empty; spec.argv: is missing');
  assert.equal(error.retryable, false);
});

test('ids of one process are UUIDs that grow strictly, also within a millisecond and when time goes back', () => {
  let last = '';
  for (let count = 0; count < 10_000; count++) {
    const id = newId(1_700_000_000_000 - (count % 3));
    assert.ok(isUuid(id) && id[14] === '7', id);
    assert.ok(id > last, `${id} after ${last}`);
    last = id;
  }
});

test('durations are read as they are written', () => {
  assert.equal(parseDuration('1h30m'), 5_400_000);
  assert.equal(parseDuration('1.5s'), 1500);
  assert.equal(parseDuration('90'), 90_000);
  for (const bad of ['', 'h', '1x', '-1s', '1s junk', '1 s', 's1']) assert.equal(parseDuration(bad), undefined, bad);
  fc.assert(
    fc.property(fc.nat(59_999), (ms) => {
      assert.ok(Math.abs(parseDuration(formatDuration(ms))! - ms) <= 5);
    }),
  );
  assert.equal(formatDuration(93_784_000), '1d2h');
});

test('a wait ends with the reason of its signal', async () => {
  const abort = new AbortController();
  const waiting = systemClock.sleep(60_000, abort.signal);
  abort.abort(new LonglineError('cancelled', 'no more'));
  await assert.rejects(waiting, { reason: 'cancelled' });
  await assert.rejects(systemClock.sleep(1, abort.signal), { reason: 'cancelled' });
});

test('backoff is uniform below a doubling, capped ceiling, and starts over after a reset', () => {
  const backoff = new Backoff({ baseMs: 100, capMs: 1000 }, () => 0.999);
  const ceilings = [100, 200, 400, 800, 1000, 1000];
  for (const ceiling of ceilings) assert.equal(Math.round(backoff.next()), Math.round(ceiling * 0.999));
  backoff.reset();
  assert.equal(Math.round(backoff.next(5000)), 5100);
  assert.equal(new Backoff({ baseMs: 100, capMs: 1000 }, () => 0).next(), 0);
});

test('a registration token comes apart as it was put together; a bad one is refused without being shown', () => {
  const parts = { secret: 'abcdefghijklmnop_-1', caSha256: new Uint8Array(32).fill(7) };
  const token = formatEnrollmentToken(parts);
  const again = parseEnrollmentToken(` ${token}\n`);
  assert.equal(again.secret, parts.secret);
  assert.deepEqual(Uint8Array.from(again.caSha256), parts.caSha256);
  for (const bad of [
    '',
    'x',
    token.slice(1),
    `${token}.more`,
    token.replace(/\.[^.]*$/, '.abc'),
    'lla1.abcdefghijklmnop',
  ]) {
    assert.throws(
      () => parseEnrollmentToken(bad),
      (error: LonglineError) => error.reason === 'invalid' && (bad.length < 3 || !error.message.includes(bad)),
      bad,
    );
  }
});
