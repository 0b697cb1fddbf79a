// How an agent and a controller end and read their settings anew: in order, by force where something hangs, and never from a bad file.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Health } from '#gen/health/v1/health_pb.js';
import { formatEnrollmentToken } from '../../src/core/enrollment-token.ts';
import { withConnect } from '../controller/front/agent-client.ts';
import { RunningCommand, runCommand } from '../fixtures/command.ts';

interface AdminContext {
  readonly url: string;
  readonly ca: string;
  readonly token: string;
}

const NOBODY = 'https://127.0.0.1:9';
const API_KEY = ['--api-key', 'a'.repeat(64)];
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-end-'));
});
after(async () => await rm(folder, { recursive: true, force: true }));

const env = () => ({ PATH: process.env['PATH'], HOME: folder, NO_COLOR: '1', LONGLINE_HTTP_PORT: '0' });
const dataOf = (id: string) => join(folder, id);

function agent(id: string, ...args: readonly string[]): RunningCommand {
  const engine = ['--docker-host', `unix://${folder}/no-engine.sock`];
  const link = ['--controller', NOBODY];
  return new RunningCommand(['agent', '--data-dir', dataOf(id), '--agent-id', id, ...engine, ...link, ...args], env());
}

const logged = async (one: RunningCommand, text: string) =>
  await one.until(text, () => (one.stderr.includes(text) ? true : undefined));

/** An agent whose link hangs where nothing can interrupt it: in opening a pipe that nobody writes to. */
async function hanging(id: string, ...args: readonly string[]): Promise<RunningCommand> {
  const pipe = join(folder, `${id}.pem`);
  execFileSync('mkfifo', [pipe]);
  const one = agent(id, ...API_KEY, '--ca-file', pipe, ...args);
  await logged(one, 'agent is running');
  return one;
}

async function controller(id: string, ...args: readonly string[]): Promise<RunningCommand> {
  const fixed = ['controller', '--data-dir', dataOf(id), '--listen', '127.0.0.1:0'];
  const one = new RunningCommand([...fixed, ...args], env());
  await one.until('ready', () => (one.stdout.includes('"ready"') ? true : undefined));
  return one;
}

describe('the end of an agent', { concurrency: true }, () => {
  it('is in order at SIGTERM: code 0, and its sockets are gone', async () => {
    const http = join(folder, 'order.http');
    await using one = agent('order', ...API_KEY, '--http-socket', http);
    await logged(one, 'agent is running');
    assert.ok(existsSync(http) && existsSync(join(dataOf('order'), 'agent.sock')));
    const { code, stderr } = await one.stop();
    assert.equal(code, 0, stderr);
    assert.match(stderr, /agent is stopping; what runs goes on/);
    assert.ok(!existsSync(http) && !existsSync(join(dataOf('order'), 'agent.sock')));
  });

  it('is in order while it starts too, which a SIGHUP does not end', async () => {
    const token = formatEnrollmentToken({ secret: 'a'.repeat(32), caSha256: new Uint8Array(32) });
    await using one = agent('early', '--token', token);
    await logged(one, 'enrol');
    one.process.kill('SIGHUP');
    const { code, stderr } = await one.stop();
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, /agent is running/);
  });

  it('is by force after the limit, even where an exit would hang; a SIGHUP changes nothing of that', async () => {
    await using one = await hanging('late', '--shutdown-limit', '1s');
    one.process.kill('SIGTERM');
    await logged(one, 'told to stop');
    one.process.kill('SIGHUP');
    const { signal, stderr } = await one.outcome();
    assert.equal(signal, 'SIGKILL', stderr);
    assert.match(stderr, /did not end in order within 1s \(shutdown\.limit\)/);
  });

  for (const [first, second, expected] of [
    ['SIGTERM', 'SIGTERM', 143],
    ['SIGTERM', 'SIGINT', 130],
  ] as const) {
    it(`is at once when ${second} follows on ${first}, with code ${expected}, even where an exit would hang`, async () => {
      await using one = await hanging(`twice-${expected}`);
      one.process.kill(first);
      await logged(one, 'told to stop');
      assert.equal((await one.stop(second)).code, expected);
    });
  }
});

/** Begins a call that goes on until the controller ends it. Resolves once it is under way. */
async function watchHealth(id: string): Promise<void> {
  const context = JSON.parse(await readFile(join(dataOf(id), 'context.json'), 'utf8')) as AdminContext;
  const begun = Promise.withResolvers<void>();
  const call = withConnect(
    context,
    Health,
    async (client) => {
      for await (const _ of client.watch({})) begun.resolve();
    },
    context.token,
  );
  // How it ends is not looked at.
  call.catch(() => undefined);
  await begun.promise;
}

describe('the end of a controller', () => {
  it('waits for calls; a SIGHUP does not end that, and a second signal does at once, with its code', async () => {
    await using one = await controller('drained', '--drain-window', '10m');
    await watchHealth('drained');
    one.process.kill('SIGTERM');
    await logged(one, 'controller is stopping');
    one.process.kill('SIGHUP');
    assert.equal((await one.stop('SIGTERM')).code, 143);
  });
});

describe('settings read anew', () => {
  it('are refused by an agent as a whole if any is bad, and it goes on', async () => {
    const file = join(folder, 'agent.toml');
    await writeFile(file, 'log_level = "info"\n');
    await using one = agent('anew', ...API_KEY, '--config', file);
    await logged(one, 'agent is running');
    await writeFile(file, 'log_level = "debug"\nlog_parts = { link = "loud" }\n');
    one.process.kill('SIGHUP');
    await logged(one, 'reload refused; all stays as it was');
    assert.match(one.stderr, /log_parts/);
    await writeFile(file, 'log_level = "warn"\nlog_parts = { link = "debug" }\nregion = "eu"\n');
    one.process.kill('SIGHUP');
    await logged(one, 'a changed setting keeps its old value');
    assert.match(one.stderr, /"key":"region","value":"\\"eu\\""/);
    const { code, stdout } = await runCommand(['status', '--data-dir', dataOf('anew'), '--json'], env());
    assert.equal(code, 0, stdout.toString());
    assert.equal((await one.stop()).code, 0);
  });

  it('are refused by a controller as a whole if any is bad; then it takes over what it can and names the rest', async () => {
    const file = join(folder, 'controller.toml');
    const write = async (level: string, heartbeat: string, events: number) =>
      await writeFile(file, `log_level = "${level}"\nheartbeat = "${heartbeat}"\n[keep]\nevents = ${events}\n`);
    await write('info', '15s', 500);
    await using one = await controller('controller', '--config', file);
    await write('info', '15s', 0);
    one.process.kill('SIGHUP');
    await logged(one, 'reload refused; all stays as it was');
    assert.match(one.stderr, /keep\.events: 0 .*allowed: 1 to 100000/);
    await write('info', '20s', 600);
    one.process.kill('SIGHUP');
    await logged(one, 'settings were read anew');
    assert.match(one.stderr, /"settings":\["keep\.events"\]/);
    assert.match(one.stderr, /"key":"heartbeat","value":"\\"20s\\"","reason":"it takes effect at the next start/);
    await write('warn', '20s', 600);
    const before = one.stderr.length;
    one.process.kill('SIGHUP');
    await one.until('it again', () => (one.stderr.includes('keeps its old value', before) ? true : undefined));
    const stopped = await one.stop();
    assert.equal(stopped.code, 0);
    assert.doesNotMatch(stopped.stderr.slice(before), /"level":"info"/, 'the new level holds at once');
  });
});
