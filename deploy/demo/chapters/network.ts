// Networks: two agents on hosts of their own, network namespaces that the chapter makes and takes away, are joined by a mesh.
// Numbered packets pass through their tunnel while a third one comes and goes, a key is replaced, and agent and controller are killed.
import { existsSync } from 'node:fs';
import { type Fleet, startFleet, type TestAgent } from '../../../test/fixtures/fleet.ts';
import { type LabHost, NetworkLab, wireguardMissing } from '../../../test/fixtures/netns.ts';
import { Flow } from '../../../test/fixtures/traffic.ts';
import type { Chapter } from '../chapter.ts';
import type { Report } from '../report.ts';
import type { Stage } from '../stage.ts';

const MESH = 'demo';
const IDS = ['north', 'south', 'guest'] as const;
const ADDRESSES = ['10.77.0.1', '10.77.0.2'] as const;
/** That pass before and after each thing that happens. */
const PACKETS = 100;

class NetworkDemo {
  readonly #stage: Stage;
  readonly #report: Report;
  readonly fleet: Fleet;
  readonly agents: readonly TestAgent[];
  readonly #hosts: readonly LabHost[];

  constructor(stage: Stage, report: Report, fleet: Fleet, agents: readonly TestAgent[], hosts: readonly LabHost[]) {
    this.#stage = stage;
    this.#report = report;
    this.fleet = fleet;
    this.agents = agents;
    this.#hosts = hosts;
  }

  /** Where an agent's host is reached from outside of the tunnel. */
  addressOf(place: number): string {
    return this.#hosts[place]!.address;
  }

  /** `longline network …` to its end; throws unless it succeeds. */
  async network(...args: readonly string[]): Promise<void> {
    this.#stage.screen.command(['network', ...args]);
    const { code, stderr, stdout } = await this.fleet.longline('network', ...args);
    this.#stage.screen.output(stdout);
    if (code !== 0) throw new Error(stderr.trim());
  }

  /** A step during which packets pass in both directions: none may be lost. */
  async counted(step: string, action: () => Promise<void>): Promise<void> {
    await this.#report.step(step, 'no packet lost', async () => {
      const [north, south] = this.#hosts as [LabHost, LabHost];
      await using there = await Flow.start(north, south, ADDRESSES[1]);
      await using back = await Flow.start(south, north, ADDRESSES[0]);
      await Promise.all([there.passed(PACKETS), back.passed(PACKETS)]);
      await action();
      await Promise.all([there.passed(PACKETS), back.passed(PACKETS)]);
      const results = [await there.stop(), await back.stop()];
      const [sent, lost] = [sum(results.map((one) => one.sent)), sum(results.map((one) => one.lost))];
      const silenceMs = Math.max(...results.map((one) => one.longestSilenceMs));
      this.#stage.screen.say(`${sent} packets sent, ${lost} lost; longest silence ${Math.round(silenceMs)} ms`);
      return lost === 0 ? 'no packet lost' : `${lost} of ${sent} lost`;
    });
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

async function play(demo: NetworkDemo, report: Report): Promise<void> {
  const [north, south] = IDS;
  await report.step('mesh of two agents', 'up', async () => {
    const members = [north, south].flatMap((id, place) => ['--member', `${id}=${demo.addressOf(place)}`]);
    await demo.network('mesh', 'create', MESH, '--pool', '10.77.0.0/24', ...members, '--wait');
    await demo.network('mesh', 'get', MESH);
    return 'up';
  });
  await demo.counted('a third joins and leaves', async () => {
    await demo.network('mesh', 'join', MESH, '--agent', IDS[2], '--wait');
    await demo.network('mesh', 'leave', MESH, '--agent', IDS[2], '--wait');
  });
  await demo.counted('the key of one is replaced', async () => {
    await demo.network('rotate-key', '--mesh', MESH, '--agent', north, '--wait');
  });
  await demo.counted('its agent is killed, and started again', async () => {
    const [agent] = demo.agents as [TestAgent];
    await agent.kill9();
    agent.start();
    await agent.online();
  });
  await demo.counted('the controller is killed, and started again', async () => {
    await demo.fleet.controller.stop('SIGKILL');
    await demo.fleet.startController();
  });
  await report.step('mesh taken away', 'done', async () => {
    await demo.network('mesh', 'rm', MESH, '--wait');
    return 'done';
  });
}

/** Chapter "network". */
export const networkChapter: Chapter = {
  title: 'Networks: a WireGuard mesh that keeps its packets',
  run: async (stage, report) => {
    const missing = wireguardMissing();
    if (missing !== undefined) return stage.screen.say(`Not shown here: it ${missing}.`);
    let folder = '';
    let hosts: readonly LabHost[] = [];
    {
      await using stack = new AsyncDisposableStack();
      let demo: NetworkDemo | undefined;
      await report.step('three agents on hosts of their own', 'online', async () => {
        const lab = stack.use(await NetworkLab.create(IDS.length + 1));
        hosts = lab.hosts;
        const [home, ...others] = lab.hosts as [LabHost, ...LabHost[]];
        const fleet = stack.use(await startFleet({ launcher: true, at: home }));
        folder = fleet.folder;
        const agents = await Promise.all(
          IDS.map(async (id, place) => await fleet.enrolled(id, [], fleet.url, others[place]!.alone)),
        );
        demo = new NetworkDemo(stage, report, fleet, agents, others);
        return 'online';
      });
      if (demo !== undefined) await play(demo, report);
    }
    await report.step('hosts, daemons and files of it', 'gone', async () => {
      const left = [folder, ...hosts.map(({ namespace }) => `/run/netns/${namespace}`)].filter(existsSync);
      return left.length === 0 ? 'gone' : left.join(', ');
    });
  },
};
