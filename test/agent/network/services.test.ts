import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { HttpServer } from '../../../src/agent/http/http-server.ts';
import { ControlSocket } from '../../../src/agent/network/control-socket.ts';
import { OwnKeyFolder } from '../../../src/agent/network/own-keys.ts';
import { statusRoutes } from '../../../src/agent/network/status-routes.ts';
import { StatusServers } from '../../../src/agent/network/status-servers.ts';
import { readGuardedFile } from '../../../src/agent/trust/guarded-file.ts';
import type { NetworkCapability } from '../../../src/capabilities/network/capability.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { readNetworkFile } from '../../../src/core/network/network-file.ts';
import { KeyFiles } from '../../../src/platform/wireguard/key-files.ts';
import { LockedMemory } from '../../../src/platform/wireguard/locked-memory.ts';
import { NetworkWorld, testKey, until } from '../../capabilities/network/network-fixture.ts';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longline-net-'));
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
});

const connectMessage = (name: string, more = {}) =>
  JSON.stringify({ action: 'connect', interface: name, peers: [{ name: 'hub', publicKey: testKey(1), ...more }] });

async function withSocket(run: (path: string, world: NetworkWorld) => Promise<void>, idleMs?: number): Promise<void> {
  await using world = new NetworkWorld();
  const networks = await world.start();
  await using socket = new ControlSocket(join(folder, 'c.sock'), networks, systemClock, silentLogger, idleMs);
  await socket.open();
  await run(join(folder, 'c.sock'), world);
}

/** Sends text and gives all answers until the other side ends. */
async function ask(path: string, text: string): Promise<Record<string, unknown>[]> {
  const socket = connect({ path, allowHalfOpen: true });
  socket.end(text);
  const answers: Record<string, unknown>[] = [];
  for await (const line of createInterface({ input: socket }))
    answers.push(JSON.parse(line) as Record<string, unknown>);
  return answers;
}

describe('control socket', () => {
  it('is for its owner alone, answers in order, and names the field that is wrong', async () => {
    await withSocket(async (path, world) => {
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      const bad = connectMessage('wg5', { endpoint: 'nowhere' });
      const [up, refused, status, down] = await ask(
        path,
        [connectMessage('wg4'), bad, '{"action":"status"}', '{"action":"disconnect","interface":"wg4"}'].join('\n'),
      );
      assert.equal(up!['ok'], true);
      assert.equal((up!['network'] as { state: string }).state, 'up');
      assert.equal((refused!['error'] as { field: string }).field, 'peers[0].endpoint');
      assert.deepEqual(
        (status!['networks'] as { name: string }[]).map(({ name }) => name),
        ['wg4'],
      );
      assert.deepEqual(down, { ok: true });
      assert.equal(world.host.devices.size, 0);
      const [unknown] = await ask(path, '{"action":"disconnect","interface":"wg4"}');
      assert.equal((unknown!['error'] as { reason: string }).reason, 'not_found');
    });
  });

  it('tells of what makes no sense and ends the connection, and serves the next', async () => {
    await withSocket(async (path) => {
      for (const text of ['hello', '{"action":', '{"action":"sta\n', '[1]']) {
        const answers = await ask(path, text);
        assert.equal(answers.length, 1, text);
        assert.equal((answers[0]!['error'] as { field: string }).field, 'message');
      }
      assert.deepEqual(await ask(path, '{"action":"status"}'), [{ ok: true, networks: [] }]);
    });
  });

  it('has a place for the next however many say nothing and stay', async (t) => {
    await withSocket(async (path) => {
      const silent = Array.from({ length: 32 }, () => connect({ path, allowHalfOpen: true }).resume());
      t.after(() => {
        for (const socket of silent) socket.destroy();
      });
      // The server may reset what it gives up.
      for (const socket of silent) socket.on('error', () => undefined);
      await Promise.all(silent.map((socket) => once(socket, 'connect')));
      await until('there is a place', async () => {
        const answers = await ask(path, '{"action":"status"}').catch(() => []);
        return answers.length === 1 ? true : undefined;
      });
    }, 200);
  });

  it('says why an interface cannot be had', async () => {
    await withSocket(async (path, world) => {
      world.host.make('eth9');
      const [answer] = await ask(path, connectMessage('eth9'));
      assert.equal(answer!['ok'], false);
      assert.match(JSON.stringify(answer!['error']), /interface.*somebody else's.*tried again/);
    });
  });
});

describe('health over HTTP', () => {
  async function serve(networks: NetworkCapability, name: string) {
    const look = async () => (await networks.look()).find((view) => view.name === name);
    const routes = statusRoutes(look, systemClock);
    const server = new HttpServer({ bindAddress: '127.0.0.1', bindPort: 0, routes, log: silentLogger });
    await server.open();
    return { server, url: `http://127.0.0.1:${server.port}` };
  }

  it('is 200 while the network works and 503 otherwise, with figures beside', async () => {
    await using world = new NetworkWorld();
    const networks = await world.start();
    const { server, url } = await serve(networks, 'wg4');
    await using _ = server;
    const down = await fetch(`${url}/healthz`);
    assert.equal(down.status, 503);
    assert.deepEqual(await down.json(), { status: 'unavailable', state: 'down' });
    await using socket = new ControlSocket(join(folder, 'd.sock'), networks, systemClock, silentLogger);
    await socket.open();
    await ask(join(folder, 'd.sock'), connectMessage('wg4'));
    world.host.setPeer('wg4', testKey(1), { lastHandshakeMs: Date.now() - 5_000, receivedBytes: 7, sentBytes: 9 });
    const up = await fetch(`${url}/healthz`);
    assert.equal(up.status, 200);
    const body = (await up.json()) as Record<string, unknown>;
    assert.equal(body['status'], 'ok');
    assert.ok(Number(body['handshakeAgeSecs']) >= 5);
    const text = await (await fetch(`${url}/metrics`)).text();
    assert.match(text, /^longline_network_state\{network="wg4",interface="wg4",state="up"\} 1$/m);
    assert.match(text, /^longline_network_peer_bytes_total\{.*peer="hub".*direction="received"\} 7$/m);
    assert.equal((await fetch(`${url}/other`)).status, 404);
    assert.equal((await fetch(`${url}/healthz`, { method: 'POST' })).status, 405);
    assert.ok(!`${text}${JSON.stringify(body)}`.includes('private'), 'no secret is told');
  });

  it('says which address cannot be had', async () => {
    await using world = new NetworkWorld();
    const { server } = await serve(await world.start(), 'x');
    await using _ = server;
    const options = { bindAddress: '127.0.0.1', bindPort: server.port, routes: [], log: silentLogger };
    await using second = new HttpServer(options);
    await assert.rejects(second.open(), { reason: 'unavailable', message: /127\.0\.0\.1:\d+: .*EADDRINUSE/ });
  });

  it('is served of the others where an address can not be had', async () => {
    await using world = new NetworkWorld();
    const networks = await world.start();
    const { server: taken } = await serve(networks, 'x');
    await using _ = taken;
    const { server: other } = await serve(networks, 'y');
    const free = other.port;
    await other[Symbol.asyncDispose]();
    const filed = [taken.port, free].map((port, place) => {
      const keys = `[network.n${place}]\ninterface = "wg${place}"\nprivate_key_path = "/etc/wg.key"\n`;
      return `${keys}enable_wireguard = true\n[network.n${place}.http]\nbind_address = "127.0.0.1"\nbind_port = ${port}\n`;
    });
    const file = readNetworkFile(filed.join(''));
    await using servers = new StatusServers(networks, systemClock, silentLogger);
    await assert.rejects(servers.serve(file.networks), {
      reason: 'unavailable',
      message: new RegExp(`:${taken.port}`),
    });
    assert.equal((await fetch(`http://127.0.0.1:${free}/healthz`)).status, 503);
  });
});

describe("the agent's own keys", () => {
  it('are made once, kept by network and epoch, and forgotten one by one', async () => {
    const path = join(folder, 'keys');
    const store = new KeyFiles({
      readSecret: async (file) => await readGuardedFile(file, { what: 'key file', secret: true }),
      environment: {},
      memory: new LockedMemory(),
    });
    const keys = new OwnKeyFolder(path, store);
    assert.deepEqual(await keys.epochs('a'), []);
    const first = await keys.key('a', 0);
    assert.ok((await keys.key('a', 0)).equals(first));
    assert.ok(!(await keys.key('a', 12)).equals(first));
    await keys.key('a.1', 3);
    assert.deepEqual([...(await keys.epochs('a'))].sort(), [0, 12]);
    assert.deepEqual(await keys.epochs('a.1'), [3]);
    assert.equal((await stat(path)).mode & 0o777, 0o700);
    for (const name of await readdir(path)) assert.equal((await stat(join(path, name))).mode & 0o777, 0o600);
    await keys.forget('a', 0);
    await keys.forget('a', 0);
    assert.deepEqual(await keys.epochs('a'), [12]);
    await writeFile(join(path, 'b.0.key'), `${testKey(3)}\n`, { mode: 0o644 });
    await assert.rejects(keys.key('b', 0), { reason: 'policy', message: /chmod 600/ });
  });
});
