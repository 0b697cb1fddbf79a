// A short-lived client certificate: the agent renews it in time, proves the new one by a connection, drops the old one, and
// is online all along. A lapsed one needs a new token, and costs nothing but that.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';
import { OtlpReceiver } from '../fixtures/otlp-receiver.ts';
import { traceOf } from '../fixtures/seen-trace.ts';

const LOOK_EVERY_MS = 100;
const RENEW = 'longline.link.v1.EnrollmentService/Renew';

interface Index {
  readonly current: string;
  readonly candidate?: string;
}

const owned = new AsyncDisposableStack();
let receiver: OtlpReceiver;
let fleet: Fleet;
let agent: TestAgent;
before(async () => {
  receiver = owned.use(await OtlpReceiver.start());
  // A third of it is left for the renewal, on however slow a machine.
  const controllerArgs = ['--agent-certificate-lifetime', '20s'];
  fleet = owned.use(await startFleet({ controllerArgs, serviceEnvironment: receiver.environment() }));
  agent = await fleet.enrolled('short-lived');
});
after(async () => await owned[Symbol.asyncDispose]());

const index = async () => JSON.parse(await readFile(join(agent.dataFolder, 'identity', 'index.json'), 'utf8')) as Index;

test('a renewed certificate becomes the current one once a connection with it worked', async () => {
  const before = await index();
  const promoted = await fleet.until('the renewed certificate is current', async () => {
    await delay(LOOK_EVERY_MS);
    const now = await index();
    return now.current !== before.current && now.candidate === undefined ? now : undefined;
  });
  assert.notEqual(promoted.current, before.current);
  for (const said of [/certificate renewed/, /the certificate was renewed/]) {
    await agent.command.until(`${said}: the link moves by itself`, () => said.exec(agent.command.stderr)?.[0]);
  }
  await agent.online();
  const ends = ['agent', 'controller'].map((where) => [where, RENEW] as const);
  const trace = await traceOf(receiver, RENEW, ends);
  trace.chain(...ends);
  const [asked, answered] = ends.map((end) => trace.get(...end));
  assert.deepEqual([asked!.kind, asked!.parent, answered!.kind], ['SPAN_KIND_CLIENT', '', 'SPAN_KIND_SERVER']);
  for (const { attributes } of [asked!, answered!]) assert.equal(attributes['rpc.response.status_code'], 'OK');
  assert.equal(String(asked!.attributes['server.port']), new URL(fleet.url).port);
});

test('an agent whose certificate lapses while it runs says so; one that was off comes back with a new token and the same id', async () => {
  const away = await fleet.enrolled('away');
  await agent.stop();
  // Nobody renews anything from here on.
  await fleet.controller.stop('SIGKILL');
  const instanceId = await readFile(join(agent.dataFolder, 'instance-id'), 'utf8');
  const { current, candidate = current } = await index();
  const endings = [current, candidate].map(async (set) => {
    const chain = await readFile(join(agent.dataFolder, 'identity', set, 'chain.pem'));
    return new X509Certificate(chain).validToDate.getTime();
  });
  const endsAt = Math.max(...(await Promise.all(endings)));
  await fleet.until('the certificate has lapsed', async () => {
    await delay(LOOK_EVERY_MS);
    return Date.now() > endsAt ? true : undefined;
  });
  const told = await fleet.until('the agent that runs says so', async () => {
    const shown = await fleet.longline('status', '--data-dir', away.dataFolder, '--health');
    return shown.code === 1 ? shown.stdout.toString() : undefined;
  });
  assert.match(told, /^failed, ready for work\n/);
  assert.match(told, /failed +certificate +.*it lapsed at .*enrol the host anew/s);
  await away.stop();
  await fleet.startController();
  agent.start();
  const refused = await agent.command.outcome();
  assert.equal(refused.code, 4);
  assert.match(refused.stderr, /certificate ended at .*--token/);
  agent.start(['--token', await fleet.token()]);
  await agent.online();
  assert.equal(await readFile(join(agent.dataFolder, 'instance-id'), 'utf8'), instanceId);
});
