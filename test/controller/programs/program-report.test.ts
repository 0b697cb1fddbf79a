import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import fc from 'fast-check';
import { StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ProgramRollbackSchema, ProgramRollbackTrigger } from '#gen/longline/v1/program_pb.js';
import { programsIn, rollbackRecord, rollbacksIn } from '../../../src/controller/programs/program-report.ts';

const NOW = Date.UTC(2030, 0, 1);
const told = (init = {}) => create(ProgramRollbackSchema, { id: 'r', program: 'p', ...init });

describe('a rollback that an agent tells of', () => {
  it('is kept as it was told', () => {
    const rollback = told({ reason: 'too slow', time: timestampFromMs(NOW - 5), value: 3 });
    const record = rollbackRecord(rollback, 'a', NOW)!;
    assert.deepEqual([record.agentId, record.id, record.program, record.atMs], ['a', 'r', 'p', NOW - 5]);
    assert.deepEqual(fromBinary(ProgramRollbackSchema, record.rollback), rollback);
  });

  it('is of now if its clock is ahead, broken, or says nothing', () => {
    for (const time of [undefined, timestampFromMs(NOW + 1e9), { seconds: 1n << 62n, nanos: 0 }]) {
      assert.equal(rollbackRecord(told(time && { time }), 'a', NOW)!.atMs, NOW);
    }
    assert.equal(rollbackRecord(told({ time: { seconds: -(1n << 62n), nanos: 0 } }), 'a', NOW)!.atMs, 0);
  });

  it('is none without a name, and takes no more room than it may', () => {
    for (const wrong of [{ id: '' }, { program: '' }, { id: 'x'.repeat(65) }, { program: 'x'.repeat(64) }]) {
      assert.equal(rollbackRecord(told(wrong), 'a', NOW), undefined);
    }
    const signers = Array.from({ length: 5000 }, (_, place) => `key ${place}`);
    const trigger = ProgramRollbackTrigger.CPU;
    const huge = told({ trigger, reason: `${'r'.repeat(1023)}💥${'r'.repeat(9999)}`, from: { signers } });
    const kept = fromBinary(ProgramRollbackSchema, rollbackRecord(huge, 'a', NOW)!.rollback);
    assert.deepEqual([kept.id, kept.trigger, kept.from, kept.reason.length], ['r', trigger, undefined, 1024]);
    assert.ok(kept.reason.isWellFormed());
  });

  it('never fails, whatever is told', () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.string(),
        fc.string(),
        fc.bigInt(-(1n << 63n), (1n << 63n) - 1n),
        (id, program, reason, seconds) => {
          const record = rollbackRecord(told({ id, program, reason, time: { seconds, nanos: 0 } }), 'a', NOW);
          assert.equal(record === undefined, id === '' || program === '' || id.length > 64 || program.length > 63);
          if (record !== undefined)
            assert.ok(Number.isSafeInteger(record.atMs) && record.atMs <= NOW && record.atMs >= 0);
        },
      ),
    );
  });

  it('is found in a report of programs, and in no other', () => {
    const programs = [{ name: 'p', lastRollback: { id: '1', program: 'p' } }, { name: 'q' }];
    const report = create(StateReportSchema, { detail: { case: 'programs', value: { programs } } });
    assert.deepEqual(
      rollbacksIn(report, 'a', NOW).map(({ id }) => id),
      ['1'],
    );
    assert.deepEqual(rollbacksIn(create(StateReportSchema), 'a', NOW), []);
    assert.deepEqual(programsIn(undefined), []);
  });
});
