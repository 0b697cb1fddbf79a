// Tunnels while one of the processes that carry them is killed: both ends hear of it, with a reason, and the next tunnel works.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { TokenService } from '#gen/longline/fleet/v1/token_service_pb.js';
import { firstJsonLine, RunningCommand, runCommand } from '../fixtures/command.ts';
import type { TunnelAgentArguments } from '../fixtures/tunnel-agent.ts';

const AGENT = join(import.meta.dirname, '../fixtures/tunnel-agent.ts');
const SESSION = 'desk';
const LIMIT_MS = 60_000;

let folder: string;
let server: Server;
const sockets: Socket[] = [];
let env: NodeJS.ProcessEnv;
let controller: RunningCommand | undefined;
let listen = ['--listen', '127.0.0.1:0', '--plaintext-listen', '127.0.0.1:0'];
let agent: ChildProcess | undefined;
let agentArguments: TunnelAgentArguments;

async function startController(): Promise<{ readonly url: string; readonly plaintextPort: number }> {
  const started = new RunningCommand(['controller', '--data-dir', join(folder, 'controller'), ...listen], env);
  controller = started;
  const { url } = await started.until('ready', () => {
    const line = /^.+(?=\n)/.exec(started.stdout)?.[0];
    return line === undefined ? undefined : (JSON.parse(line) as { url: string });
  });
  const plaintextPort = await started.until('its second port', () => /"plaintextPort":(\d+)/.exec(started.stderr)?.[1]);
  listen = ['--listen', new URL(url).host, '--plaintext-listen', `127.0.0.1:${plaintextPort}`];
  return { url, plaintextPort: Number(plaintextPort) };
}

async function startAgent(): Promise<void> {
  const argv = ['--pdeathsig', 'KILL', process.execPath, '--', AGENT, JSON.stringify(agentArguments)];
  agent = spawn('setpriv', argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  await firstJsonLine(agent);
}

/** An echo over a new tunnel. The session is known to the controller a moment after the agent is there. */
async function tunnel(): Promise<RunningCommand> {
  const port = String((server.address() as AddressInfo).port);
  for (const endsAt = performance.now() + LIMIT_MS; ; ) {
    const command = new RunningCommand(['session', 'tunnel', SESSION, port, '--stdio'], env);
    command.process.stdin!.write('ping');
    try {
      await command.until('the echo', () => (command.stdout === 'ping' ? true : undefined));
      return command;
    } catch (error) {
      await command[Symbol.asyncDispose]();
      if (performance.now() > endsAt) throw error;
    }
  }
}

/** Resolves when the end of a tunnel that was opened last is closed, by whatever. */
async function closed(): Promise<void> {
  const socket = sockets.at(-1)!;
  for (const endsAt = performance.now() + LIMIT_MS; !socket.destroyed; await delay(10)) {
    assert.ok(performance.now() < endsAt, 'the end in the session stays open');
  }
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'll-tunnel-kill-'));
  env = { ...process.env, LONGLINE_CONTEXT: join(folder, 'controller/context.json') };
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { url, plaintextPort } = await startController();
  const { token, ca } = JSON.parse(await readFile(env['LONGLINE_CONTEXT']!, 'utf8')) as { token: string; ca: string };
  const transport = createGrpcTransport({
    baseUrl: url,
    nodeOptions: { ca },
    interceptors: [
      (next) => (request) => {
        request.header.set('authorization', `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  const { apiKey } = await createClient(TokenService, transport).createAgentKey({ agentId: 'host-1' });
  const { port } = server.address() as AddressInfo;
  agentArguments = { url: `http://127.0.0.1:${plaintextPort}`, apiKey, dataDir: join(folder, 'agent'), port };
  await startAgent();
});

// What a failed test has killed must not fail those that follow.
beforeEach(async () => {
  if (!controller!.running) await startController();
  if (agent!.exitCode !== null || agent!.signalCode !== null) await startAgent();
});

after(async () => {
  agent?.kill('SIGKILL');
  await controller?.[Symbol.asyncDispose]();
  for (const socket of sockets) socket.destroy();
  server.close();
  await rm(folder, { recursive: true, force: true });
});

it('ends a tunnel on both sides when the agent is killed', async () => {
  await using command = await tunnel();
  agent!.kill('SIGKILL');
  const { code, stderr } = await command.outcome();
  assert.equal(code, 5);
  assert.match(stderr, /the connection of agent host-1 was lost/);
  await closed();
  const port = String((server.address() as AddressInfo).port);
  // Tunnels end with the connection; that the agent is away is written down then.
  for (const endsAt = performance.now() + LIMIT_MS; ; ) {
    const away = await runCommand(['session', 'tunnel', SESSION, port, '--stdio'], env);
    assert.notEqual(away.code, 0);
    if (away.code === 5 && /agent host-1, which holds session desk, is away/.test(away.stderr)) break;
    assert.ok(performance.now() < endsAt, away.stderr);
  }
  await startAgent();
  await using again = await tunnel();
  assert.equal(again.stdout, 'ping');
});

it('ends a tunnel on both sides when the controller is killed', async () => {
  await using command = await tunnel();
  await controller!.stop('SIGKILL');
  const { code, stderr } = await command.outcome();
  assert.equal(code, 5);
  assert.match(stderr, /controller at https:\S+ (can't be reached|was lost)/);
  await closed();
  await startController();
  await using again = await tunnel();
  assert.equal(again.stdout, 'ping');
});
