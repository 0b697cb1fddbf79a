// 10,000 routes of an interface are set, 200 of them changed, and left as they are, each with the look afterwards that proves it;
// beside the same by `ip route`, a process for each route, as scripts do it.
import { MAIN_TABLE, type WantedLink } from '../../src/capabilities/network/link.ts';
import { reconcileLink } from '../../src/capabilities/network/link-reconcile.ts';
import { LinuxLinks } from '../../src/platform/routes/linux-links.ts';
import { MemoryLedger } from '../capabilities/network/link-model.ts';
import { labCommands, labSysctls } from '../fixtures/lab-system.ts';
import { type LabHost, NetworkLab, netnsMissing } from '../fixtures/netns.ts';
import { type Bench, type BenchRow, median } from './bench.ts';

const ROUNDS = 5;
/** So many processes are timed; the peer's figures are multiples of it. */
const SAMPLED = 100;

function prefixOf(n: number): string {
  return `10.${n >> 14}.${(n >> 6) & 255}.${(n & 63) * 4}/30`;
}

function wanted(first: number, count: number): WantedLink {
  const routes = Array.from({ length: count }, (_, n) => ({ prefix: prefixOf(first + n), table: MAIN_TABLE }));
  return { interface: 'wg0', mtu: 1420, up: true, addresses: ['192.0.2.1/32'], routes, rules: [] };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

async function processPerRoute(host: LabHost): Promise<number> {
  const ms = await timed(async () => {
    for (let n = 0; n < SAMPLED; n++) await host.ip('route', 'add', prefixOf(500_000 + n), 'dev', 'wg0');
  });
  return ms / SAMPLED;
}

async function measure(host: LabHost, count: number, churn: number): Promise<readonly BenchRow[]> {
  const links = new LinuxLinks(labCommands(host), labSysctls(host));
  const ledger = new MemoryLedger();
  const bring = (link: WantedLink) => timed(() => reconcileLink(links, ledger, link));
  const set: number[] = [];
  const changed: number[] = [];
  const left: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    set.push(await bring(wanted(0, count)));
    changed.push(await bring(wanted(churn, count)));
    left.push(await bring(wanted(churn, count)));
    await bring(wanted(0, 0));
  }
  const each = await processPerRoute(host);
  const peer = (steps: number) => ({ name: `ip route, ${SAMPLED} timed`, value: each * steps });
  return [
    { metric: `${count} routes set, p50`, unit: 'ms', ours: median(set), peer: peer(count) },
    { metric: `${churn} of them replaced, p50`, unit: 'ms', ours: median(changed), peer: peer(2 * churn) },
    { metric: 'nothing to change, p50', unit: 'ms', ours: median(left) },
  ];
}

/** The bench. */
export const bench: Bench = {
  name: 'routes',
  description: '10,000 routes of an interface set, changed and left alone',
  missing: netnsMissing,
  run: async ({ quick }) => {
    await using lab = await NetworkLab.create(1);
    const [host] = lab.hosts as [LabHost];
    await host.ip(...'link add wg0 type veth peer name far0'.split(' '));
    await host.ip('link', 'set', 'far0', 'up');
    return await measure(host, quick ? 500 : 10_000, quick ? 10 : 200);
  },
};
