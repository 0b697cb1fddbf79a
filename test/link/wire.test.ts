import assert from 'node:assert/strict';
import { test } from 'node:test';
import { invalid, LonglineError } from '../../src/core/errors.ts';
import { encodeAgentMessage, rejectedMessage } from '../../src/link/wire.ts';

const head = { commandId: 'a', seq: 1n };

test('a refusal stays small, whatever a peer put into it', () => {
  const text = '\u{1f600}'.repeat(100_000);
  const field = (index: number) => ({ field: `${index} ${text}`, description: text });
  for (const error of [
    new LonglineError('policy', text, { rule: text }),
    invalid(Array.from({ length: 1000 }, (_, index) => field(index))),
  ]) {
    const { length } = encodeAgentMessage(rejectedMessage(head, error));
    assert.ok(length < 1024 * 1024, `${length} bytes`);
  }
});

test('a refusal of usual size says all', () => {
  const violations = [{ field: 'spec.image', description: 'is none' }];
  const { message } = rejectedMessage(
    head,
    new LonglineError('invalid', 'spec.image: is none', { violations, rule: 'r' }),
  );
  assert.ok(message.case === 'rejected');
  const { error } = message.value;
  assert.deepEqual([error?.message, error?.rule], ['spec.image: is none', 'r']);
  assert.deepEqual(
    error?.violations.map(({ field, description }) => ({ field, description })),
    violations,
  );
});
