// How an agent and a controller end and read their settings anew: in order, by force where something hangs, and never from a bad file.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Health, HealthCheckResponse_ServingStatus } from '#gen/health/v1/health_pb.js';
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
/** Ends of pipes that nobody writes to. */
const held: number[] = [];
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-end-'));
});
after(async () => {
  for (const descriptor of held) closeSync(descriptor);
  await rm(folder, { recursive: true, force: true });
});

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

/** What `/readyz` says on the socket of an agent. */
async function readiness(socketPath: string): Promise<{ readonly status: number; readonly text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const asked = request({ socketPath, path: '/readyz' }, (response) => {
    text(response).then((body) => resolve({ status: response.statusCode!, text: body }), reject);
  });
  asked.on('error', reject).end();
  return await promise;
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
      const http = join(folder, `twice-${expected}.http`);
      await using one = await hanging(`twice-${expected}`, '--http-socket', http);
      assert.match((await readiness(http)).text, /the link was not open yet/);
      one.process.kill(first);
      await logged(one, 'told to stop');
      const stopping = await readiness(http);
      assert.equal(stopping.status, 503);
      assert.match(stopping.text, /starting or stopping/, 'it takes nothing more from the first moment on');
      assert.equal((await one.stop(second)).code, expected);
    });
  }
});

/** A call that goes on until the controller ends it; resolves once it is under way. `statuses` is what it was told, in order. */
async function watchHealth(id: string): Promise<{ readonly url: string; readonly statuses: readonly number[] }> {
  const context = JSON.parse(await readFile(join(dataOf(id), 'context.json'), 'utf8')) as AdminContext;
  const begun = Promise.withResolvers<void>();
  const statuses: number[] = [];
  const call = withConnect(
    context,
    Health,
    async (client) => {
      for await (const { status } of client.watch({})) {
        statuses.push(status);
        begun.resolve();
      }
    },
    context.token,
  );
  // How it ends is not looked at.
  call.catch(() => undefined);
  await begun.promise;
  return { url: context.url, statuses };
}

describe('the end of a controller', () => {
  it('is in order: it says so, accepts nobody, gives calls their time, and closes its store', async () => {
    await using one = await controller('order-2', '--drain-window', '4s');
    const { url, statuses } = await watchHealth('order-2');
    assert.deepEqual(statuses, [HealthCheckResponse_ServingStatus.SERVING]);
    assert.ok(existsSync(join(dataOf('order-2'), 'controller.db-wal')));
    one.process.kill('SIGTERM');
    while (statuses.length < 2 && one.running) await delay(5);
    assert.equal(statuses[1], HealthCheckResponse_ServingStatus.NOT_SERVING);
    assert.ok(one.running, 'the call has its time');
    const { hostname, port } = new URL(url);
    const refused = await new Promise((resolve) => {
      const socket = connect(Number(port), hostname, () => resolve('connected'));
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
    });
    assert.equal(refused, 'ECONNREFUSED');
    const { code, stderr } = await one.outcome();
    assert.equal(code, 0, stderr);
    assert.ok(stderr.indexOf('controller is stopping') < stderr.indexOf('controller has stopped'), stderr);
    assert.ok(!existsSync(join(dataOf('order-2'), 'controller.db-wal')), 'all of it is in the file');
  });

  it('waits for calls; a SIGHUP does not end that, and a second signal does at once, with its code', async () => {
    await using one = await controller('drained', '--drain-window', '10m');
    await watchHealth('drained');
    one.process.kill('SIGTERM');
    await logged(one, 'controller is stopping');
    one.process.kill('SIGHUP');
    assert.equal((await one.stop('SIGTERM')).code, 143);
  });
});

/** A `network up` that hangs, from its start to its end: in reading a file that is a pipe to which nobody writes. */
async function hangingNetworks(id: string, ...args: readonly string[]): Promise<RunningCommand> {
  const pipe = join(folder, `${id}.toml`);
  execFileSync('mkfifo', [pipe]);
  const one = new RunningCommand(['network', 'up', '--config', pipe, '--state-dir', dataOf(id), ...args], env());
  while (one.running) {
    try {
      // Works once somebody reads.
      held.push(openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK));
      return one;
    } catch {
      await delay(10);
    }
  }
  throw new Error(`it ended: ${one.stderr}`);
}

describe('the end of networks without an agent', { concurrency: true }, () => {
  it('is by force after the limit, while they start too', async () => {
    await using one = await hangingNetworks('networks-late', '--shutdown-limit', '1s');
    one.process.kill('SIGHUP');
    const { signal, stderr } = await one.stop();
    assert.equal(signal, 'SIGKILL', stderr);
    assert.match(stderr, /did not end in order within 1s \(--shutdown-limit\)/);
  });

  it('is at once at a second signal', async () => {
    await using one = await hangingNetworks('networks-twice');
    one.process.kill('SIGINT');
    await logged(one, 'told to stop');
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
