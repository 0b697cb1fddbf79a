import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  type ControllerMessage,
  ControllerMessageSchema,
  type DesiredState,
  DesiredStateKind,
  DesiredStateSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { LonglineError } from '../../src/core/errors.ts';
import { decodeControllerMessage, observedReport, reportDigest } from '../../src/link/state-wire.ts';
import { encodeAgentMessage } from '../../src/link/wire.ts';

const NOTHING = new Uint8Array();

function stateBytes(...states: readonly DesiredState[]): Uint8Array {
  return Buffer.concat(
    states.map((value) =>
      toBinary(ControllerMessageSchema, create(ControllerMessageSchema, { message: { case: 'desiredState', value } })),
    ),
  );
}

function state(names: readonly string[]): DesiredState {
  const value = { networks: names.map((name) => ({ name })) };
  return create(DesiredStateSchema, {
    kind: DesiredStateKind.NETWORK,
    generation: 1n,
    body: { case: 'network', value },
  });
}

describe('a desired state on the wire', () => {
  it('comes with the bytes of its body, if it has one', () => {
    const body = (bytes: Uint8Array) => decodeControllerMessage(bytes).stateBody;
    assert.equal(Buffer.from(body(stateBytes(state(['a'])))!).toString('hex'), '0a030a0161');
    assert.equal(body(stateBytes(state([])))?.length, 0);
    assert.equal(body(stateBytes(create(DesiredStateSchema, { generation: 1n }))), undefined);
  });

  it('has no bytes of its own if its parts would be merged', () => {
    assert.equal(decodeControllerMessage(stateBytes(state(['a']), state(['b']))).stateBody, undefined);
    const body = (name: string) => toBinary(DesiredStateSchema, state([name]));
    const twice = Buffer.concat([body('a'), body('b')]);
    const framed = Buffer.concat([Buffer.of(0x22, twice.length), twice]);
    const decoded = decodeControllerMessage(framed);
    const { message } = decoded as ControllerMessage;
    assert.equal(message.case === 'desiredState' && message.value.body.case, 'network');
    assert.equal(decoded.stateBody, undefined);
  });
});

describe('a report of a desired state', () => {
  it('tells so many items as fit into a message', () => {
    const error = new LonglineError('invalid', 'x'.repeat(10_000), {
      violations: [{ field: 'f', description: 'y'.repeat(5000) }],
    });
    const items = Array.from({ length: 70_000 }, (_, place) => ({ item: `${place}`.padEnd(1000, '.'), error }));
    const report = observedReport('network', { generation: 1n, digest: NOTHING, items, detail: NOTHING });
    assert.equal(report.items.length, 500);
    const message = { $typeName: 'longline.link.v1.AgentMessage', message: { case: 'stateReport', value: report } };
    assert.ok(encodeAgentMessage(message as never).length < 1024 * 1024);
  });

  it('is named by what it says', () => {
    const report = (generation: bigint) =>
      observedReport('network', { generation, digest: NOTHING, items: [], detail: NOTHING });
    assert.deepEqual(reportDigest(report(1n)), reportDigest(report(1n)));
    assert.notDeepEqual(reportDigest(report(1n)), reportDigest(report(2n)));
  });
});
