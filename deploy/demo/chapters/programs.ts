// Programs: an agent on a host of its own, a network namespace that the chapter makes and takes away, counts packets in its kernel. The
// counter is upgraded under traffic, outlives its agent, and a version that errs goes back by itself.
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { create, toJsonString } from '@bufbuild/protobuf';
import { ProgramMetadataSchema } from '#gen/longline/v1/program_pb.js';
import type { ObjectName } from '../../../test/fixtures/bpf/objects.ts';
import { netnsMissing } from '../../../test/fixtures/netns.ts';
import { bpfMissing } from '../../../test/fixtures/private-bpffs.ts';
import { ProgramHost } from '../../../test/fixtures/program-host.ts';
import { metadataOf } from '../../../test/fixtures/test-artifact.ts';
import { Flow } from '../../../test/fixtures/traffic.ts';
import type { Chapter } from '../chapter.ts';
import type { Report } from '../report.ts';
import type { Stage } from '../stage.ts';

const AGENT = 'edge';
const NAME = 'counter';
/** That pass before and after each thing that happens. */
const PACKETS = 100;
const OBJECTS = join(import.meta.dirname, '../../../test/fixtures/bpf/object');

class ProgramDemo {
  readonly #stage: Stage;
  readonly #report: Report;
  readonly host: ProgramHost;

  constructor(stage: Stage, report: Report, host: ProgramHost) {
    this.#stage = stage;
    this.#report = report;
    this.host = host;
  }

  /** `longline program …` to its end; throws unless it succeeds. */
  async program(...args: readonly string[]): Promise<void> {
    this.#stage.screen.command(['program', ...args]);
    const { code, stderr, stdout } = await this.host.program(...args);
    this.#stage.screen.output(Buffer.from(stderr));
    this.#stage.screen.output(stdout);
    if (code !== 0) throw new Error(stderr.trim());
  }

  /** Packs an object with the author's key; gives the path of the artifact. */
  async pack(name: ObjectName, version: string): Promise<string> {
    const { folder } = this.host;
    const metadata = join(folder, `${version}.json`);
    // What is known of the object only when it is packed.
    const init = metadataOf(name, { version, objectSha256: '', objectSize: 0n });
    await writeFile(metadata, toJsonString(ProgramMetadataSchema, create(ProgramMetadataSchema, init)));
    const out = join(folder, `counter-${version}.tar.zst`);
    const object = join(OBJECTS, `${name}.o`);
    const key = join(folder, 'author.key');
    await this.program('pack', '--object', object, '--metadata', metadata, '--key', key, '--out', out);
    return out;
  }

  async load(artifact: string): Promise<void> {
    await this.program('load', '--agent', AGENT, '--artifact', artifact, '--attach', 'xdp:eth0', '--ttl', '1h');
  }

  /** A step during which packets pass: none may be lost, and none go uncounted. */
  async counted(step: string, action: () => Promise<void>): Promise<void> {
    await this.#report.step(step, 'every packet counted', async () => {
      const before = (await this.host.view(NAME))?.figures?.packets ?? 0;
      await using flow = await Flow.start(this.host.home, this.host.edge, this.host.edge.address);
      await flow.passed(PACKETS);
      await action();
      await flow.passed(PACKETS);
      const { lost, sent } = await flow.stop();
      if (lost > 0) return `${lost} of ${sent} packets lost`;
      const { figures } = await this.host.until('all packets counted', NAME, (view) => {
        return (view.figures?.packets ?? 0) - before >= sent;
      });
      this.#stage.screen.say(
        `${sent} packets sent, ${figures!.packets - before} counted, others of the host among them`,
      );
      return 'every packet counted';
    });
  }
}

async function play(demo: ProgramDemo, report: Report, stage: Stage): Promise<void> {
  const { host } = demo;
  await report.step('a packet counter, packed and signed', 'running', async () => {
    await demo.load(await demo.pack('xdp-counter', '1.0.0'));
    return (await host.view(NAME))?.status?.current === null ? 'not running' : 'running';
  });
  await demo.counted('live counts', async () => {
    await demo.program('watch', '--agent', AGENT, '--count', '3');
  });
  await demo.counted('upgraded under traffic', async () => {
    await demo.load(await demo.pack('xdp-counter-v2', '2.0.0'));
  });
  await demo.counted('its agent is killed, and started again', async () => {
    await host.agent.kill9();
    host.agent.start();
    await host.agent.online();
  });
  await report.step('a version that errs on every packet', 'back at 2.0.0 by itself', async () => {
    await using _flow = await Flow.start(host.home, host.edge, host.edge.address);
    await demo.load(await demo.pack('xdp-counter-bad', '3.0.0'));
    const { status } = await host.until('rolled back', NAME, (view) => view.status?.last_rollback != null);
    await demo.program('rollbacks', '--agent', AGENT);
    stage.screen.say(`quarantined on this host: ${status!.quarantined ? 'yes' : 'no'}`);
    return `back at ${status!.current?.version} by itself`;
  });
  await report.step('unloaded', 'done', async () => {
    await demo.program('unload', NAME, '--agent', AGENT, '--wait');
    return 'done';
  });
}

/** Chapter "programs". */
export const programsChapter: Chapter = {
  title: 'Programs: eBPF that is watched, upgraded and rolled back',
  run: async (stage, report) => {
    const missing = netnsMissing() ?? bpfMissing();
    if (missing !== undefined) return stage.screen.say(`Not shown here: it ${missing}.`);
    let left: readonly string[] = [];
    {
      await using stack = new AsyncDisposableStack();
      let demo: ProgramDemo | undefined;
      await report.step('an agent on a host of its own', 'online', async () => {
        const host = stack.use(await ProgramHost.start(AGENT, [], { launcher: true }));
        left = [host.folder, host.bpffs.folder, host.fleet.folder, `/run/netns/${host.edge.namespace}`];
        demo = new ProgramDemo(stage, report, host);
        return 'online';
      });
      if (demo !== undefined) await play(demo, report, stage);
    }
    await report.step('host, pins and files of it', 'gone', async () => {
      const found = left.filter(existsSync);
      return found.length === 0 ? 'gone' : found.join(', ');
    });
  },
};
