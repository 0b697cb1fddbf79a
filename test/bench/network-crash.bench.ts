// What keeps a network of 10,000 peers is killed while 2,000 packets a second pass through it, and another takes it over. A start
// without any peer stands beside, since most of a start is the program's own.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SecretKey } from '../../src/core/wireguard-keys.ts';
import { type LabHost, NetworkLab, wireguardMissing } from '../fixtures/netns.ts';
import { NetworkProcess } from '../fixtures/network-process.ts';
import { Flow } from '../fixtures/traffic.ts';
import { peerOf, silentPeer, TunnelEnd } from '../fixtures/tunnel-pair.ts';
import { WireguardDaemon } from '../fixtures/wireguard-daemon.ts';
import { type Bench, median } from './bench.ts';

const NEAR = '10.9.0.1';
const FAR = '10.9.0.2';

interface Files {
  readonly key: SecretKey;
  readonly withPeers: string;
  readonly without: string;
  readonly state: string;
  readonly emptyState: string;
}

async function writeFiles(folder: string, host: LabHost, far: TunnelEnd, peers: number): Promise<Files> {
  const key = SecretKey.generate();
  const path = (name: string) => join(folder, name);
  await writeFile(path('key'), key.reveal(), { mode: 0o600 });
  const all = [peerOf(far.key.publicKey(), { endpoint: far.endpoint, prefixes: new Set([`${FAR}/32`]) })];
  for (let n = 1; n < peers; n++) all.push(silentPeer(n));
  const blocks = all.map(({ endpoint, prefixes, publicKey }) => {
    const allowed = JSON.stringify([...prefixes]);
    return `[[network.n.peers]]\npublic_key = "${publicKey}"\nendpoint = "${endpoint}"\nallowed_ips = ${allowed}\n`;
  });
  const own = `[network.n]\nenable_wireguard = true\ninterface = "${host.tunnel}"\nlisten_port = 51820\n`;
  // One route for all, as with a mesh.
  const rest = `private_key_path = "${path('key')}"\naddresses = ["10.9.0.1/8"]\ntable = "off"\n`;
  await writeFile(path('networks.toml'), `${own}${rest}${blocks.join('')}`);
  await writeFile(path('empty.toml'), '');
  const [withPeers, without] = [path('networks.toml'), path('empty.toml')];
  return { key, withPeers, without, state: path('state'), emptyState: path('empty') };
}

/** Milliseconds from the start of the process until it says that it is ready. */
async function startMs(host: LabHost, file: string, state: string): Promise<[NetworkProcess, number]> {
  const startedMs = performance.now();
  const process = await NetworkProcess.start(host, ['--config', file, '--state-dir', state]);
  return [process, performance.now() - startedMs];
}

async function killed([process, ms]: [NetworkProcess, number]): Promise<number> {
  await process.stop('SIGKILL');
  return ms;
}

/** The bench. */
export const bench: Bench = {
  name: 'network-crash',
  description: 'kill -9 of what keeps a WireGuard network of 10,000 peers, under traffic',
  missing: wireguardMissing,
  run: async ({ quick, say }) => {
    const [peers, rounds] = quick ? [500, 1] : [10_000, 5];
    await using stack = new AsyncDisposableStack();
    const lab = stack.use(await NetworkLab.create(2));
    const [nearHost, farHost] = lab.hosts as [LabHost, LabHost];
    const folder = await mkdtemp(join(tmpdir(), 'll-crash-'));
    stack.defer(async () => await rm(folder, { recursive: true, force: true }));
    const daemon = stack.use(await WireguardDaemon.start(farHost));
    const far = new TunnelEnd(daemon, FAR);
    const files = await writeFiles(folder, nearHost, far, peers);
    await daemon.up([`${FAR}/8`]);
    const near = peerOf(files.key.publicKey(), { prefixes: new Set([`${NEAR}/32`]) });
    await far.reconcile(far.wanted([near]));
    say(`${peers} peers, made`);
    const [first, madeMs] = await startMs(nearHost, files.withPeers, files.state);
    const open = { packetsPerSecond: 2000, window: Number.POSITIVE_INFINITY };
    await using flow = await Flow.start(nearHost, farHost, FAR, open);
    const [adopted, bare]: [number[], number[]] = [[], []];
    say('killed and taken over');
    await first.stop('SIGKILL');
    for (let round = 0; round < rounds; round++) {
      adopted.push(await killed(await startMs(nearHost, files.withPeers, files.state)));
      bare.push(await killed(await startMs(nearHost, files.without, files.emptyState)));
      await flow.passed(500);
    }
    const { lost } = await flow.stop();
    const dropped = (await nearHost.socketDrops()) + (await farHost.socketDrops());
    const more = median(adopted) - median(bare);
    const without = { name: 'start without a peer', value: median(bare) };
    return [
      { metric: `lost in ${rounds} kills`, unit: 'packets', ours: lost - dropped, goal: { kind: 'at most', value: 0 } },
      { metric: 'dropped by full sockets, the machine being busy', unit: 'packets', ours: dropped },
      { metric: `${peers} peers adopted`, unit: 'ms', ours: more, goal: { kind: 'at most', value: 250 } },
      { metric: 'start to ready, adopting', unit: 'ms', ours: median(adopted), peer: without },
      { metric: 'start to ready, making all', unit: 'ms', ours: madeMs, peer: without },
    ];
  },
};
