import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { CommandSchema } from '#gen/longline/link/v1/link_pb.js';
import { DiskGuard } from '../../src/agent/disk-guard.ts';
import { systemClock } from '../../src/core/clock.ts';
import type { AdmittedCommand, CommandAdmission } from '../../src/link/ports.ts';

const ADMITTED: AdmittedCommand = {
  capability: 'jobs',
  action: new Uint8Array(),
  nonce: new Uint8Array(),
  nonceExpiresAtMs: 0,
  recorded: Promise.resolve(),
};
const COMMAND = create(CommandSchema, { id: 'c1' });
const unseen = () => false;

function inner() {
  const refusals: string[] = [];
  const admission: CommandAdmission = {
    admit: async () => ADMITTED,
    refused: (command, error) => refusals.push(`${command.id} ${error.reason}`),
  };
  return { admission, refusals };
}

test('a nearly full disk refuses commands with the figures, and the refusal is put on record', async () => {
  const { admission, refusals } = inner();
  const guard = new DiskGuard(admission, tmpdir(), 2 ** 60, systemClock);
  await assert.rejects(guard.admit(COMMAND, unseen), {
    reason: 'limit',
    message: /\d+ MiB are free in .*new commands need 1099511627776 MiB \(spool\.min_free\)/,
  });
  assert.deepEqual(refusals, ['c1 limit']);
});

test('with room enough the command goes on to admission', async () => {
  const { admission, refusals } = inner();
  assert.equal(await new DiskGuard(admission, tmpdir(), 0, systemClock).admit(COMMAND, unseen), ADMITTED);
  assert.deepEqual(refusals, []);
});
