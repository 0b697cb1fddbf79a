// What befalls a network, on a real wireguard-go and under traffic: changes, kills, thefts and obstacles. Packets are counted where
// none may be lost, and where the way itself was gone they have to find it again.
import assert from 'node:assert/strict';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { LocalService } from '#gen/longline/local/v1/local_pb.js';
import { NetworkBackend, NetworkState, type NetworkStatus } from '#gen/longline/v1/network_pb.js';
import { SecretKey } from '../../src/core/wireguard-keys.ts';
import { UapiDevice, uapiPath } from '../../src/platform/wireguard/uapi-device.ts';
import { LabHost, NetworkLab, wireguardMissing } from '../fixtures/netns.ts';
import { NetworkProcess } from '../fixtures/network-process.ts';
import { Flow } from '../fixtures/traffic.ts';
import { silentPeer } from '../fixtures/tunnel-pair.ts';

const LIMIT_MS = 60_000;

/** A host that keeps one network, by a file. */
class Keeper implements AsyncDisposable {
  readonly host: LabHost;
  readonly address: string;
  readonly key = SecretKey.generate();
  readonly #folder: string;
  #process: NetworkProcess | undefined;

  constructor(host: LabHost, address: string, folder: string) {
    this.host = host;
    this.address = address;
    this.#folder = join(folder, host.tunnel);
  }

  get device(): UapiDevice {
    return new UapiDevice(uapiPath(this.host.tunnel));
  }

  get running(): NetworkProcess {
    if (this.#process === undefined) throw new Error(`nothing runs on ${this.host.namespace}`);
    return this.#process;
  }

  /** One file takes the place of the other at once. */
  async write(peers: readonly (readonly [key: string, endpoint: string, prefix: string])[], more = ''): Promise<void> {
    const blocks = peers.map(([key, endpoint, prefix]) => {
      return `[[network.default.peers]]\npublic_key = "${key}"\nendpoint = "${endpoint}"\nallowed_ips = ["${prefix}"]\n`;
    });
    const own = `[network.default]\nenable_wireguard = true\ninterface = "${this.host.tunnel}"\nlisten_port = 51820\n`;
    const keyed = `private_key_path = "${this.#folder}.key"\naddresses = ["${this.address}/24"]\n`;
    await writeFile(`${this.#folder}.key`, this.key.reveal(), { mode: 0o600 });
    await writeFile(`${this.#folder}.new`, `${own}${keyed}${more}\n${blocks.join('')}`);
    await rename(`${this.#folder}.new`, `${this.#folder}.toml`);
  }

  /** As `write`, with another keeper as a peer and further ones that never answer. */
  async join(other: Keeper, more = '', silent: readonly number[] = []): Promise<void> {
    const others = silent.map((n) => {
      const { endpoint, prefixes, publicKey } = silentPeer(n);
      return [publicKey, endpoint!, [...prefixes][0]!] as const;
    });
    const peer = [other.key.publicKey(), `${other.host.address}:51820`, `${other.address}/32`] as const;
    await this.write([peer, ...others], more);
  }

  async start(): Promise<void> {
    const args = ['--config', `${this.#folder}.toml`, '--state-dir', this.#folder, '--reconcile-interval', '1s'];
    this.#process = await NetworkProcess.start(this.host, args);
  }

  async network(): Promise<NetworkStatus | undefined> {
    using client = this.running.client();
    return (await client.call(LocalService.method.listNetworks, {})).networks[0];
  }

  /** Resolves with the network once it is so. */
  async until(what: string, isSo: (network: NetworkStatus) => boolean): Promise<NetworkStatus> {
    const endsAt = performance.now() + LIMIT_MS;
    for (;;) {
      const network = await this.network();
      if (network !== undefined && isSo(network)) return network;
      if (performance.now() > endsAt)
        throw new Error(`in vain was waited until ${what}: ${this.running.log.join('\n')}`);
      await delay(50);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
  }
}

/** Where switches of the kernel can't be written, as in most containers. */
class ReadOnlyHost extends LabHost {
  override get within(): readonly [string, ...string[]] {
    const script = 'mount -o bind,ro /proc/sys /proc/sys && exec "$@"';
    return [...super.within, 'unshare', '-m', 'sh', '-c', script, 'sh'];
  }
}

const isUp = ({ state }: NetworkStatus) => state === NetworkState.UP;

describe('a network under traffic', { skip: wireguardMissing() ?? false }, () => {
  let lab: NetworkLab;
  let folder: string;
  let near: Keeper;
  let far: Keeper;
  before(async () => {
    lab = await NetworkLab.create(3);
    folder = await mkdtemp(join(tmpdir(), 'll-faults-'));
    const [a, b] = lab.hosts as [LabHost, LabHost, LabHost];
    [near, far] = [new Keeper(a, '10.70.0.1', folder), new Keeper(b, '10.70.0.2', folder)];
    await near.join(far);
    await far.join(near);
    await Promise.all([near.start(), far.start()]);
  });
  after(async () => {
    for (const keeper of [near, far]) await keeper?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  async function flow(): Promise<Flow> {
    return await Flow.start(near.host, far.host, far.address);
  }

  it('is carried by user space where the kernel has no WireGuard, and loses nothing while its file changes', async () => {
    const { backend } = await near.until('it is up', isUp);
    assert.equal(backend, NetworkBackend.WIREGUARD_GO);
    await using counted = await flow();
    for (let round = 1; round <= 3; round++) {
      const silent = Array.from({ length: 40 }, (_, n) => round * 20 + n);
      await near.join(far, '', silent);
      const keys = new Set([far.key.publicKey(), ...silent.map((n) => silentPeer(n).publicKey)]);
      await near.until('the peers are those of the file', ({ peers }) => {
        return peers.length === keys.size && peers.every(({ publicKey }) => keys.has(publicKey));
      });
      await counted.passed(50);
    }
    assert.equal((await counted.stop()).lost, 0);
  });

  it('loses nothing while its keeper is killed and another takes over', async () => {
    await using counted = await flow();
    await near.running.stop('SIGKILL');
    await counted.passed(100);
    await near.start();
    await near.until('it is taken over', isUp);
    await counted.passed(100);
    assert.equal((await counted.stop()).lost, 0);
  });

  it('is mended when its daemon is killed, and when somebody removes its socket', async () => {
    await using counted = await flow();
    const daemon = await near.host.pidOf('wireguard-go');
    process.kill(daemon!, 'SIGKILL');
    await counted.passed(100);
    assert.notEqual(await near.host.pidOf('wireguard-go'), daemon);
    await rm(uapiPath(near.host.tunnel));
    await counted.passed(100);
    await near.until('it is up', isUp);
    assert.ok(near.running.log.some((line) => line.includes('interface_lost')));
  });

  it('leaves what others put there alone until it is told to own it', async () => {
    const stranger = silentPeer(60_000);
    const fields = { addPrefixes: [...stranger.prefixes] };
    const { publicKey } = stranger;
    await near.device.write({ peers: [{ kind: 'add', publicKey, fields, whole: stranger }] });
    const told = await near.until('it is told', ({ problems }) =>
      problems.some(({ field }) => field === 'foreign_peers'),
    );
    assert.equal(told.state, NetworkState.UP, 'which is no fault');
    assert.ok((await near.device.read()).peers.has(publicKey));
    await near.join(far, 'foreign_peers = "own"');
    await near.until('it is gone', ({ peers }) => !peers.some((peer) => peer.publicKey === publicKey));
  });

  it('does not touch an interface that somebody else made, and takes its name once that is gone', async () => {
    const host = lab.hosts[2]!;
    await using keeper = new Keeper(host, '10.70.0.3', folder);
    await host.ip('link', 'add', host.tunnel, 'type', 'bridge');
    await keeper.join(far);
    await keeper.start();
    const refused = await keeper.until('it has failed', ({ state }) => state === NetworkState.FAILED);
    assert.match(refused.problems[0]!.message, /did not make/);
    assert.match(await host.ip('-d', 'link', 'show', host.tunnel), /bridge/);
    await host.ip('link', 'del', host.tunnel);
    await keeper.until('it is up', isUp);
  });

  it('says so where it may not switch on forwarding, and does all the rest', async () => {
    const { address, namespace, tunnel } = lab.hosts[2]!;
    const host = new ReadOnlyHost(namespace, tunnel, address);
    await using keeper = new Keeper(host, '10.70.0.3', folder);
    await lab.hosts[2]!.run('sysctl', '-qw', 'net.ipv4.ip_forward=0');
    await keeper.join(far, 'forward = true');
    await keeper.start();
    const told = await keeper.until('it was looked at', ({ state }) => state === NetworkState.DEGRADED);
    assert.ok(told.problems.some(({ message }) => /read-only/.test(message)));
    assert.equal(told.keys.length, 1);
  });
});
