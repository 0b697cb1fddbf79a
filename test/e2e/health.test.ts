// A network's health as a running agent tells it: age of the handshake and traffic, a peer that fell silent, and its return.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import { LocalClient } from '../../src/cli/local-client.ts';
import { SecretKey } from '../../src/core/wireguard-keys.ts';
import { RunningCommand, runCommand } from '../fixtures/command.ts';
import { type LabHost, NetworkLab, wireguardMissing } from '../fixtures/netns.ts';
import { NetworkProcess } from '../fixtures/network-process.ts';

const LIMIT_MS = 60_000;
/**
 * By it handshakes age fifteen times as fast: three minutes of silence are twelve seconds. Timers are as ever, so that the event loop
 * seems to stand still: that check says nothing here.
 */
const HURRIED = `--import=data:text/javascript,${encodeURIComponent('const now = performance.now.bind(performance); performance.now = () => now() * 15;')}`;

interface Health {
  readonly status: string;
  readonly checks: readonly {
    readonly name: string;
    readonly state: string;
    readonly reason: string;
    readonly mend: string;
  }[];
  readonly networks: readonly {
    readonly name: string;
    readonly handshakeAgeSecs: number | null;
    readonly receivedBytes: number;
    readonly sentBytes: number;
  }[];
}

describe('a network of a running agent', { skip: wireguardMissing() ?? false }, () => {
  let lab: NetworkLab;
  let folder: string;
  before(async () => {
    lab = await NetworkLab.create(2);
    folder = await mkdtemp(join(tmpdir(), 'longline-health-'));
  });
  after(async () => {
    await lab?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const env = () => ({ PATH: process.env['PATH'], HOME: folder, NO_COLOR: '1', LONGLINE_HTTP_PORT: '0' });
  const socket = () => join(folder, 'health.http');

  async function health(): Promise<{ readonly status: number; readonly json: Health } | undefined> {
    const { promise, resolve } = Promise.withResolvers<{ status: number; json: Health } | undefined>();
    request({ socketPath: socket(), path: '/healthz' }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode!, json: JSON.parse(Buffer.concat(chunks).toString()) as Health });
      });
    })
      .on('error', () => resolve(undefined))
      .end();
    return await promise;
  }

  async function until<T>(what: string, agent: RunningCommand, found: () => Promise<T | undefined>): Promise<T> {
    const endsAt = performance.now() + LIMIT_MS;
    for (;;) {
      const value = await found();
      if (value !== undefined) return value;
      const seen = JSON.stringify((await health())?.json);
      if (performance.now() > endsAt) assert.fail(`in vain was waited until ${what}: ${seen}\n${agent.stderr}`);
      await delay(50);
    }
  }

  /** The check of networks once it is so. */
  const checked = async (agent: RunningCommand, state: string, reason: RegExp) =>
    await until(`networks are ${state}`, agent, async () => {
      const check = (await health())?.json.checks.find(({ name }) => name === 'network');
      return check?.state === state && reason.test(check.reason) ? check : undefined;
    });

  async function startPeer(host: LabHost, key: SecretKey, of: LabHost, ofKey: string): Promise<NetworkProcess> {
    await writeFile(join(folder, 'peer.key'), key.reveal(), { mode: 0o600 });
    const config = join(folder, 'peer.toml');
    await writeFile(
      config,
      `[network.default]
enable_wireguard = true
interface = "${host.tunnel}"
private_key_path = "${folder}/peer.key"
addresses = ["10.66.0.2/24"]
listen_port = 51820
[[network.default.peers]]
name = "agent"
public_key = "${ofKey}"
endpoint = "${of.address}:51820"
allowed_ips = ["10.66.0.1/32"]
persistent_keepalive_secs = 1
`,
    );
    const args = ['--config', config, '--state-dir', join(folder, 'peer'), '--mode', 'ephemeral'];
    return await NetworkProcess.start(host, args);
  }

  it('has the age of its handshake and its traffic; is degraded while its peer is silent, and well again', async () => {
    const [a, b] = lab.hosts as [LabHost, LabHost];
    const data = join(folder, 'agent');
    const link = ['--controller', 'https://127.0.0.1:9', '--api-key', 'a'.repeat(64)];
    const engine = ['--docker-host', `unix://${folder}/no-engine.sock`];
    const looks = ['--network-reconcile-interval', '1s', '--http-socket', socket()];
    const args = ['agent', '--data-dir', data, '--agent-id', 'silent', ...link, ...engine, ...looks];
    await using agent = new RunningCommand(args, { ...env(), NODE_OPTIONS: HURRIED }, false, a.within);
    await agent.until('it runs', () => (agent.stderr.includes('agent is running') ? true : undefined));
    const key = SecretKey.generate();
    using client = new LocalClient(join(data, 'agent.sock'), LIMIT_MS);
    const peer = { name: 'peer', publicKey: key.publicKey(), endpoint: `${b.address}:51820` };
    const spec = {
      ...{ name: 'lab', interface: a.tunnel, addresses: ['10.66.0.1/24'], listenPort: 51820 },
      peers: [{ ...peer, allowedIps: ['10.66.0.2/32'], persistentKeepaliveSecs: 1 }],
    };
    const { network } = await client.call(LocalService.method.applyNetwork, { spec });
    const ofAgent = network!.keys[0]!.publicKey;

    const first = await startPeer(b, key, a, ofAgent);
    await checked(agent, 'ok', /lab up/);
    const seen = await until('a handshake', agent, async () => {
      const one = (await health())?.json.networks.find(({ name }) => name === 'lab');
      return one !== undefined && one.handshakeAgeSecs !== null && one.receivedBytes > 0 ? one : undefined;
    });
    assert.ok(seen.handshakeAgeSecs! < 60 && seen.sentBytes > 0, JSON.stringify(seen));

    assert.equal(await first.stop('SIGTERM'), 0);
    const silent = await checked(agent, 'degraded', /^lab up \(no handshake lately with 1 of 1 peers\)$/);
    assert.match(silent.mend, /whether their hosts are up/);
    const shown = await runCommand(['status', '--data-dir', data, '--health'], env());
    assert.match(shown.stdout.toString(), /degraded +network .*no handshake lately with 1 of 1 peers/);

    const again = await startPeer(b, key, a, ofAgent);
    await checked(agent, 'ok', /lab up/);
    await again.stop('SIGTERM');
    await client.call(LocalService.method.removeNetwork, { name: 'lab' });
    assert.equal((await agent.stop()).code, 0);
  });
});
