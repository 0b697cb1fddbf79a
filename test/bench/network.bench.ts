// A WireGuard interface with 10,000 peers is changed while 2,000 packets a second pass through a tunnel to one of them: by our
// reconciliation, by `wg syncconf`, and by `wg setconf`, with the same changes on the same interface in the same run.
import type { PeerState } from '../../src/capabilities/network/device.ts';
import { isEmptyChange } from '../../src/capabilities/network/plan.ts';
import { reconcile } from '../../src/capabilities/network/reconcile.ts';
import { UapiDevice, uapiPath } from '../../src/platform/wireguard/uapi-device.ts';
import { programMissing, wireguardMissing } from '../fixtures/netns.ts';
import { Flow } from '../fixtures/traffic.ts';
import { newKey, peerOf, silentPeer, TunnelPair } from '../fixtures/tunnel-pair.ts';
import { type Bench, type BenchGoal, type BenchRow, median } from './bench.ts';
import { CountingSocket } from './network/counting-socket.ts';
import { WgTool } from './network/wg-tool.ts';

/** Whatever comes of it: a sender that waits would hide a loss of seconds. */
const OPEN_LOOP = { packetsPerSecond: 2000, window: Number.POSITIVE_INFINITY };

interface Size {
  readonly peers: number;
  readonly churn: number;
  readonly rounds: number;
}

class Bed {
  readonly pair: TunnelPair;
  readonly tool: WgTool;
  readonly size: Size;
  #first = 0;

  constructor(pair: TunnelPair, tool: WgTool, size: Size) {
    this.pair = pair;
    this.tool = tool;
    this.size = size;
  }

  /** All peers of the near end at present. */
  peers(): PeerState[] {
    const silent = Array.from({ length: this.size.peers - 1 }, (_, n) => silentPeer(this.#first + n));
    return [this.pair.farPeer(), ...silent];
  }

  /** The same after some went and as many came. */
  churned(): PeerState[] {
    this.#first += this.size.churn;
    return this.peers();
  }

  /** Milliseconds of each change, and what the flow lost over all of them. */
  async measure(change: (peers: readonly PeerState[]) => Promise<number>): Promise<Measured> {
    const { far, near } = this.pair;
    const drops = await this.drops();
    await using flow = await Flow.start(near.host, far.host, far.address, OPEN_LOOP);
    const times: number[] = [];
    for (let round = 0; round < this.size.rounds; round++) {
      await flow.passed(300);
      times.push(await change(this.churned()));
    }
    await flow.passed(300);
    return { ms: median(times), lost: await this.lostOf([flow], drops) };
  }

  /** Dropped so far by WireGuard's own sockets. */
  async drops(): Promise<number> {
    const { far, near } = this.pair;
    return (await near.host.socketDrops()) + (await far.host.socketDrops());
  }

  /** Ends flows and gives what they lost on the way: not what somebody was too slow to take, the machine being busy. */
  async lostOf(flows: readonly Flow[], dropsBefore: number): Promise<number> {
    let lost = 0;
    for (const flow of flows) {
      const result = await flow.stop();
      lost += result.lost - result.dropped;
    }
    return Math.max(0, lost - ((await this.drops()) - dropsBefore));
  }
}

interface Measured {
  readonly ms: number;
  readonly lost: number;
}

async function churn(bed: Bed): Promise<readonly BenchRow[]> {
  const { near } = bed.pair;
  const { rounds } = bed.size;
  const ours = await bed.measure(async (peers) => {
    const wanted = near.wanted(peers);
    const startMs = performance.now();
    await near.reconcile(wanted, true);
    const ms = performance.now() - startMs;
    const { change } = await near.reconcile(wanted);
    if (!isEmptyChange(change)) throw new Error(`a read found ${change.peers.length} peers that were not as wanted`);
    return ms;
  });
  const reading = await bed.measure(async (peers) => {
    const wanted = near.wanted(peers);
    const startMs = performance.now();
    await near.reconcile(wanted);
    return performance.now() - startMs;
  });
  const byTool = (verb: 'syncconf' | 'setconf') => async (peers: readonly PeerState[]) => {
    return await bed.tool.run(verb, near.host.tunnel, await bed.tool.file(near.wanted(peers)));
  };
  const sync = await bed.measure(byTool('syncconf'));
  const set = await bed.measure(byTool('setconf'));
  const syncconf = (value: number) => ({ name: 'wg syncconf', value });
  const setconf = (value: number) => ({ name: 'wg setconf', value });
  const lost = ours.lost + reading.lost;
  const metric = `lost in ${rounds} changes`;
  return [
    { metric: '2 % churn, in place, p50', unit: 'ms', ours: ours.ms, peer: syncconf(sync.ms), goal: atMost(10) },
    { metric: 'the same, what is there read first', unit: 'ms', ours: reading.ms, peer: syncconf(sync.ms) },
    { metric: '2 % churn, in place, p50', unit: 'ms', ours: ours.ms, peer: setconf(set.ms) },
    { metric, unit: 'packets', ours: lost, peer: syncconf(sync.lost), goal: atMost(0) },
    { metric, unit: 'packets', ours: lost, peer: setconf(set.lost) },
  ];
}

function atMost(value: number): BenchGoal {
  return { kind: 'at most', value };
}

/** Bytes that are written where all is as wanted. */
async function noChange(bed: Bed): Promise<BenchRow> {
  const { near } = bed.pair;
  const name = `${near.host.tunnel}r`;
  await using relay = await CountingSocket.listen(uapiPath(name), uapiPath(near.host.tunnel));
  const device = new UapiDevice(uapiPath(name));
  const wanted = near.wanted(bed.peers());
  const context = { writtenEndpoints: new Map<string, string>() };
  // The first pass finds out which WireGuard it speaks to, and mends what the tools before it did.
  const { writtenEndpoints } = await reconcile(device, wanted, context);
  const before = relay.setBytes;
  await reconcile(device, wanted, { writtenEndpoints });
  const ours = relay.setBytes - before;
  await bed.tool.run('syncconf', name, await bed.tool.file(wanted));
  const theirs = relay.setBytes - before - ours;
  const peer = { name: 'wg syncconf', value: theirs };
  return { metric: 'written where nothing changes', unit: 'bytes', ours, peer, goal: atMost(0) };
}

/** What both directions lose while the near end changes its key. */
async function rotation(bed: Bed, change: (switched: () => Promise<void>) => Promise<void>): Promise<number> {
  const { far, near } = bed.pair;
  const drops = await bed.drops();
  await using there = await Flow.start(near.host, far.host, far.address, OPEN_LOOP);
  await using back = await Flow.start(far.host, near.host, near.address, OPEN_LOOP);
  for (let round = 0; round < 3; round++) {
    await Promise.all([there.passed(500), back.passed(500)]);
    // As in a fleet, where the far end hears of it somewhat later.
    await change(async () => await there.attempted(5));
  }
  await Promise.all([there.passed(500), back.passed(500)]);
  return await bed.lostOf([there, back], drops);
}

async function rotations(bed: Bed): Promise<BenchRow> {
  const { far, near } = bed.pair;
  // What is known is from before the tools had their turn.
  await near.reconcile(near.wanted(bed.peers()));
  const ours = await rotation(bed, async (switched) => {
    const retired = peerOf(near.key.publicKey(), {});
    near.key = newKey();
    await near.reconcile(near.wanted(bed.peers()), true);
    await switched();
    await far.reconcile(far.wanted([retired, bed.pair.nearPeer()]), true);
    await far.reconcile(far.wanted([bed.pair.nearPeer()]));
  });
  const theirs = await rotation(bed, async (switched) => {
    const before = near.key.publicKey();
    near.key = newKey();
    const { endpoint, host, key } = near;
    await bed.tool.run('syncconf', host.tunnel, await bed.tool.file(near.wanted(bed.peers())));
    await switched();
    const added = ['peer', key.publicKey(), 'endpoint', endpoint, 'allowed-ips', `${near.address}/32`];
    await bed.tool.run('set', far.host.tunnel, 'peer', before, 'remove', ...added);
  });
  const peer = { name: 'wg syncconf, wg set', value: theirs };
  return { metric: 'lost in 3 changes of the key', unit: 'packets', ours, peer, goal: atMost(0) };
}

/** The bench. */
export const bench: Bench = {
  name: 'network',
  description: 'WireGuard with 10,000 peers changed under traffic',
  missing: () => wireguardMissing() ?? programMissing('wg', 'wireguard-tools'),
  run: async ({ quick, say }) => {
    const size = quick ? { peers: 500, churn: 5, rounds: 2 } : { peers: 10_000, churn: 100, rounds: 7 };
    await using tool = await WgTool.open();
    say(`${size.peers} peers`);
    await using pair = await TunnelPair.create(size.peers - 1);
    const bed = new Bed(pair, tool, size);
    say('churn');
    const rows = [...(await churn(bed))];
    say('nothing to change');
    rows.push(await noChange(bed));
    say('changes of the key');
    rows.push(await rotations(bed));
    return rows;
  },
};
