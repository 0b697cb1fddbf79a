import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { admit, type Share, sum, total } from '../../../src/capabilities/sessions/admission.ts';
import { LonglineError } from '../../../src/core/errors.ts';

const GIB = 1024 ** 3;
const LIMITS = { maxCpus: 100, maxMemoryBytes: 128 * GIB, maxSessions: 100 };

const share = fc.record<Share>({
  cpus: fc.integer({ min: 1, max: 400 }).map((quarters) => quarters / 4),
  memoryBytes: fc.integer({ min: 1, max: 64 * 1024 }).map((mib) => mib * 1024 ** 2),
  sessions: fc.constant(1),
});

suite('admission of sessions', () => {
  test('refuses with what was asked, what is reserved and the limit, for everything that is short', () => {
    const reserved = { cpus: 99.5, memoryBytes: 127 * GIB, sessions: 100 };
    assert.throws(
      () => admit({ cpus: 1, memoryBytes: 2 * GIB, sessions: 1 }, reserved, LIMITS),
      (error) => {
        assert.ok(error instanceof LonglineError);
        assert.equal(error.reason, 'limit');
        assert.match(error.message, /sessions: 100 are there, and max_sessions is 100/);
        assert.match(error.message, /cpu: asked 1 cores, reserved 99\.5, max_cpu is 100/);
        assert.match(error.message, /memory: asked 2GiB, reserved 127GiB, max_memory is 128GiB/);
        return true;
      },
    );
  });

  test('lets in what fits exactly', () => {
    admit({ cpus: 1, memoryBytes: GIB, sessions: 1 }, { cpus: 99, memoryBytes: 127 * GIB, sessions: 99 }, LIMITS);
  });

  test('a waking session that gives nothing new back needs only what it takes', () => {
    const full = { cpus: 99, memoryBytes: 128 * GIB, sessions: 100 };
    admit({ cpus: 1, memoryBytes: 0, sessions: 0 }, full, LIMITS);
  });

  test('never lets more in than there is, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(share, { maxLength: 200 }), (asked) => {
        let reserved = total([]);
        for (const one of asked) {
          try {
            admit(one, reserved, LIMITS);
            reserved = sum(reserved, one);
          } catch (error) {
            assert.ok(error instanceof LonglineError && error.reason === 'limit');
          }
          assert.ok(reserved.cpus <= 100 && reserved.memoryBytes <= 128 * GIB && reserved.sessions <= 100);
        }
      }),
    );
  });
});
