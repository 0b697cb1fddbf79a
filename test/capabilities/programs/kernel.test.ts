import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ProgramsCapability } from '../../../src/capabilities/programs/capability.ts';
import { DEFAULT_PROGRAMS_CONFIG, type ProgramsConfig } from '../../../src/capabilities/programs/config.ts';
import type { ProgramView } from '../../../src/capabilities/programs/status.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { silentLogger } from '../../../src/core/logger.ts';
import { artifactDigest } from '../../../src/core/programs/artifact.ts';
import { BpfKernel } from '../../../src/platform/ebpf/bpf-kernel.ts';
import { KernelLab, kernelLabMissing } from '../../fixtures/bpf/kernel-lab.ts';
import { bpfObject, type ObjectName, usualCounter } from '../../fixtures/bpf/objects.ts';
import { MemoryState } from '../jobs/jobs-fixture.ts';
import { type ArtifactDraft, applyFull, packed, spec, until } from './programs-fixture.ts';

const COUNTERS = {
  packets: usualCounter('packets'),
  violations: usualCounter('violations'),
  errors: usualCounter('errors'),
};
const COUNT = { name: 'count_packets', type: 'xdp', attach: ['xdp:in0'] } as const;

/** An agent that is started again and again over the kernel of this host. */
class KernelWorld implements AsyncDisposable {
  readonly state = new MemoryState();
  readonly artifacts = new Map<string, Uint8Array>();
  readonly kernel: BpfKernel;
  readonly #config: ProgramsConfig;
  #capability: ProgramsCapability | undefined;

  constructor(lab: KernelLab, config: Partial<ProgramsConfig> = {}) {
    this.#config = { ...DEFAULT_PROGRAMS_CONFIG, allowUnsigned: true, defaultTtlMs: 0, probationMs: 0, ...config };
    this.kernel = new BpfKernel({ instanceId: 'life', mountPoint: lab.pins, log: silentLogger });
  }

  async start(): Promise<ProgramsCapability> {
    const capability = new ProgramsCapability({
      kernel: this.kernel,
      artifacts: { get: async (digest) => this.artifacts.get(digest)!, keepOnly: async () => undefined },
      keys: { keys: async () => [], version: '1' },
      registry: undefined,
      announcements: { measured: () => undefined, changed: () => undefined, heartbeat: () => undefined },
      reports: { measured: () => undefined },
      config: this.#config,
      bootMs: () => performance.now(),
    });
    this.#capability = capability;
    const signal = new AbortController().signal;
    const host = { log: silentLogger, clock: systemClock, state: this.state, signal, emit: () => undefined };
    const availability = await capability.open(host);
    assert.ok(availability.available, JSON.stringify(availability));
    await capability.adopt();
    return capability;
  }

  /** Ends it; what is loaded stays. */
  async stop(): Promise<void> {
    await this.#capability?.[Symbol.asyncDispose]();
  }

  async artifact(object: ObjectName, draft: ArtifactDraft = {}): Promise<string> {
    const { bytes } = bpfObject(object);
    const artifact = await packed(bytes, { functions: [COUNT], more: { counters: COUNTERS }, ...draft });
    const digest = artifactDigest(artifact);
    this.artifacts.set(digest, artifact);
    return digest;
  }

  async packets(revision: number): Promise<bigint> {
    const [count] = await this.kernel.readCounters({ program: 'counter', revision }, [COUNTERS.packets]);
    return count!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    for (const { program, links, revisions } of await this.kernel.list()) {
      for (const { slot } of links) await this.kernel.detach(program, slot);
      for (const { place } of revisions) await this.kernel.unload(place);
    }
    await this.kernel[Symbol.asyncDispose]();
  }
}

const untilView = async (capability: ProgramsCapability, what: string, is: (view: ProgramView) => boolean) =>
  await until(what, () => capability.look().find(is));

describe('programs in the kernel of this host', { skip: kernelLabMissing() ?? false }, () => {
  let lab: KernelLab;
  before(async () => {
    lab = await KernelLab.create();
  });
  after(async () => await lab[Symbol.asyncDispose]());

  it('see every packet while they are updated, rolled back, and while the agent is away', async () => {
    await using world = new KernelWorld(lab);
    const artifacts = [
      await world.artifact('xdp-counter'),
      await world.artifact('xdp-counter-v2', { version: '2.0.0' }),
    ];
    let capability = await world.start();
    await applyFull(capability, 1, [spec('counter', artifacts[0]!)]);
    await untilView(capability, 'it is active', ({ life }) => life.kind === 'active');
    let generation = 1;
    const sent = await lab.flood(async () => {
      for (let round = 0; round < 20; round++) {
        generation += 1;
        const wanted = artifacts[generation % 2 === 0 ? 1 : 0]!;
        await applyFull(capability, generation, [spec('counter', wanted, { renewal: BigInt(generation) })]);
        await untilView(
          capability,
          'it is updated',
          ({ current, life }) => current?.artifact === wanted && life.kind === 'active',
        );
      }
      await world.stop();
      capability = await world.start();
      await untilView(capability, 'it is adopted', ({ life }) => life.kind === 'active');
      const request = { program: 'counter', artifact: undefined, reason: 'to see it', requestedBy: 'local' };
      assert.equal((await capability.rollBack(request)).error, undefined);
    });
    const [found] = await world.kernel.list();
    assert.equal(found?.revisions.length, 1);
    const { revision } = found!.revisions[0]!.place;
    assert.ok(sent > 1000, `${sent} packets are few`);
    assert.equal(await world.packets(revision), BigInt(sent));
  });

  it('that misbehave go back by themselves', async () => {
    await using world = new KernelWorld(lab, { checkIntervalMs: 100, rollbackDelayMs: 20, probationMs: 10_000 });
    const [good, bad] = [
      await world.artifact('xdp-counter'),
      await world.artifact('xdp-counter-bad', { version: '2.0.0' }),
    ];
    const capability = await world.start();
    await applyFull(capability, 1, [spec('counter', good)]);
    await untilView(capability, 'it runs', ({ life }) => life.kind === 'probation');
    await applyFull(capability, 2, [spec('counter', bad)]);
    await untilView(capability, 'the bad one runs', ({ current }) => current?.artifact === bad);
    await lab.flood(async () => {
      const view = await untilView(capability, 'it went back', ({ current }) => current?.artifact === good);
      assert.equal(view.lastRollback?.trigger, 'errors');
      assert.equal(view.quarantined, true);
    });
  });

  it('that the verifier refuses tell its log, and what ran runs', async () => {
    await using world = new KernelWorld(lab);
    const [good, refused] = [
      await world.artifact('xdp-counter'),
      await world.artifact('xdp-refused', { version: '2.0.0' }),
    ];
    const capability = await world.start();
    await applyFull(capability, 1, [spec('counter', good)]);
    await untilView(capability, 'it is active', ({ life }) => life.kind === 'active');
    await applyFull(capability, 2, [spec('counter', refused)]);
    const view = await untilView(capability, 'it is refused', ({ problems }) =>
      problems.some(({ field }) => field === 'verifier'),
    );
    assert.match(view.problems.find(({ field }) => field === 'verifier')!.verifierLog, /packet/);
    await lab.send(5);
    assert.equal(await world.packets(1), 5n);
  });

  it('are attached again to an interface that was made anew', async () => {
    await using world = new KernelWorld(lab, { checkIntervalMs: 100 });
    const artifact = await world.artifact('xdp-counter');
    const capability = await world.start();
    await applyFull(capability, 1, [spec('counter', artifact, { attach: ['xdp:in0', 'xdp:in1'] })]);
    await untilView(capability, 'it is active', ({ life }) => life.kind === 'active');
    await lab.removeInterface();
    await untilView(capability, 'it is told', ({ problems }) => problems.some(({ field }) => field === 'attach[1]'));
    await lab.makeInterface();
    await untilView(
      capability,
      'it is attached again',
      ({ problems, links }) => problems.length === 0 && links.length === 2,
    );
  });

  it('are taken over at places that can not be handed on by attaching beside', async () => {
    await using world = new KernelWorld(lab);
    const functions = [
      { name: 'count_calls', type: 'tracepoint', attach: ['tracepoint:syscalls:sys_enter_getpid'] },
    ] as const;
    const [one, two] = [
      await world.artifact('tracepoint', { functions }),
      await world.artifact('tracepoint', { functions, version: '2.0.0' }),
    ];
    const capability = await world.start();
    await applyFull(capability, 1, [spec('counter', one)]);
    await untilView(capability, 'it is active', ({ life }) => life.kind === 'active');
    await applyFull(capability, 2, [spec('counter', two)]);
    const view = await untilView(
      capability,
      'it is updated',
      ({ current, life }) => current?.artifact === two && life.kind === 'active',
    );
    assert.deepEqual(
      view.links.map(({ atomic }) => atomic),
      [false],
    );
    const [found] = await world.kernel.list();
    assert.equal(found?.links.length, 1);
    assert.equal(found?.revisions.length, 2);
  });
});
