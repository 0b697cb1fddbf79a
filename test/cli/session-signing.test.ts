import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { create, fromBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { SessionRequest } from '#gen/longline/fleet/v1/session_service_pb.js';
import { SessionOperationState, SessionSchema, SessionState, SessionVerb } from '#gen/longline/v1/session_pb.js';
import { type SignedPayload, StatementSchema } from '#gen/longline/v1/signature_pb.js';
import { runCli, startFleet } from './fixtures.ts';

const ENDED = create(SessionSchema, {
  id: 'desk',
  agentId: 'web-1',
  generation: 4n,
  status: { state: SessionState.ENDED },
  operation: { id: 'op', verb: SessionVerb.STOP, state: SessionOperationState.SUCCEEDED },
});

function meant(signed: SignedPayload | undefined) {
  const statement = fromBinary(StatementSchema, signed!.payload);
  const action = statement.action?.action;
  assert.equal(action?.case, 'session');
  return { statement, action: action.case === 'session' ? action.value.action : undefined };
}

test('sessions are started and acted on by what the operator signed', async () => {
  const starts: SessionRequest[] = [];
  const signedActions: (SignedPayload | undefined)[] = [];
  await using fleet = await startFleet({
    sessions: {
      submitSession: ({ session }) => {
        starts.push(session!);
        return { session: ENDED };
      },
      getSession: ({ sessionId }) => {
        if (sessionId === 'desk') return { session: ENDED };
        throw new ConnectError('no session has this id', Code.NotFound);
      },
      stopSession: ({ signed }) => {
        signedActions.push(signed);
        return { session: ENDED };
      },
      wakeSession: ({ signed }) => {
        signedActions.push(signed);
        return { session: ENDED };
      },
    },
  });
  const env = { LONGLINE_CONTEXT: fleet.contextPath };
  const key = join(fleet.folder, 'ops.key');
  assert.equal((await runCli(['key', 'generate', '--out', key, '--key-id', 'ops'], { env })).code, 0);
  const cli = (...argv: string[]) =>
    runCli(['session', ...argv, '--sign-key', key, '--controller-id', 'main'], { env });

  const where = ['start', '--agent', 'web-1', '--image', 'x:1', '-e', 'B=2', '-e', 'A=1'];
  assert.equal((await cli(...where, '--id', 'desk', '-d')).code, 0);
  const { statement, action } = meant(starts[0]?.signed);
  assert.equal(statement.controllerId, 'main');
  assert.deepEqual(statement.audience?.agentIds, ['web-1']);
  const start = action?.case === 'start' ? action.value : undefined;
  assert.equal(start?.generation, 5n);
  assert.equal(start.spec?.image, 'x:1');
  assert.equal(starts[0]?.spec, undefined);
  assert.equal(starts[0]?.signed?.signatures[0]?.keyId, 'ops');
  await cli('start', '--agent', 'web-1', '--image', 'x:1', '-e', 'A=1', '-e', 'B=2', '--id', 'other', '-d');
  const again = meant(starts[1]?.signed).action;
  const second = again?.case === 'start' ? again.value : undefined;
  assert.equal(second?.generation, 1n);
  assert.deepEqual(Buffer.from(second.specHash), Buffer.from(start.specHash));

  const unsigned = await runCli(['session', 'stop', 'desk'], { env });
  assert.equal(unsigned.code, 0, unsigned.err);
  assert.equal(signedActions[0], undefined);
  assert.equal((await cli('stop', 'desk', '--remove-volumes')).code, 0);
  const stop = meant(signedActions[1]).action;
  assert.deepEqual(stop?.case === 'stop' && [stop.value.sessionId, stop.value.removeVolumes], ['desk', true]);
  await cli('wake', 'desk');
  assert.equal(meant(signedActions[2]).action?.case, 'wake');
  assert.match((await cli(...where, '--template', 'desktop')).err, /what is signed must be whole/);
});
