// The identity of a replica that stands by, against a real controller: enrolled before there is need of it, renewed when that is
// due and not before, over and over without ever having been linked; and refused once it is revoked, while another's goes on.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { AgentService } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { tendIdentity } from '../../src/agent/assembly.ts';
import { agentConfig } from '../../src/agent/config.ts';
import { FolderInUse, openDataFolder } from '../../src/agent/data-folder.ts';
import { LiveSettings } from '../../src/agent/live-settings.ts';
import { openRules } from '../../src/agent/rules.ts';
import { type Controller, runController } from '../../src/controller/controller.ts';
import { systemClock } from '../../src/core/clock.ts';
import { configError, resolveConfig } from '../../src/core/config/resolve.ts';
import { noTracer } from '../../src/core/tracer.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { withConnect } from '../controller/front/agent-client.ts';

const ID = 'host-1';
const HOUR_MS = 3_600_000;

let base: string;
let controller: Controller;
let context: { readonly url: string; readonly token: string; readonly ca: string };
before(async () => {
  base = await mkdtemp(join(tmpdir(), 'longline-standby-'));
  controller = await runController({ dataDir: join(base, 'controller'), listen: '127.0.0.1:0', logLevel: 'silent' });
  context = JSON.parse(await readFile(controller.contextPath, 'utf8'));
});
after(async () => {
  await controller?.[Symbol.asyncDispose]();
  await rm(base, { recursive: true, force: true });
});

const newToken = async (request: { agentId: string; uses: number }) => {
  const made = await withConnect(context, TokenService, (c) => c.createEnrollmentToken(request), context.token);
  return made.token;
};

/** Serial numbers that the controller takes from the replica of this instance, oldest first. */
async function accepted(instanceId: string): Promise<readonly string[]> {
  const got = await withConnect(context, AgentService, (c) => c.getAgent({ agentId: ID }), context.token);
  return got.certificates.filter((one) => one.instanceId === instanceId).map(({ serial }) => serial);
}

interface Index {
  readonly current: string;
  readonly candidate?: string;
}

/** A replica that stands by, with a clock of its own. */
class Standby {
  readonly folder: string;
  skewMs = 0;
  readonly #clock = { ...systemClock, now: () => Date.now() + this.skewMs };

  constructor(name: string) {
    this.folder = join(base, name);
  }

  /** What a standby does now and then, in a process that opens its folder for it. */
  async tend(settings: Readonly<Record<string, string>> = {}): Promise<number | undefined> {
    const text = `controller = "${context.url}"\nagent_id = "${ID}"\ndata_dir = "${this.folder}"\n`;
    const env = Object.fromEntries(Object.entries(settings).map(([name, value]) => [`LONGLINE_${name}`, value]));
    const resolved = resolveConfig(agentConfig, { env, file: { path: 'agent.toml', text }, readSecret: () => '' });
    if (!resolved.ok) throw configError(resolved.problems);
    const { config } = resolved;
    await using stack = new AsyncDisposableStack();
    const folder = stack.use(await openDataFolder(config.dataDir));
    const live = new LiveSettings(
      config,
      async () => config,
      () => undefined,
    );
    const log = createLogger({ level: 'silent', name: 'agent' });
    const { jobs } = live;
    const means = { clock: this.#clock, log, levels: log, tracer: noTracer, environment: {} };
    const rules = await openRules(config, folder, jobs);
    const foundation = { config, settings: live, folder, jobs, leadership: { epoch: 0n }, ...means, ...rules };
    return await tendIdentity(foundation, AbortSignal.timeout(30_000));
  }

  async instanceId(): Promise<string> {
    return (await readFile(join(this.folder, 'instance-id'), 'utf8')).trim();
  }

  async index(): Promise<Index> {
    return JSON.parse(await readFile(join(this.folder, 'identity', 'index.json'), 'utf8'));
  }
}

test('a standby enrols, renews when that is due, and its next renewal proves the one before', async () => {
  const standby = new Standby('renewed');
  const dueInMs = await standby.tend({ TOKEN: await newToken({ agentId: ID, uses: 1 }) });
  assert.ok(dueInMs! > 15.9 * HOUR_MS && dueInMs! <= 16 * HOUR_MS, `${dueInMs}`);
  const instanceId = await standby.instanceId();
  const [first] = await accepted(instanceId);
  const { current } = await standby.index();
  assert.ok((await standby.tend())! > 15.9 * HOUR_MS);
  assert.deepEqual(await accepted(instanceId), [first]);

  standby.skewMs = 15.9 * HOUR_MS;
  assert.ok((await standby.tend())! < 0.2 * HOUR_MS);
  assert.deepEqual(await accepted(instanceId), [first]);

  standby.skewMs = 16.1 * HOUR_MS;
  // Its certificate came just now, by the clock of the machine.
  assert.ok((await standby.tend())! <= 0);
  const once = await accepted(instanceId);
  assert.equal(once.length, 2);
  const renewed = await standby.index();
  assert.equal(renewed.current, current);
  assert.ok(renewed.candidate);

  await standby.tend();
  assert.equal((await accepted(instanceId)).length, 3);
  const again = await standby.index();
  assert.equal(again.current, renewed.candidate);
  assert.notEqual(again.candidate, renewed.candidate);
  const sets = (await readdir(join(standby.folder, 'identity'))).filter((name) => name !== 'index.json');
  assert.deepEqual(sets.toSorted(), [again.current, again.candidate].toSorted());
});

test('a revoked standby is refused its renewal, and another goes on', async () => {
  const [one, other] = [new Standby('one'), new Standby('other')];
  const token = await newToken({ agentId: ID, uses: 2 });
  for (const standby of [one, other]) await standby.tend({ TOKEN: token });
  const [instanceId, kept] = [await one.instanceId(), await other.instanceId()];
  await withConnect(context, AgentService, (c) => c.revokeAgent({ agentId: ID, instanceId }), context.token);
  for (const standby of [one, other]) standby.skewMs = 17 * HOUR_MS;
  await assert.rejects(one.tend(), { reason: 'identity', message: /serial [0-9a-f]+ is no longer accepted/ });
  await assert.rejects(one.tend({ TOKEN: token }), { reason: 'identity' });
  await other.tend();
  assert.deepEqual([(await accepted(instanceId)).length, (await accepted(kept)).length], [0, 2]);
});

test('with an API key there is nothing to renew, and a folder that the leader has is left alone', async () => {
  const keyed = new Standby('keyed');
  assert.equal(await keyed.tend({ API_KEY: 'a1'.repeat(32) }), undefined);
  const shared = new Standby('shared');
  using _ = await openDataFolder(shared.folder);
  await assert.rejects(shared.tend(), FolderInUse);
});
