// A short-lived client certificate: the agent renews it in time, proves the new one by a connection, drops the old one, and
// is online all along. A lapsed one needs a new token, and costs nothing but that.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';

interface Index {
  readonly current: string;
  readonly candidate?: string;
}

let fleet: Fleet;
let agent: TestAgent;
before(async () => {
  fleet = await startFleet({ controllerArgs: ['--agent-certificate-lifetime', '10s'] });
  agent = await fleet.enrolled('short-lived');
});
after(() => fleet?.[Symbol.asyncDispose]());

const index = async () => JSON.parse(await readFile(join(agent.dataFolder, 'identity', 'index.json'), 'utf8')) as Index;

test('a renewed certificate becomes the current one once a connection with it worked', async () => {
  const before = await index();
  const promoted = await fleet.until('the renewed certificate is current', async () => {
    const now = await index();
    return now.current !== before.current && now.candidate === undefined ? now : undefined;
  });
  assert.notEqual(promoted.current, before.current);
  assert.match(agent.command.stderr, /certificate renewed/);
  assert.match(agent.command.stderr, /the certificate was renewed/, 'the link moved to it by itself');
  await agent.online();
});

test('an agent that was off for longer than its certificate lives comes back with a new token and the same id', async () => {
  await agent.stop();
  const instanceId = await readFile(join(agent.dataFolder, 'instance-id'), 'utf8');
  const chain = join(agent.dataFolder, 'identity', (await index()).current, 'chain.pem');
  const endsAt = new X509Certificate(await readFile(chain)).validToDate.getTime();
  await fleet.until('the certificate has lapsed', async () => {
    await fleet.longline('version');
    return Date.now() > endsAt ? true : undefined;
  });
  agent.start();
  const refused = await agent.command.outcome();
  assert.equal(refused.code, 4);
  assert.match(refused.stderr, /certificate ended at .*--token/);
  agent.start(['--token', await fleet.token()]);
  await agent.online();
  assert.equal(await readFile(join(agent.dataFolder, 'instance-id'), 'utf8'), instanceId);
});
