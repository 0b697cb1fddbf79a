// Processes under a service manager: what they tell, that a hang ends them, and that nothing else does.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCommand } from '../fixtures/command.ts';
import { type LabHost, NetworkLab, wireguardMissing } from '../fixtures/netns.ts';
import { Supervised } from '../fixtures/supervised.ts';

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts');
/** Where nothing may fire, however slow the host is for a while; and where it has to. */
const [PATIENT_MS, HASTY_MS] = [4_000, 3_000];
const ABORTED = -6;
const NOBODY = ['--controller', 'https://127.0.0.1:9', '--api-key', 'a'.repeat(64)];
/** Time by which tasks are late goes on thirty times as fast; timers don't. */
const HURRIED = `--import=data:text/javascript,${encodeURIComponent('const now = performance.now.bind(performance); performance.now = () => now() * 30;')}`;

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-watched-'));
});
after(async () => await rm(folder, { recursive: true, force: true }));

const env = () => ({
  PATH: process.env['PATH'],
  HOME: folder,
  NO_COLOR: '1',
  LONGLINE_HTTP_PORT: '0',
  LONGLINE_CONTEXT: join(folder, 'data-controller', 'context.json'),
});

function supervise(id: string, watchdogMs: number, args: readonly string[], node: readonly string[] = []): Supervised {
  const command = [process.execPath, ...node, '--', MAIN, ...args];
  return new Supervised(join(folder, `${id}.notify`), watchdogMs, command, env());
}

const dataOf = (id: string) => ['--data-dir', join(folder, `data-${id}`)];

function agent(id: string, watchdogMs: number, args: readonly string[], node: readonly string[] = []): Supervised {
  const engine = `unix://${join(folder, 'no-engine.sock')}`;
  return supervise(id, watchdogMs, ['agent', ...dataOf(id), '--agent-id', id, '--docker-host', engine, ...args], node);
}

function controller(id: string, watchdogMs: number, args: readonly string[] = [], node: readonly string[] = []) {
  return supervise(id, watchdogMs, ['controller', ...dataOf(id), '--listen', '127.0.0.1:0', ...args], node);
}

const untilReady = async (one: Supervised) =>
  await one.until('ready', () => (one.told.includes('READY=1') ? true : undefined));
const untilBeats = async (one: Supervised, more: number) => {
  const beats = one.beats + more;
  await one.until(`${more} beats`, () => (one.beats >= beats ? true : undefined));
};
const untilStatus = async (one: Supervised, status: RegExp) =>
  await one.until(String(status), () => one.told.find((line) => line.startsWith('STATUS=') && status.test(line)));

async function reloads(one: Supervised): Promise<void> {
  one.order('kill SIGHUP');
  await one.until('a reload and its end', () => {
    const begun = one.told.indexOf('RELOADING=1');
    return begun >= 0 && one.told.lastIndexOf('READY=1') > begun ? true : undefined;
  });
  const stamped = one.events.find((event) => event.event === 'told' && event.lines.includes('RELOADING=1'));
  assert.ok(stamped?.event === 'told' && stamped.lines.some((line) => /^MONOTONIC_USEC=\d+$/.test(line)));
}

async function endsInOrder(one: Supervised): Promise<void> {
  one.order('kill SIGTERM');
  assert.deepEqual(await one.ended(), { event: 'ended', code: 0, fired: false }, one.stderr);
  assert.ok(one.told.includes('STOPPING=1'));
}

async function isEnded(one: Supervised): Promise<void> {
  assert.deepEqual(await one.ended(), { event: 'ended', code: ABORTED, fired: true }, one.stderr);
}

/** Runs an expression in a process that was started with --inspect. */
async function evaluate(one: Supervised, expression: string): Promise<void> {
  const url = /Debugger listening on (ws:\/\/\S+)/.exec(one.stderr)?.[1];
  assert.ok(url !== undefined, one.stderr);
  const socket = new WebSocket(url);
  const opened = Promise.withResolvers<void>();
  socket.addEventListener('open', () => opened.resolve(), { once: true });
  socket.addEventListener('error', () => opened.reject(new Error('no debugger answers')), { once: true });
  await opened.promise;
  socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression } }));
}

describe('a service under its manager', { concurrency: true }, () => {
  it('tells that it is ready, idle, reloads, stops; and lives on while the other side is away and the host is slow', async () => {
    await using control = controller('controller', PATIENT_MS, ['--drain-window', '1s']);
    await untilReady(control);
    const { url } = JSON.parse(await readFile(env().LONGLINE_CONTEXT, 'utf8')) as { url: string };
    const { token } = (await runCommand(['token', 'create', '--json'], env())).json<{ token: string }>();
    await using one = agent('agent', PATIENT_MS, ['--controller', url, '--token', token]);
    await untilReady(one);
    await untilStatus(one, /=link open/);
    await untilStatus(control, /=agents connected: 1, store: ok$/);
    await Promise.all([untilBeats(one, 2), untilBeats(control, 2)]);
    await Promise.all([reloads(one), reloads(control)]);
    for (const each of [one, control]) each.order('slow 2');
    await Promise.all([untilBeats(one, 3), untilBeats(control, 3)]);
    await endsInOrder(control);
    await untilStatus(one, /=link (backing_off|connecting)/);
    await untilBeats(one, 1);
    await endsInOrder(one);
  });

  it('is ended by the watchdog when the event loop of an agent is blocked', async () => {
    await using one = agent('blocked', HASTY_MS, NOBODY, ['--inspect=127.0.0.1:0']);
    await untilReady(one);
    await evaluate(one, 'for (;;);');
    await isEnded(one);
  });

  it('is ended by the watchdog when the link of an agent is stuck, though the event loop turns', async () => {
    // Each try to connect reads the file of CAs, and nobody ever writes to this one.
    const pipe = join(folder, 'ca.pem');
    execFileSync('mkfifo', [pipe]);
    await using one = agent('stuck', HASTY_MS, [...NOBODY, '--ca-file', pipe], [HURRIED]);
    await untilReady(one);
    await isEnded(one);
    assert.ok(one.told.includes('STATUS=stuck: link: a try to connect'), one.told.join());
    assert.match(one.stderr, /the watchdog hears nothing any more/);
  });

  it('tells of networks without an agent too, and is ended when it does not get on', {
    skip: wireguardMissing() ?? false,
  }, async () => {
    await using lab = await NetworkLab.create(1);
    const [host] = lab.hosts as readonly [LabHost];
    const config = join(folder, 'networks.toml');
    const text = `[network.lab]\nenable_wireguard = true\ninterface = "${host.tunnel}"\naddresses = ["10.66.0.1/24"]\n`;
    await writeFile(config, text);
    const args = ['network', 'up', '--config', config, '--state-dir', join(folder, 'networks')];
    const command = [...host.within, process.execPath, '--', MAIN, ...args];
    await using one = new Supervised(join(folder, 'networks.notify'), HASTY_MS, command, env());
    await untilReady(one);
    await untilStatus(one, /=1 network: 1 up$/);
    await reloads(one);
    await untilBeats(one, 1);
    one.order('kill SIGSTOP');
    await isEnded(one);
  });

  it('is ended by the watchdog when a controller does not get on', async () => {
    await using one = controller('halted', HASTY_MS);
    await untilReady(one);
    one.order('kill SIGSTOP');
    await isEnded(one);
  });
});
