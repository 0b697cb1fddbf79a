import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { AgentUsageSchema } from '#gen/longline/v1/agent_pb.js';
import { systemClock } from '../../src/core/clock.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { Heartbeat } from '../../src/link/heartbeat.ts';

async function waitsOf(periodMs: number, mostMs: number): Promise<number> {
  const ended = new AbortController();
  let waitedMs = 0;
  const sleep = async (ms: number) => {
    waitedMs = ms;
    ended.abort();
  };
  const report = { facts: () => assert.fail('no facts are wanted'), usage: async () => create(AgentUsageSchema) };
  const heartbeat = new Heartbeat(periodMs, mostMs, { clock: { ...systemClock, sleep }, report, log: silentLogger });
  await heartbeat.run(() => undefined, ended.signal);
  return waitedMs;
}

test('heartbeats are sent as often as agreed on, or more often if the host wants that', async () => {
  assert.equal(await waitsOf(15_000, 30_000), 15_000);
  assert.equal(await waitsOf(15_000, 5000), 5000);
});
