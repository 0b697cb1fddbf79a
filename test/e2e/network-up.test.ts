// Networks without a controller, on a real wireguard-go: by a file, by gRPC, by JSON messages; through reloads, kills and ends.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import { NetworkState, type NetworkStatus } from '#gen/longline/v1/network_pb.js';
import { SecretKey } from '../../src/core/wireguard-keys.ts';
import { type LabHost, NetworkLab, wireguardMissing } from '../fixtures/netns.ts';
import { NetworkProcess, networkCommand } from '../fixtures/network-process.ts';

const LIMIT_MS = 60_000;

async function eventually<Value>(what: string, look: () => Promise<Value | undefined | false>): Promise<Value> {
  const endsAt = performance.now() + LIMIT_MS;
  for (;;) {
    const value = await look();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > endsAt) throw new Error(`in vain was waited until ${what}`);
    await delay(50);
  }
}

/** Body of a page that a host fetches; undefined if it can't. */
async function fetched(host: LabHost, url: string): Promise<Record<string, unknown> | undefined> {
  const script = 'fetch(process.argv[1],{signal:AbortSignal.timeout(5000)}).then((r)=>r.text()).then(console.log)';
  try {
    return JSON.parse(await host.run(process.execPath, '-e', script, url)) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

const daemonOf = (host: LabHost) => host.pidOf('wireguard-go');

async function networksOf(process: NetworkProcess): Promise<readonly NetworkStatus[]> {
  using client = process.client();
  return (await client.call(LocalService.method.listNetworks, {})).networks;
}

describe('networks without a controller', { skip: wireguardMissing() ?? false }, () => {
  let lab: NetworkLab;
  let folder: string;
  before(async () => {
    lab = await NetworkLab.create(3);
    folder = await mkdtemp(join(tmpdir(), 'longline-up-'));
  });
  after(async () => {
    await lab?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  /** Writes the file of a host, whose place in the lab is also the last part of its address. */
  async function writeFileOf(place: number, other: { readonly place: number; readonly key: string }, more = '') {
    const host = lab.hosts[place]!;
    const path = join(folder, `${place}.toml`);
    const text = `
[network.default]
enable_wireguard = true
interface = "${host.tunnel}"
mtu = 1380
private_key_path = "${folder}/${place}.key"
addresses = ["10.66.0.${place + 1}/24"]
listen_port = 51820
${more}
[network.default.http]
bind_address = "0.0.0.0"
bind_port = 8081
[[network.default.peers]]
name = "other"
public_key = "${other.key}"
endpoint = "${lab.hosts[other.place]!.address}:51820"
allowed_ips = ["10.66.0.${other.place + 1}/32"]
persistent_keepalive_secs = 25
`;
    await writeFile(path, text);
    return ['--config', path, '--state-dir', join(folder, `state-${place}`)];
  }

  it('join two hosts by their files, through a reload, a bad file, kill -9 and a new start', async () => {
    const [a, b] = lab.hosts as [LabHost, LabHost, LabHost];
    const keys = [0, 1].map(() => SecretKey.generate());
    for (const [place, key] of keys.entries())
      await writeFile(join(folder, `${place}.key`), key.reveal(), { mode: 0o600 });
    const [keyA, keyB] = keys.map((key) => key.publicKey()) as [string, string];
    const argsA = await writeFileOf(0, { place: 1, key: keyB });
    const argsB = await writeFileOf(1, { place: 0, key: keyA });
    await using _onB = await NetworkProcess.start(b, argsB);
    const onA = await NetworkProcess.start(a, argsA);
    const seen = await eventually('b answers through the tunnel', () => fetched(a, 'http://10.66.0.2:8081/healthz'));
    assert.equal(seen['status'], 'ok');
    assert.equal(seen['publicKey'], keyB);
    await writeFileOf(0, { place: 1, key: keyB }, 'routes = ["10.67.0.0/16"]');
    await eventually('the new route is there', async () => (await a.ip('route')).includes('10.67.0.0/16'));
    await writeFileOf(0, { place: 1, key: keyB }, 'mtu = "wide"');
    await eventually('the bad file is told', async () => onA.log.some((line) => line.includes('all stays as it was')));
    assert.equal((await networksOf(onA))[0]!.state, NetworkState.UP);
    const early = await networkCommand(a, ['down', '--all', ...argsA.slice(2)]);
    assert.match(early.stderr, new RegExp(`in use by process ${onA.child.pid}; .*stop it first`));
    const daemon = await daemonOf(a);
    await onA.stop('SIGKILL');
    assert.ok(await fetched(a, 'http://10.66.0.2:8081/healthz'), 'the tunnel needs nobody');
    await writeFileOf(0, { place: 1, key: keyB });
    await using again = await NetworkProcess.start(a, argsA);
    assert.equal(await daemonOf(a), daemon, 'the daemon is the same');
    const [status] = await networksOf(again);
    assert.equal(status!.state, NetworkState.UP);
    assert.ok(status!.peers[0]!.handshakeAge !== undefined, 'and so is the session with the peer');
    assert.ok(!(await a.ip('route')).includes('10.67.0.0/16'));
    assert.equal(await again.stop('SIGTERM'), 0);
    assert.ok(await fetched(a, 'http://10.66.0.2:8081/healthz'), 'a service leaves its networks');
    const unknown = await networkCommand(a, ['down', 'other', ...argsA.slice(2)]);
    assert.match(unknown.stderr, /no network "other"; there are: default/);
    const down = await networkCommand(a, ['down', '--all', ...argsA.slice(2), '--json']);
    assert.deepEqual(JSON.parse(down.stdout), { removed: ['default'] }, down.stderr);
    assert.equal((await a.ip('-o', 'link')).includes(a.tunnel), false);
    assert.equal(await daemonOf(a), undefined);
    await using killed = await NetworkProcess.start(a, argsA);
    assert.equal(await killed.stop('SIGKILL'), null);
    const one = await networkCommand(a, ['down', 'default', ...argsA.slice(2), '--json']);
    assert.deepEqual(JSON.parse(one.stdout), { removed: ['default'] }, one.stderr);
    assert.equal((await a.ip('-o', 'link')).includes(a.tunnel), false);
  });

  it('serve applications by gRPC and by JSON, mend what is killed, and leave nothing when they are ephemeral', async () => {
    const host = lab.hosts[2]!;
    const config = join(folder, 'empty.toml');
    await writeFile(config, '');
    await using process = await NetworkProcess.start(host, [
      ...['--config', config, '--state-dir', join(folder, 'state-2'), '--mode', 'ephemeral', '--with-parent'],
    ]);
    using client = process.client();
    const key = SecretKey.generate().publicKey();
    const spec = {
      name: 'app',
      interface: host.tunnel,
      addresses: ['10.68.0.1/24'],
      peers: [{ publicKey: key, allowedIps: ['10.69.0.0/16'] }],
    };
    const { network } = await client.call(LocalService.method.applyNetwork, { spec });
    assert.equal(network!.state, NetworkState.UP, JSON.stringify(network!.problems));
    assert.match(await host.ip('route'), /10\.69\.0\.0\/16/);
    const wrong = { ...spec, mtu: 12, peers: [{ publicKey: 'x' }] };
    await assert.rejects(client.call(LocalService.method.applyNetwork, { spec: wrong }), {
      reason: 'invalid',
      message: /peers\[0\]\.public_key: .*mtu: 12 /,
    });
    globalThis.process.kill((await daemonOf(host))!, 'SIGKILL');
    await eventually('the daemon is there again with its peer', async () => {
      const [now] = await networksOf(process);
      return now?.state === NetworkState.UP && now.peers[0]?.publicKey === key && (await daemonOf(host)) !== undefined;
    });
    const connect = { action: 'connect', interface: `${host.tunnel}x`, mtu: 1280, peers: [{ publicKey: key }] };
    const answers = await process.control(
      JSON.stringify(connect, undefined, 2),
      '{"action":"connect","interface":"wg0","peers":[{"publicKey":7}]}',
      `{"action":"status","interface":"${host.tunnel}x"}`,
      `{"action":"disconnect","interface":"${host.tunnel}x"}`,
      '{"action":',
    );
    assert.deepEqual(
      answers.map(({ ok }) => ok),
      [true, false, true, true, false],
    );
    assert.equal((answers[1]!['error'] as { field: string }).field, 'peers[0].publicKey');
    const shown = await networkCommand(host, ['show', '--state-dir', join(folder, 'state-2')]);
    assert.match(shown.stdout, /network app +up\n.*10\.69\.0\.0\/16/s, shown.stderr);
    process.child.stdin!.end();
    assert.equal(await process.stop('SIGCONT'), 0);
    assert.equal((await host.ip('-o', 'link')).includes(host.tunnel), false);
    assert.equal(await daemonOf(host), undefined);
  });
});
