import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { ResumableSha256 } from '../../src/link/resumable-sha256.ts';

test('a hash that was saved and goes on gives what the native one gives', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(400), fc.nat(400), (data, one, other) => {
      const [first, second] = [Math.min(one, other), Math.max(one, other)];
      let hash = new ResumableSha256();
      for (const part of [data.subarray(0, first), data.subarray(first, second), data.subarray(second)]) {
        hash = ResumableSha256.restore(hash.update(part).save());
      }
      assert.equal(hash.digest().toString('hex'), createHash('sha256').update(data).digest('hex'));
    }),
    { numRuns: 300 },
  );
});

test('the form on disk stays what it was', () => {
  const saved = `AAAAAACAUUAcuFvfJgYe6JSoRfsxD9RPFmhessGZ1NYpSZCrZl5jAGFhYWFhYQAA${'A'.repeat(74)}A=`;
  assert.equal(new ResumableSha256().update(Buffer.alloc(70, 'a')).save(), saved);
  const digest = ResumableSha256.restore(saved).digest();
  assert.deepEqual(digest, createHash('sha256').update('a'.repeat(70)).digest());
});
