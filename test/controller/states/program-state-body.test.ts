import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { type ProgramDesiredState, ProgramDesiredStateSchema } from '#gen/longline/v1/program_pb.js';
import { PROGRAM_STATE, programSpecBytes } from '../../../src/controller/states/program-state-body.ts';
import { STATE_BODIES } from '../../../src/controller/states/state-bodies.ts';
import { LonglineError } from '../../../src/core/errors.ts';

const state = (...programs: NonNullable<MessageInitShape<typeof ProgramDesiredStateSchema>['programs']>) =>
  create(ProgramDesiredStateSchema, { programs });

const names = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 4 });
const states: fc.Arbitrary<ProgramDesiredState> = names.chain((chosen) =>
  fc
    .tuple(
      ...chosen.map((name) =>
        fc.record({
          name: fc.constant(name),
          artifact: fc.constantFrom('sha256:1', 'sha256:2'),
          attach: fc.subarray(['xdp:eth0', 'tc:eth0:ingress']),
          parameters: fc.dictionary(fc.constantFrom('x', 'y', 'z'), fc.constantFrom('1', '2'), {
            noNullPrototype: true,
          }),
          renewal: fc.bigInt({ min: 0n, max: 2n }),
        }),
      ),
    )
    .map((programs) => state(...programs)),
);

describe('a desired state of programs', () => {
  it('has one form, in the order of names, however it was put together', () => {
    const one = state(
      { name: 'b', parameters: { y: '2', x: '1' }, attach: ['xdp:eth1', 'xdp:eth0'] },
      { name: 'a', renewal: 1n },
    );
    const other = state(
      { name: 'a', renewal: 1n },
      { name: 'b', parameters: { x: '1', y: '2' }, attach: ['xdp:eth1', 'xdp:eth0'] },
    );
    assert.deepEqual(PROGRAM_STATE.encode(one), PROGRAM_STATE.encode(other));
    assert.deepEqual(programSpecBytes(one.programs[0]!), programSpecBytes(other.programs[1]!));
    const swapped = state({ name: 'a', attach: ['xdp:eth0', 'xdp:eth1'] });
    assert.notDeepEqual(
      PROGRAM_STATE.encode(swapped),
      PROGRAM_STATE.encode(state({ name: 'a', attach: ['xdp:eth1', 'xdp:eth0'] })),
      'places stay in the order they came',
    );
    assert.equal(STATE_BODIES.get(PROGRAM_STATE.kind), PROGRAM_STATE);
  });

  it('is what a delta makes of any other', () => {
    fc.assert(
      fc.property(states, states, (from, to) => {
        const delta = PROGRAM_STATE.decode(PROGRAM_STATE.encodeDelta(PROGRAM_STATE.diff(from, to)));
        assert.deepEqual(PROGRAM_STATE.encode(PROGRAM_STATE.apply(from, delta)), PROGRAM_STATE.encode(to));
        for (const program of delta.programs) {
          const before = from.programs.find(({ name }) => name === program.name);
          assert.ok(before === undefined || Buffer.compare(programSpecBytes(before), programSpecBytes(program)) !== 0);
        }
      }),
    );
  });

  it('refuses a delta that names a program twice', () => {
    assert.throws(
      () => PROGRAM_STATE.apply(state(), state({ name: 'a' }, { name: 'a' })),
      (error: unknown) => error instanceof LonglineError && error.reason === 'invalid',
    );
  });

  it('is permitted by a signed action of its own', () => {
    const permit = { generation: 3n, baseGeneration: 2n, bodySha256: new Uint8Array(32) };
    const action = PROGRAM_STATE.permit(permit)!.action;
    assert.ok(action.case === 'program' && action.value.action.case === 'permit');
    assert.equal(action.value.action.value.generation, 3n);
  });
});
