// BPF programs on the real kernel: from a signed artifact to a function that runs, other revisions taking over under traffic, and
// programs found again by a next process. bpftool does the first as two processes and the last as one; it can't do the second,
// having no links for XDP.
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fromJsonString } from '@bufbuild/protobuf';
import { ProgramMetadataSchema } from '#gen/longline/v1/program_pb.js';
import { runCommand } from '../../deploy/dev/command.ts';
import type { AttachOrder, RevisionPlace } from '../../src/capabilities/programs/ports.ts';
import { checkObject, openArtifact } from '../../src/core/programs/artifact.ts';
import { publicHalf } from '../../src/core/programs/artifact-key.ts';
import { readMetadata } from '../../src/core/programs/metadata-message.ts';
import { readProgramSpec } from '../../src/core/programs/program-spec.ts';
import { resolveSpec } from '../../src/core/programs/resolved-spec.ts';
import { verifyArtifact } from '../../src/core/programs/verification.ts';
import { BpfKernel } from '../../src/platform/ebpf/bpf-kernel.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { KernelLab, kernelLabMissing } from '../fixtures/bpf/kernel-lab.ts';
import { type ObjectName, usualCounter } from '../fixtures/bpf/objects.ts';
import { programMissing } from '../fixtures/netns.ts';
import { type ArtifactAuthor, newAuthor, testArtifact } from '../fixtures/test-artifact.ts';
import { type Bench, type BenchGoal, type BenchRow, percentile } from './bench.ts';

const LIMIT_MS = 30_000;

interface Size {
  readonly loads: number;
  readonly swaps: number;
  readonly packets: number;
  readonly programs: number;
}

function atMost(value: number): BenchGoal {
  return { kind: 'at most', value };
}

interface LoadOptions {
  readonly attach?: string;
  readonly carryFrom?: RevisionPlace;
}

class Bed {
  readonly lab: KernelLab;
  readonly author: ArtifactAuthor = newAuthor();
  readonly kernel: BpfKernel;
  readonly #instanceId = randomUUID();

  constructor(lab: KernelLab) {
    this.lab = lab;
    this.kernel = this.process();
  }

  /** What a next process of the same agent has. */
  process(): BpfKernel {
    return new BpfKernel({
      instanceId: this.#instanceId,
      mountPoint: this.lab.pins,
      log: createLogger({ level: 'error', name: 'bench' }),
    });
  }

  /** Opens, verifies, checks, loads and pins an artifact, as a host does that has its bytes. */
  async load(bytes: Uint8Array, place: RevisionPlace, how: LoadOptions = {}): Promise<AttachOrder> {
    const { digest, metadataBytes, object, signatures } = await openArtifact(bytes);
    const metadata = readMetadata(fromJsonString(ProgramMetadataSchema, Buffer.from(metadataBytes).toString()));
    checkObject(metadata, object);
    verifyArtifact({
      ...{ metadataBytes, signatures, allowUnsigned: false, nowMs: Date.now() },
      keys: [publicHalf(this.author.key)],
      expiresAtMs: metadata.expiresAtMs,
    });
    const { attach = `xdp:${this.lab.interfaces[0]}`, carryFrom } = how;
    const asked = { name: place.program, artifact: digest, attach: [attach], parameters: {}, renewal: 0n };
    const { functions, writes } = resolveSpec(readProgramSpec(asked), metadata);
    const { objectSha256 } = metadata;
    const request = { place, object, functions, writes, carryFrom, freshMaps: [], objectSha256 };
    const outcome = await this.kernel.load(request);
    if (outcome.kind === 'refused') throw outcome.error;
    const placed = functions.find(({ points }) => points.length > 0)!;
    return { place, function: placed.name, type: placed.type, point: placed.points[0]!, slot: 'main' };
  }

  async artifact(name: ObjectName): Promise<Uint8Array> {
    return await testArtifact(name, this.author);
  }
}

async function bpftool(...args: readonly string[]): Promise<void> {
  const { code, stderr } = await runCommand(['bpftool', ...args], { timeoutMs: LIMIT_MS });
  if (code !== 0) throw new Error(`bpftool ${args.join(' ')}: ${stderr}`);
}

/** From bytes of an artifact to a function that is attached and pinned, in milliseconds of each. */
async function loadings(bed: Bed, name: ObjectName, attach: string, rounds: number): Promise<readonly number[]> {
  const bytes = await bed.artifact(name);
  const place = { program: 'bench', revision: 1 };
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now();
    const order = await bed.load(bytes, place, { attach });
    await bed.kernel.attach(order);
    times.push(performance.now() - startMs);
    await bed.kernel.detach(place.program, order.slot);
    await bed.kernel.unload(place);
  }
  return times;
}

/** The same for an object that nobody signed, by two processes. */
async function loadingsByTool(bed: Bed, rounds: number): Promise<readonly number[]> {
  const object = join(import.meta.dirname, '../fixtures/bpf/object/xdp-counter.o');
  const [name] = bed.lab.interfaces;
  const pin = join(bed.lab.pins, 'bpftool');
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now();
    await bpftool('prog', 'load', object, pin);
    await bpftool('net', 'attach', 'xdp', 'pinned', pin, 'dev', name);
    times.push(performance.now() - startMs);
    await bpftool('net', 'detach', 'xdp', 'dev', name);
    await rm(pin);
  }
  return times;
}

async function loading(bed: Bed, { loads }: Size): Promise<readonly BenchRow[]> {
  const [name] = bed.lab.interfaces;
  const cgroup = await loadings(bed, 'cgroup-connect', `cgroup:${bed.lab.cgroup}`, loads);
  const tc = await loadings(bed, 'tc-counter', `count_ingress@tc:${name}:ingress`, loads);
  const xdp = await loadings(bed, 'xdp-counter', `xdp:${name}`, loads);
  const theirs = await loadingsByTool(bed, Math.min(loads, 50));
  const peer = (fraction: number) => ({ name: 'bpftool, unsigned', value: percentile(theirs, fraction) });
  const [half, last] = [0.5, 0.99];
  return [
    { metric: 'signed artifact → attached to a control group, p50', unit: 'ms', ours: percentile(cgroup, half) },
    { metric: 'the same, p99', unit: 'ms', ours: percentile(cgroup, last), goal: atMost(5) },
    { metric: 'signed artifact → attached to tc, p50', unit: 'ms', ours: percentile(tc, half) },
    { metric: 'the same, p99', unit: 'ms', ours: percentile(tc, last), goal: atMost(5) },
    { metric: 'signed artifact → attached as XDP, p50', unit: 'ms', ours: percentile(xdp, half), peer: peer(half) },
    { metric: 'the same, p99', unit: 'ms', ours: percentile(xdp, last), peer: peer(last), goal: atMost(5) },
  ];
}

/** Two revisions that take over from each other while packets pass: each packet is counted by one of them. */
async function swapping(bed: Bed, { packets, swaps }: Size): Promise<readonly BenchRow[]> {
  const first = { program: 'swapped', revision: 1 };
  const second = { program: 'swapped', revision: 2 };
  const one = await bed.load(await bed.artifact('xdp-counter'), first);
  const other = await bed.load(await bed.artifact('xdp-counter-v2'), second, { carryFrom: first });
  await bed.kernel.attach(one);
  const received = bed.lab.received();
  const times: number[] = [];
  let left = packets;
  const traffic = (async () => {
    for (; left > 0; left -= 100) await bed.lab.send(100);
  })();
  for (let swap = 0; swap < swaps; swap++) {
    const due = packets - ((swap + 1) * packets) / (swaps + 1);
    while (left > due) await new Promise(setImmediate);
    const startMs = performance.now();
    await bed.kernel.replace(swap % 2 === 0 ? other : one);
    times.push(performance.now() - startMs);
  }
  await traffic;
  const [counted = 0n] = await bed.kernel.readCounters(first, [usualCounter('packets')]);
  const unseen = bed.lab.received() - received - Number(counted);
  await bed.kernel.detach('swapped', one.slot);
  for (const place of [first, second]) await bed.kernel.unload(place);
  return [
    { metric: `unprocessed in ${swaps} upgrades and ways back`, unit: 'packets', ours: unseen, goal: atMost(0) },
    { metric: 'one of them, p50', unit: 'ms', ours: percentile(times, 0.5) },
  ];
}

/** What a next process finds. */
async function adoption(bed: Bed, { programs }: Size): Promise<BenchRow> {
  const bytes = await bed.artifact('xdp-counter');
  const places = Array.from({ length: programs }, (_, number) => ({ program: `p${number}`, revision: 1 }));
  for (const place of places) await bed.load(bytes, place);
  await using next = bed.process();
  await next.support();
  const startMs = performance.now();
  const found = await next.list();
  const ours = performance.now() - startMs;
  if (found.length !== programs) throw new Error(`${found.length} programs were found, not ${programs}`);
  const theirsStartMs = performance.now();
  await bpftool('--bpffs', '--json', 'prog', 'show');
  const peer = { name: 'bpftool prog show', value: performance.now() - theirsStartMs };
  for (const place of places) await bed.kernel.unload(place);
  return { metric: `${programs} programs found again`, unit: 'ms', ours, peer, goal: atMost(10) };
}

/** The bench. */
export const bench: Bench = {
  name: 'programs',
  description: 'BPF programs loaded, swapped under traffic and found again',
  missing: () => kernelLabMissing() ?? programMissing('bpftool', 'bpftool'),
  run: async ({ quick, say }) => {
    const size = quick
      ? { loads: 10, swaps: 10, packets: 2000, programs: 10 }
      : { loads: 300, swaps: 100, packets: 200_000, programs: 100 };
    await using lab = await KernelLab.create();
    const bed = new Bed(lab);
    await using _kernel = bed.kernel;
    await bed.kernel.support();
    say('loading');
    const rows = [...(await loading(bed, size))];
    say('taking over');
    rows.push(...(await swapping(bed, size)));
    say('finding again');
    rows.push(await adoption(bed, size));
    return rows;
  },
};
