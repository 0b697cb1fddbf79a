// The local API of a real agent: what it says while it starts, while it works, and when something breaks under it.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdir, statfs } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type Fleet, startFleet, type TestAgent } from '../fixtures/fleet.ts';

const run = promisify(execFile);
const BUF = join(import.meta.dirname, '../../node_modules/.bin/buf');

interface Check {
  readonly name: string;
  readonly state: string;
  readonly reason: string;
  readonly mend: string;
}

interface Health {
  readonly status: string;
  readonly checks: readonly Check[];
}

let fleet: Fleet;
before(async () => {
  fleet = await startFleet();
});
after(async () => await fleet[Symbol.asyncDispose]());

const httpSocket = (agent: TestAgent) => join(fleet.folder, `${agent.id}.http`);

/** Undefined while nobody listens. */
async function get<T>(agent: TestAgent, path: string): Promise<{ status: number; json: T } | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; json: T } | undefined>();
  request({ socketPath: httpSocket(agent), path }, (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () => {
      const text = Buffer.concat(chunks).toString();
      resolve({ status: response.statusCode!, json: JSON.parse(text) as T });
    });
  })
    .on('error', () => resolve(undefined))
    .end();
  return await promise;
}

async function untilHealth(agent: TestAgent, what: string, good: (health: Health, status: number) => boolean) {
  return await fleet.until(
    what,
    async () => {
      const answer = await get<Health>(agent, '/healthz');
      return answer !== undefined && good(answer.json, answer.status) ? answer.json : undefined;
    },
    () => agent.command.stderr,
  );
}

const checkOf = ({ checks }: Health, name: string) => checks.find((one) => one.name === name)!;

describe('local API of an agent', () => {
  let agent: TestAgent;
  before(async () => {
    agent = fleet.agent('local-1', ['--http-socket', join(fleet.folder, 'local-1.http'), '--health-link-away', '1s']);
    agent.start(['--token', await fleet.token()]);
    await agent.online();
  });

  it('tells health with each check, readiness and status on a unix socket', async () => {
    const health = await untilHealth(agent, 'health', ({ checks }) =>
      checks.every(({ reason }) => reason !== 'not opened yet'),
    );
    assert.equal(health.status, 'degraded', 'this host has no engine');
    const names = health.checks.map(({ name }) => name);
    const expected = ['event_loop', 'tasks', 'data_folder', 'journal', 'audit', 'spool', 'link', 'certificate'];
    assert.deepEqual(names, [...expected, 'jobs', 'sessions', 'network', 'programs']);
    assert.equal(checkOf(health, 'link').state, 'ok');
    assert.match(checkOf(health, 'jobs').reason, /^unavailable: /);
    assert.notEqual(checkOf(health, 'jobs').mend, '');
    assert.deepEqual(await get(agent, '/readyz'), { status: 200, json: { ready: true } });
    assert.equal((await get(agent, '/livez'))!.status, 200);
    const status = (await get<Record<string, unknown>>(agent, '/status'))!.json;
    assert.deepEqual([status['agentId'], status['linkState'], status['artifacts']], ['local-1', 'open', []]);
  });

  it('is found by generic gRPC tools, and by longline itself', async () => {
    const socket = join(agent.dataFolder, 'agent.sock');
    const common = ['curl', '--protocol', 'grpc', '--http2-prior-knowledge', '--unix-socket', socket, '--data', '{}'];
    const { stdout } = await run(BUF, [...common, 'http://localhost/longline.local.v1.LocalService/GetHealth']);
    const answer = JSON.parse(stdout) as { state: string; ready: boolean };
    assert.deepEqual([answer.state, answer.ready], ['HEALTH_STATE_DEGRADED', true]);
    const shown = await fleet.longline('status', '--data-dir', agent.dataFolder, '--health');
    assert.equal(shown.code, 0, shown.stderr);
    assert.match(shown.stdout.toString(), /^degraded, ready for work\nok +event_loop/);
    const doctor = await fleet.longline('doctor', '--data-dir', agent.dataFolder, '--json');
    const found = doctor.json<{ name: string; status: string }[]>().filter(({ name }) => name.startsWith('agent: '));
    assert.ok(found.some(({ name, status }) => name === 'agent: data folder' && status === 'ok'));
  });

  it('changes what is logged while it runs, by part, until settings are read anew', async () => {
    const level = async (...args: string[]) => {
      const told = await fleet.longline('agent', '--data-dir', agent.dataFolder, 'log-level', ...args, '--json');
      assert.equal(told.code, 0, told.stderr);
      return told.json<{ level: string; parts: Record<string, string> }>();
    };
    assert.deepEqual(await level('debug', '--part', 'link'), { level: 'info', parts: { link: 'debug' } });
    assert.deepEqual(await level('warn'), { level: 'warn', parts: { link: 'debug' } });
    const refused = await fleet.longline('agent', '--data-dir', agent.dataFolder, 'log-level', 'loud');
    assert.equal(refused.code, 2, refused.stderr);
    assert.match(refused.stderr, /"loud"; it must be one of debug, info, warn, error/);
    agent.command.process.kill('SIGHUP');
    await agent.command.until('the reload', () => (agent.command.stderr.includes('read anew') ? true : undefined));
    assert.deepEqual(await level('default', '--part', 'link'), { level: 'info', parts: {} });
  });

  it('tells that the controller is away, and is well all the same', async () => {
    await fleet.controller.stop('SIGKILL');
    const health = await untilHealth(agent, 'link away', (now) => checkOf(now, 'link').state === 'degraded');
    assert.match(checkOf(health, 'link').reason, /not open for /);
    assert.equal((await get(agent, '/healthz'))!.status, 200);
    assert.equal((await get(agent, '/livez'))!.status, 200);
    await fleet.startController();
    await untilHealth(agent, 'link back', (now) => checkOf(now, 'link').state === 'ok');
  });

  it('answers while it starts: unready, and no worse', async () => {
    const late = fleet.agent('local-2', [
      '--http-socket',
      join(fleet.folder, 'local-2.http'),
      '--api-key',
      'a'.repeat(64),
    ]);
    late.start();
    const first = await fleet.until('an answer', async () => await get<{ reason: string }>(late, '/readyz'));
    assert.equal(first.status, 503);
    assert.match(first.json.reason, /starting|not open yet/);
    const { status } = (await get<Health>(late, '/healthz'))!;
    assert.equal(status, 200);
    await late.stop();
  });
});

const mountable = process.getuid?.() === 0 ? false : 'needs root, to mount a small disk';

describe('an agent whose disk is full', { skip: mountable }, () => {
  it('fails its health with the reason, and is well again once there is room', async () => {
    const folder = join(fleet.folder, 'agent-local-3');
    await mkdir(folder);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m,mode=0700', 'longline-test', folder]);
    try {
      const args = ['--http-socket', join(fleet.folder, 'local-3.http'), '--spool-min-free', '4MiB'];
      const agent = await fleet.enrolled('local-3', [...args, '--spool-max-bytes', '8MiB', '--spool-segment', '1MiB']);
      await untilHealth(agent, 'room', (health) => checkOf(health, 'data_folder').state === 'ok');
      const { bavail, bsize } = await statfs(folder);
      execFileSync('fallocate', ['-l', String(bavail * bsize - 2 * 1024 ** 2), join(folder, 'ballast')]);
      const full = await untilHealth(agent, 'full', (_health, status) => status === 503);
      assert.equal(full.status, 'failed');
      assert.match(checkOf(full, 'data_folder').reason, /new commands need 4 MiB/);
      const shown = await fleet.longline('status', '--data-dir', folder, '--health');
      assert.equal(shown.code, 1);
      execFileSync('rm', [join(folder, 'ballast')]);
      await untilHealth(agent, 'room again', (_health, status) => status === 200);
      await agent.stop();
    } finally {
      execFileSync('umount', ['-l', folder]);
    }
  });
});
