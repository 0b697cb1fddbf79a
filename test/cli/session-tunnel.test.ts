// `longline session tunnel`, `exec` and `view` as processes of their own, against a real controller and link.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { DetachScanner, detachKeysValue } from '../../src/cli/session/detach-keys.ts';
import { RunningCommand, runCommand } from '../fixtures/command.ts';
import { SESSION, TunnelFleet } from '../fixtures/tunnel-fleet.ts';
import { until } from '../link/scratch.ts';

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts');
const TERMINAL = join(import.meta.dirname, '../fixtures/terminal.py');

describe('ways into a session from the command line', () => {
  let fleet: TunnelFleet;
  let server: Server;
  let port: number;
  let env: NodeJS.ProcessEnv;
  const sockets: Socket[] = [];

  before(async () => {
    server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
    fleet = await TunnelFleet.start({ ports: [port, 1] });
    env = { ...process.env, LONGLINE_CONTEXT: fleet.controller.contextPath };
  });
  after(async () => {
    await fleet[Symbol.asyncDispose]();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  beforeEach(async () => {
    await until('no tunnel is left', () => fleet.session.visits.size === 0);
  });

  const session = (...args: readonly string[]) => ['session', ...args];

  async function exchange(address: string, text: string): Promise<string> {
    const [host, number] = address.split(':');
    const socket = connect({ host: host!, port: Number(number) });
    let answer = '';
    socket.on('data', (data) => {
      answer += data;
    });
    socket.end(text);
    await once(socket, 'close').catch((error: Error) => {
      answer += error.message;
    });
    return answer;
  }

  it('listens locally for many connections, says where, and ends with Ctrl-C', async () => {
    await using command = new RunningCommand(session('tunnel', SESSION, String(port), '--json'), env);
    const line = await command.until('the address', () => /^.+(?=\n)/.exec(command.stdout)?.[0]);
    const { listening, session: id, port: reached } = JSON.parse(line);
    assert.deepEqual([id, reached], [SESSION, port]);
    const texts = Array.from({ length: 20 }, (_, index) => `connection ${index} `.repeat(10_000));
    const answers = await Promise.all(texts.map((text) => exchange(listening, text)));
    assert.deepEqual(
      answers.map((answer) => answer.length),
      texts.map((text) => text.length),
    );
    assert.ok(answers.every((answer, index) => answer === texts[index]));
    const { code } = await command.stop('SIGINT');
    assert.equal(code, 0);
  });

  it('resets a connection that can not be carried, says why, and goes on', async () => {
    await using command = new RunningCommand(session('tunnel', SESSION, '1', '--listen', '127.0.0.1:0'), env);
    const address = await command.until('the address', () => /^.+(?=\n)/.exec(command.stdout)?.[0]);
    assert.match(await exchange(address, 'x'), /ECONNRESET|^$/);
    await command.until('the reason', () => /port 1 of the session can't be reached/.exec(command.stderr)?.[0]);
    await exchange(address, 'again');
  });

  it('carries standard input and output, as for ssh', async () => {
    const outcome = await runCommand(session('tunnel', SESSION, String(port), '--stdio'), env, 'over stdio');
    assert.deepEqual([outcome.code, outcome.stdout.toString()], [0, 'over stdio']);
    const refused = await runCommand(session('tunnel', SESSION, '2', '--stdio'), env);
    assert.equal(refused.code, 4);
    assert.match(refused.stderr, /does not offer port 2/);
  });

  it('runs a command in a pipe: output apart, input to its end, its exit code', async () => {
    const script = 'cat; echo complaint >&2; exit 9';
    const outcome = await runCommand(session('exec', '-i', SESSION, '--', '/bin/sh', '-c', script), env, 'piped\0in');
    assert.deepEqual([outcome.code, outcome.stdout.toString(), outcome.stderr], [9, 'piped\0in', 'complaint\n']);
    const killed = await runCommand(session('exec', SESSION, '--', '/bin/sh', '-c', 'kill -TERM $$'), env);
    assert.equal(killed.code, 143);
    const missing = await runCommand(session('exec', SESSION, '--', '/no/such/program'), env);
    assert.equal(missing.code, 2);
    const late = await runCommand(session('exec', SESSION, '-it', '--', '/bin/sh'), env);
    assert.equal(late.code, 2);
    assert.match(late.stderr, new RegExp(`-it: options go before the session: exec -it ${SESSION} --`));
    const json = await runCommand(session('exec', '--json', SESSION, '--', 'true'), env);
    assert.equal(json.code, 2);
  });

  it('sends Ctrl-C to a command as SIGINT', async () => {
    const script = 'trap "echo interrupted; exit 3" INT; echo ready; while :; do sleep 0.05; done';
    await using command = new RunningCommand(session('exec', SESSION, '--', '/bin/sh', '-c', script), env);
    await command.until('it runs', () => (command.stdout.includes('ready') ? true : undefined));
    const { code, stdout } = await command.stop('SIGINT');
    assert.deepEqual([code, stdout.toString()], [3, 'ready\ninterrupted\n']);
  });

  it('ends with the reason when the agent goes', async () => {
    await using other = await TunnelFleet.start({ ports: [] });
    const itsEnv = { ...env, LONGLINE_CONTEXT: other.controller.contextPath };
    await using command = new RunningCommand(
      session('exec', SESSION, '--', '/bin/sh', '-c', 'echo up; exec sleep 60'),
      itsEnv,
    );
    await command.until('it runs', () => (command.stdout.includes('up') ? true : undefined));
    await other.agent[Symbol.asyncDispose]();
    const { code, stderr } = await command.outcome();
    assert.equal(code, 5);
    assert.match(stderr, /connection|lost|ended/);
  });

  it('signs with a key of the operator, once for each tunnel', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'll-key-'));
    try {
      const key = join(folder, 'ops.key');
      assert.equal((await runCommand(['key', 'generate', '--out', key, '--key-id', 'ops'], env)).code, 0);
      const signing = ['--sign-key', key];
      for (let time = 0; time < 2; time++) {
        const args = session('exec', ...signing, SESSION, '--', '/bin/true');
        assert.equal((await runCommand(args, env)).code, 0);
      }
      const [first, second] = fleet.asked.slice(-2).map(({ statement }) => statement!);
      assert.deepEqual([first?.signatures[0]?.keyId, second?.signatures[0]?.keyId], ['ops', 'ops']);
      assert.notDeepEqual(first?.payload, second?.payload);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('gives a ticketed address', async () => {
    const outcome = await runCommand(session('view', SESSION, '--port', String(port), '--json'), env);
    const { url, port: given, expires_at } = outcome.json<{ url: string; port: number; expires_at: string }>();
    assert.ok(url.startsWith(`${fleet.context.url}/sessions/${SESSION}/view#port=${port}&ticket=`));
    assert.equal(given, port);
    assert.ok(Date.parse(expires_at) > Date.now());
  });

  /** The command in a terminal of its own. */
  async function inTerminal(args: readonly string[], work: (screen: Screen) => Promise<void>): Promise<Screen> {
    const argv = [TERMINAL, process.execPath, '--', MAIN, ...args];
    const child = spawn('/usr/bin/python3', argv, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    const screen: Screen = { child, shown: '', states: [] };
    child.stdout.on('data', (data) => {
      screen.shown += data;
    });
    child.stderr.on('data', (data) => screen.states.push(...String(data).trim().split('\n')));
    const closed = once(child, 'close');
    try {
      await work(screen);
      await closed;
    } finally {
      child.kill('SIGKILL');
    }
    return screen;
  }

  interface Screen {
    readonly child: ReturnType<typeof spawn>;
    shown: string;
    readonly states: string[];
  }

  it('takes the terminal over, follows its size, and gives it back', async () => {
    fleet.session.sizes.length = 0;
    const screen = await inTerminal(session('exec', '-it', SESSION, '--', '/bin/cat'), async (screen) => {
      const { child, states } = screen;
      await until('raw mode', () => states.includes('raw'));
      child.kill('SIGUSR1');
      await until('the new size', () => fleet.session.sizes.includes('100x40'));
      // Ctrl-C is a byte like any other here: the remote terminal makes of it what it does.
      child.stdin!.write('typed\x03');
      await until('it came back', () => screen.shown.includes('typed\x03'));
      child.stdin!.write('\x10\x11');
    });
    assert.equal(fleet.session.sizes[0], '80x24');
    assert.deepEqual(screen.states, ['cooked', 'raw', 'cooked', 'exit 0']);
    assert.match(screen.shown, /left the command/);
  });
});

describe('detach keys', () => {
  it('are read from names', () => {
    assert.deepEqual([...detachKeysValue('ctrl-p,ctrl-q')], [16, 17]);
    assert.deepEqual([...detachKeysValue('ctrl-],x')], [29, 120]);
    assert.deepEqual([...detachKeysValue('none')], []);
    assert.throws(() => detachKeysValue('alt-x'), /Give keys/);
  });

  it('are found wherever the reads fall, and what only looked like them is sent', () => {
    const typed = (scanner: DetachScanner, ...reads: string[]) => {
      let sent = '';
      for (const read of reads) {
        const { send, detached } = scanner.scan(Buffer.from(read));
        sent += Buffer.from(send).toString();
        if (detached) return { sent, detached };
      }
      return { sent, detached: false };
    };
    const scanner = () => new DetachScanner(detachKeysValue('ctrl-p,ctrl-q'));
    assert.deepEqual(typed(scanner(), 'ab\x10\x11rest'), { sent: 'ab', detached: true });
    assert.deepEqual(typed(scanner(), 'a\x10', '\x11'), { sent: 'a', detached: true });
    assert.deepEqual(typed(scanner(), '\x10x\x10', '\x10', '\x11'), { sent: '\x10x\x10', detached: true });
    assert.deepEqual(typed(scanner(), '\x11\x10y'), { sent: '\x11\x10y', detached: false });
    assert.deepEqual(typed(new DetachScanner(new Uint8Array()), '\x10\x11'), { sent: '\x10\x11', detached: false });
  });
});
