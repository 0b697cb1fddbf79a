import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { create, fromBinary, fromJson, type MessageInitShape, toBinary, toJson } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  ProgramDesiredStateSchema,
  ProgramMetadataSchema,
  ProgramParameterType,
  ProgramSpecSchema,
  ProgramType,
} from '#gen/longline/v1/program_pb.js';
import { orderOf } from '../../../src/capabilities/programs/order.ts';
import { shapeProgram } from '../../../src/controller/services/program-methods.ts';
import { PROGRAM_STATE } from '../../../src/controller/states/program-state-body.ts';
import type { Store } from '../../../src/controller/store/store.ts';

type SpecInit = MessageInitShape<typeof ProgramSpecSchema> & { readonly $typeName?: never };

const UINT = ProgramParameterType.UINT;
const METADATA = toBinary(
  ProgramMetadataSchema,
  create(ProgramMetadataSchema, {
    name: 'drop',
    version: '1.0.0',
    objectSha256: '0'.repeat(64),
    objectSize: 1n,
    functions: [
      { name: 'count', type: ProgramType.XDP, attach: ['xdp:eth0'] },
      { name: 'other', type: ProgramType.XDP },
    ],
    parameters: ['limit', 'burst', 'a'].map((name) => ({
      name,
      type: UINT,
      target: { case: 'variable' as const, value: name },
    })),
  }),
);
const STORE = { artifacts: { get: async () => ({ metadata: METADATA }) } } as unknown as Pick<Store, 'artifacts'>;

const SPECS: readonly SpecInit[] = [
  {},
  { attach: ['count@xdp:eth1', 'other@xdp:eth0:auto', 'count@xdp:eth2:generic'] },
  { parameters: { limit: '100', burst: '0x10', a: '1' } },
  { ttl: durationFromMs(0) },
  { ttl: durationFromMs(90_500), renewal: 7n },
  { thresholds: { maxErrors: 0n, maxCpuPercent: 12.5, minRuns: 10n } },
  { thresholds: {} },
];

describe('the spec that an agent names as wanted', () => {
  it('is told by the digest of what the controller wants, pushed and polled', async () => {
    for (const init of SPECS) {
      const asked = create(ProgramSpecSchema, { name: 'drop', artifact: `sha256:${'1'.repeat(64)}`, ...init });
      const shaped = await shapeProgram(STORE, asked, 'spec');
      const expected = createHash('sha256').update(toBinary(ProgramSpecSchema, shaped)).digest('hex');
      const body = PROGRAM_STATE.encode(create(ProgramDesiredStateSchema, { programs: [shaped] }));
      const [pushed] = fromBinary(ProgramDesiredStateSchema, body).programs;
      assert.equal(orderOf('controller', pushed!).whole, expected, JSON.stringify(toJson(ProgramSpecSchema, shaped)));
      const polled = fromJson(ProgramSpecSchema, JSON.parse(JSON.stringify(toJson(ProgramSpecSchema, shaped))));
      assert.equal(orderOf('registry', polled).whole, expected);
    }
  });
});
