import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type StateReportSchema as ReportSchema, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason, ErrorSchema } from '#gen/longline/v1/error_pb.js';
import { ProgramSpecSchema, ProgramState, type ProgramStatusSchema } from '#gen/longline/v1/program_pb.js';
import { knownRollback, standingOf } from '../../../src/controller/rollouts/agent-standing.ts';
import type { Wanted } from '../../../src/controller/rollouts/target.ts';
import type { AssignedAgentRecord, Delivery } from '../../../src/controller/store/rollout.ts';

type StatusInit = MessageInitShape<typeof ProgramStatusSchema> & { readonly $typeName?: never };

function wantedOf(artifact: string, delivery: Delivery = 'push'): Wanted {
  const spec = create(ProgramSpecSchema, { name: 'drop', artifact });
  return { spec, bytes: toBinary(ProgramSpecSchema, spec), delivery };
}

const WANTED = wantedOf('new');
const RUNS: StatusInit = {
  name: 'drop',
  source: 'controller',
  state: ProgramState.ACTIVE,
  wantedArtifact: 'new',
  current: { artifact: 'new' },
};
const refusal = (message: string, retryable = false) => ({ reason: ErrorReason.INVALID, message, retryable });

/** An agent that was told WANTED as generation 2. */
function agent(patch: Partial<AssignedAgentRecord> = {}): AssignedAgentRecord {
  const told = { assignment: 'drop', agentId: 'a', spec: WANTED.bytes, artifact: 'new', atMs: 1 };
  return {
    agentId: 'a',
    valid: true,
    online: true,
    connectedAtMs: 1,
    labels: {},
    delivery: { ...told, delivery: 'push' },
    program: { generation: 2n, removing: false },
    report: undefined,
    refusal: undefined,
    ...patch,
  };
}

function report(
  generation: bigint,
  programs: StatusInit[],
  patch: MessageInitShape<typeof ReportSchema> = {},
): AssignedAgentRecord['report'] {
  const detail = { case: 'programs' as const, value: { programs } };
  return {
    generation,
    bytes: toBinary(StateReportSchema, create(StateReportSchema, { generation, detail, ...patch })),
  };
}

const kindOf = (record: AssignedAgentRecord, wanted: Wanted = WANTED) => standingOf('drop', record, wanted, '').kind;

/** How an agent is that says this of the program, as of generation 2. */
function standing(patch: StatusInit, known: string | undefined = '') {
  return standingOf('drop', agent({ report: report(2n, [{ ...RUNS, ...patch }]) }), WANTED, known);
}

describe('how an agent is with what it was told', () => {
  it('is known only of what it was told last, and once it says so', () => {
    assert.equal(kindOf(agent({ report: report(2n, [RUNS]) })), 'current');
    assert.equal(kindOf(agent()), 'pending');
    assert.equal(kindOf(agent({ report: report(1n, [RUNS]) })), 'pending', 'an earlier generation');
    assert.equal(kindOf(agent({ report: report(2n, [RUNS]) }), wantedOf('other')), 'pending', 'it was told another');
    const going = standingOf('drop', agent({ report: report(2n, [RUNS]) }), undefined, undefined);
    assert.equal(going.kind, 'pending', 'it was not told yet that it goes');
    const none = agent({ report: report(2n, [RUNS]), program: undefined });
    assert.equal(kindOf(none), 'pending');
    for (const patch of [
      { wantedArtifact: 'old' },
      { current: { artifact: 'old' } },
      { state: ProgramState.PROBATION },
      { state: ProgramState.UPDATING },
      { source: 'local' },
      { wantedSha256: Uint8Array.of(1) },
    ]) {
      assert.equal(standing(patch).kind, 'pending', JSON.stringify(patch));
    }
    const wantedSha256 = createHash('sha256').update(WANTED.bytes).digest();
    assert.equal(standing({ wantedSha256 }).kind, 'current');
    assert.equal(standing({ state: ProgramState.EXPIRED }).kind, 'current', 'its time is over');
  });

  it('is failed for what does not pass by itself, with the reason', () => {
    const verifier = { field: 'verifier', error: refusal('too many steps') };
    const fetch = { field: 'fetch', error: refusal('no route', true) };
    const { FAILED } = ProgramState;
    assert.deepEqual(standing({ state: FAILED, problems: [fetch, verifier] }), {
      kind: 'failed',
      reason: 'too many steps',
    });
    assert.equal(standing({ state: FAILED }).kind, 'failed');
    assert.equal(standing({ problems: [verifier] }).kind, 'failed', 'what runs is what was there before');
    assert.equal(standing({ state: FAILED, problems: [fetch] }).kind, 'pending', 'it is tried again');
    assert.equal(standing({ problems: [fetch] }).kind, 'pending');
    assert.equal(standing({ quarantined: true }).kind, 'failed');
    const items = [{ item: 'drop', error: refusal('no such parameter') }];
    const old = { ...RUNS, wantedArtifact: 'old', current: { artifact: 'old' } };
    assert.equal(kindOf(agent({ report: report(2n, [old], { items }) })), 'failed');
    assert.equal(kindOf(agent({ report: report(2n, [], { items }) })), 'failed');
    assert.equal(kindOf(agent({ report: report(2n, [RUNS], { items: [{ ...items[0]!, item: 'x' }] }) })), 'current');
  });

  it('is failed when it refuses the generation, unless it has applied that', () => {
    const error = toBinary(ErrorSchema, create(ErrorSchema, { message: 'policy says no' }));
    const refused = (generation: bigint) => agent({ refusal: { generation, error }, report: report(1n, [RUNS]) });
    assert.deepEqual(standingOf('drop', refused(2n), WANTED, ''), {
      kind: 'failed',
      reason: 'it refused what is wanted of it: policy says no',
    });
    assert.equal(kindOf(refused(1n)), 'pending', 'what came before');
    const later = agent({ refusal: { generation: 3n, error }, report: report(2n, [RUNS]) });
    assert.equal(kindOf(later), 'current', 'something else was refused');
  });

  it('is failed when it went back since it was told, and not for what it did before', () => {
    const lastRollback = { id: 'r2', from: { artifact: 'new' }, reason: 'errors' };
    assert.deepEqual(standing({ lastRollback }), { kind: 'failed', reason: 'it was rolled back: errors' });
    assert.equal(standing({ lastRollback }, 'r2').kind, 'current');
    assert.equal(standing({ lastRollback: { ...lastRollback, from: { artifact: 'old' } } }).kind, 'current');
    assert.equal(standing({ lastRollback: { ...lastRollback, error: refusal('it could not') } }).kind, 'current');
    const record = agent({ report: report(2n, [{ ...RUNS, lastRollback }]) });
    assert.equal(standingOf('drop', record, WANTED, undefined).kind, 'current', 'it is not judged anew');
    const held = agent({ report: report(2n, [{ ...RUNS, lastRollback, quarantined: true }]) });
    assert.equal(standingOf('drop', held, WANTED, undefined).kind, 'current', 'it has it back');
    assert.deepEqual([knownRollback('drop', record), knownRollback('drop', agent())], ['r2', '']);
  });

  it('follows what agents find in their registry, without a generation', () => {
    const wanted = wantedOf('new', 'poll');
    const polled = { ...RUNS, source: 'registry' };
    const record = (patch: Partial<AssignedAgentRecord> = {}) => {
      const { delivery } = agent();
      return agent({ delivery: { ...delivery!, delivery: 'poll' }, program: undefined, ...patch });
    };
    assert.equal(kindOf(record({ report: report(0n, [polled]) }), wanted), 'current');
    assert.equal(kindOf(record({ report: report(0n, [RUNS]) }), wanted), 'pending', 'it is from elsewhere');
    const pushed = record({ report: report(0n, [polled]), program: { generation: 1n, removing: true } });
    assert.equal(kindOf(pushed, wanted), 'pending', 'what was pushed before is still there');
    const taken = { ...record().delivery!, spec: undefined };
    const gone = (programs: StatusInit[]) =>
      standingOf('drop', record({ delivery: taken, report: report(0n, programs) }), undefined, undefined).kind;
    assert.deepEqual([gone([polled]), gone([RUNS]), gone([])], ['pending', 'current', 'current']);
  });
});
