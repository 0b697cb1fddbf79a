import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { ReleaseQuarantineRequestSchema, RollBackProgramRequestSchema } from '#gen/longline/local/v1/local_pb.js';
import { ProgramRollbackTrigger, ProgramState } from '#gen/longline/v1/program_pb.js';
import { programCalls } from '../../../src/agent/programs/program-calls.ts';
import { applyFull, ProgramsWorld, spec, untilLife } from '../../capabilities/programs/programs-fixture.ts';

const rollBackOf = (name: string, reason = '') => create(RollBackProgramRequestSchema, { name, reason });

suite('programs on the local service', () => {
  test('are told of with their figures, rolled back by hand, and their artifacts released', async () => {
    await using world = new ProgramsWorld();
    const capability = await world.start();
    const calls = programCalls(capability);
    assert.deepEqual(await calls.list(), { programs: [], quarantined: [] });
    const good = await world.artifact();
    await applyFull(capability, 1, [spec('counter', good)]);
    await untilLife(capability, 'counter', 'probation');
    await world.pass(61_000, 3);
    await untilLife(capability, 'counter', 'active');
    const { programs = [] } = await calls.list();
    assert.equal(programs[0]?.status?.state, ProgramState.ACTIVE);
    assert.ok(programs[0]?.figures?.endTime !== undefined);
    assert.ok((programs[0].figures.countedTime?.seconds ?? 0n) > 0n);
    const next = await world.artifact({ version: '2.0.0' });
    await applyFull(capability, 2, [spec('counter', next)]);
    await untilLife(capability, 'counter', 'probation');
    const { rollback } = await calls.rollBack(rollBackOf('counter', 'it drops too much'));
    assert.deepEqual([rollback?.from?.artifact, rollback?.to?.artifact], [next, good]);
    assert.deepEqual(
      [rollback?.trigger, rollback?.reason, rollback?.requestedBy],
      [ProgramRollbackTrigger.REQUEST, 'it drops too much', 'local'],
    );
    assert.deepEqual(
      (await calls.rollbacks()).rollbacks?.map(({ id }) => id),
      [rollback!.id],
    );
    assert.deepEqual((await calls.list()).quarantined, [next]);
    const released = await calls.release(create(ReleaseQuarantineRequestSchema));
    assert.deepEqual(released.artifacts, [next]);
    assert.deepEqual((await calls.list()).quarantined, []);
  });

  test('are refused with what would be right', async () => {
    await using world = new ProgramsWorld();
    const calls = programCalls(await world.start());
    await assert.rejects(calls.rollBack(rollBackOf('')), { reason: 'invalid', message: /name: is missing/ });
    const long = rollBackOf('counter', 'x'.repeat(1025));
    await assert.rejects(calls.rollBack(long), { reason: 'invalid', message: /reason: has 1025 characters/ });
    await assert.rejects(calls.rollBack(rollBackOf('counter')), { reason: 'not_found', message: /"counter"/ });
  });

  test('can be asked about before programs were opened', async () => {
    const { ProgramsCapability } = await import('../../../src/capabilities/programs/capability.ts');
    const calls = programCalls(new ProgramsCapability({} as never));
    assert.deepEqual(await calls.list(), { programs: [], quarantined: [] });
    assert.deepEqual(await calls.rollbacks(), { rollbacks: [] });
    await assert.rejects(calls.release(create(ReleaseQuarantineRequestSchema)), { reason: 'wrong_state' });
    await assert.rejects(calls.rollBack(rollBackOf('counter')), { reason: 'not_found' });
  });
});
