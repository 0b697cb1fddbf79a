// How an agent and a controller end and read their settings anew: in order, by force where something hangs, and never from a bad file.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { RunningCommand, runCommand } from '../fixtures/command.ts';

const NOBODY = 'https://127.0.0.1:9';
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-end-'));
});
after(async () => await rm(folder, { recursive: true, force: true }));

const env = () => ({ PATH: process.env['PATH'], HOME: folder, NO_COLOR: '1', LONGLINE_HTTP_PORT: '0' });
const dataOf = (id: string) => join(folder, id);

function agent(id: string, ...args: readonly string[]): RunningCommand {
  const engine = ['--docker-host', `unix://${folder}/no-engine.sock`];
  const link = ['--controller', NOBODY, '--api-key', 'a'.repeat(64)];
  return new RunningCommand(['agent', '--data-dir', dataOf(id), '--agent-id', id, ...engine, ...link, ...args], env());
}

const logged = async (one: RunningCommand, text: string) =>
  await one.until(text, () => (one.stderr.includes(text) ? true : undefined));

/** An agent whose link hangs where nothing can interrupt it: in opening a pipe that nobody writes to. */
async function hanging(id: string, ...args: readonly string[]): Promise<RunningCommand> {
  const pipe = join(folder, `${id}.pem`);
  execFileSync('mkfifo', [pipe]);
  const one = agent(id, '--ca-file', pipe, ...args);
  await logged(one, 'agent is running');
  return one;
}

describe('the end of an agent', () => {
  it('is in order at SIGTERM: code 0, and its sockets are gone', async () => {
    const http = join(folder, 'order.http');
    await using one = agent('order', '--http-socket', http);
    await logged(one, 'agent is running');
    assert.ok(existsSync(http) && existsSync(join(dataOf('order'), 'agent.sock')));
    const { code, stderr } = await one.stop();
    assert.equal(code, 0, stderr);
    assert.match(stderr, /agent is stopping; what runs goes on/);
    assert.ok(!existsSync(http) && !existsSync(join(dataOf('order'), 'agent.sock')));
  });

  it('is by force after the limit, even where an exit would hang', async () => {
    await using one = await hanging('late', '--shutdown-limit', '1s');
    const { signal, stderr } = await one.stop();
    assert.equal(signal, 'SIGKILL', stderr);
    assert.match(stderr, /did not end in order within 1s \(shutdown\.limit\)/);
  });
});

describe('settings read anew', () => {
  it('are refused by an agent as a whole if any is bad, and it goes on', async () => {
    const file = join(folder, 'agent.toml');
    await writeFile(file, 'log_level = "info"\n');
    await using one = agent('anew', '--config', file);
    await logged(one, 'agent is running');
    await writeFile(file, 'log_level = "debug"\nlog_parts = { link = "loud" }\n');
    one.process.kill('SIGHUP');
    await logged(one, 'reload refused; all stays as it was');
    assert.match(one.stderr, /log_parts/);
    await writeFile(file, 'log_level = "warn"\nlog_parts = { link = "debug" }\nregion = "eu"\n');
    one.process.kill('SIGHUP');
    await logged(one, 'a changed setting keeps its old value');
    const { code, stdout } = await runCommand(['status', '--data-dir', dataOf('anew'), '--json'], env());
    assert.equal(code, 0, stdout.toString());
    assert.equal((await one.stop()).code, 0);
  });

  it('do not end a controller, which takes over what it can and names the rest', async () => {
    const file = join(folder, 'controller.toml');
    const write = async (level: string, keep: number) =>
      await writeFile(file, `log_level = "${level}"\n[keep]\nevents = ${keep}\n`);
    await write('info', 500);
    const args = ['controller', '--config', file, '--data-dir', join(folder, 'controller'), '--listen', '127.0.0.1:0'];
    await using one = new RunningCommand(args, env());
    await one.until('ready', () => (one.stdout.includes('"ready"') ? true : undefined));
    await write('loud', 500);
    one.process.kill('SIGHUP');
    await logged(one, 'reload refused; all stays as it was');
    await write('warn', 600);
    one.process.kill('SIGHUP');
    await logged(one, 'take effect at the next start only');
    assert.match(one.stderr, /"settings":\["keep"\]/);
    assert.doesNotMatch(one.stderr, /settings were read anew/, 'the new level holds at once');
    assert.equal((await one.stop()).code, 0);
  });
});
