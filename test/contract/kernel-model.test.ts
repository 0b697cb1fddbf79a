// The kernel of this host and the one in memory do the same with whatever comes: orders made at random, and what each made of
// them, compared.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { AttachPoint, Kernel, LoadOutcome, ProgramType } from '../../src/capabilities/programs/ports.ts';
import { toLonglineError } from '../../src/core/errors.ts';
import { silentLogger } from '../../src/core/logger.ts';
import { Attachments } from '../../src/platform/ebpf/attachments.ts';
import { BpfKernel } from '../../src/platform/ebpf/bpf-kernel.ts';
import { KernelLab, kernelLabMissing } from '../fixtures/bpf/kernel-lab.ts';
import { bpfObject, type ObjectName } from '../fixtures/bpf/objects.ts';
import { FakeBpfHost } from '../fixtures/fake-bpf-host.ts';
import { FakeKernel } from '../fixtures/fake-kernel-programs.ts';
import { loadRequest } from './kernel-contract.ts';

const RUNS = 25;
const MOST_ORDERS = 25;

const OBJECTS = [
  'xdp-counter',
  'xdp-counter-v2',
  'xdp-counter-wide',
  'xdp-refused',
  'tc-counter',
  'cgroup-sock',
] as const;
const PROGRAMS = ['one', 'two'] as const;
const SLOTS = ['a', 'b'] as const;

type Order =
  | { readonly kind: 'load'; readonly object: ObjectName; readonly carry: number | undefined; readonly fresh: boolean }
  | { readonly kind: 'attach' | 'replace'; readonly function: number; readonly place: number; readonly slot: string }
  | { readonly kind: 'detach'; readonly slot: string }
  | { readonly kind: 'unload' }
  | { readonly kind: 'renew' };
type Addressed = Order & { readonly program: string; readonly revision: number };

/** Functions, with the places that are for their type. */
const FUNCTIONS: readonly (readonly [string, ProgramType, readonly number[]])[] = [
  ['count_packets', 'xdp', [0, 1]],
  ['count_ingress', 'tc', [2, 3]],
  ['count_egress', 'tc', [2, 3]],
  ['count_sockets', 'cgroup_sock', [4]],
];
/** Three of four go where they can. */
const aimed = fc.tuple(fc.nat(FUNCTIONS.length - 1), fc.nat(19), fc.nat(4)).map(([index, aim, any]) => {
  const places = FUNCTIONS[index]![2];
  return { function: index, place: aim < 15 ? places[aim % places.length]! : any };
});

const order: fc.Arbitrary<Addressed> = fc
  .tuple(
    fc.constantFrom(...PROGRAMS),
    fc.integer({ min: 1, max: 2 }),
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({
          kind: fc.constant('load' as const),
          object: fc.constantFrom(...OBJECTS),
          carry: fc.option(fc.integer({ min: 1, max: 2 }), { nil: undefined }),
          fresh: fc.boolean(),
        }),
      },
      {
        weight: 6,
        arbitrary: fc
          .tuple(
            fc.constantFrom('attach' as const, 'attach' as const, 'replace' as const),
            aimed,
            fc.constantFrom(...SLOTS),
          )
          .map(([kind, at, slot]) => ({ kind, ...at, slot })),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('detach' as const), slot: fc.constantFrom(...SLOTS) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('unload' as const) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('renew' as const) }) },
    ),
  )
  .map(([program, revision, one]) => ({ ...one, program, revision }));

/** A kernel, and what its ids stand for: they differ from one to the other. */
class Side {
  readonly kernel: Kernel;
  readonly #places: readonly AttachPoint[];
  readonly #renew: () => Promise<void>;
  readonly #names = new Map<number, string>();
  #loads = 0;

  constructor(kernel: Kernel, interfaces: readonly [string, string], cgroup: string, renew: () => Promise<void>) {
    this.kernel = kernel;
    const [first, second] = interfaces;
    this.#places = [
      { kind: 'xdp', interface: first, mode: 'auto' },
      { kind: 'xdp', interface: second, mode: 'auto' },
      { kind: 'tc', interface: first, direction: 'ingress' },
      { kind: 'tc', interface: second, direction: 'egress' },
      { kind: 'cgroup', path: cgroup },
    ];
    this.#renew = renew;
  }

  /** What came of an order, without ids. */
  async obey(order: Addressed): Promise<unknown> {
    try {
      return await this.#obey(order);
    } catch (error) {
      return toLonglineError(error).reason;
    }
  }

  /** All that is there, without ids. */
  async look(): Promise<unknown> {
    const found = await this.kernel.list();
    return found.map(({ links, program, revisions }) => ({
      program,
      revisions: revisions.map(({ functions, maps, place }) => ({
        revision: place.revision,
        functions: functions.map(({ id }) => this.#names.get(id)).sort(),
        maps: maps.map(({ id, name }) => `${name} ${this.#mapName(id)}`).sort(),
      })),
      links: links.map(({ gone, programId, slot }) => ({ slot, gone, runs: this.#names.get(programId) })),
    }));
  }

  async empty(): Promise<void> {
    for (const { links, program, revisions } of await this.kernel.list()) {
      for (const { slot } of links) await this.kernel.detach(program, slot);
      for (const { place } of revisions) await this.kernel.unload(place);
    }
    this.#names.clear();
    this.#maps.clear();
    this.#loads = 0;
  }

  readonly #maps = new Map<number, number>();

  #mapName(id: number): number {
    const known = this.#maps.get(id) ?? this.#maps.size;
    this.#maps.set(id, known);
    return known;
  }

  async #obey(order: Addressed): Promise<unknown> {
    const { program, revision } = order;
    const place = { program, revision };
    switch (order.kind) {
      case 'load': {
        const carryFrom = order.carry === undefined ? undefined : { program, revision: order.carry };
        const freshMaps = order.fresh ? ['counters'] : [];
        const request = loadRequest(program, revision, order.object, { carryFrom, freshMaps });
        return this.#loaded(await this.kernel.load(request), order.object);
      }
      case 'attach':
      case 'replace': {
        const [name, type] = FUNCTIONS[order.function]!;
        const asked = { place, function: name, type, point: this.#places[order.place]!, slot: order.slot };
        const { gone, programId, slot } = await this.kernel[order.kind](asked);
        return { gone, slot, runs: this.#names.get(programId) };
      }
      case 'detach':
        return await this.kernel.detach(program, order.slot);
      case 'unload':
        return await this.kernel.unload(place);
      default:
        return await this.#renew();
    }
  }

  #loaded(outcome: LoadOutcome, object: ObjectName): unknown {
    if (outcome.kind === 'refused') return outcome.kind;
    this.#loads++;
    for (const { id, name } of outcome.revision.functions) this.#names.set(id, `${name} of load ${this.#loads}`);
    assert.equal(outcome.revision.functions.length, bpfObject(object).functions.length);
    return { carried: [...outcome.carriedMaps].sort() };
  }
}

for (const withoutTcx of [false, true]) {
  const title = `does the same as the one in memory${withoutTcx ? ', as if it were older' : ''}`;
  test(title, { skip: kernelLabMissing() ?? false }, async () => {
    await using lab = await KernelLab.create();
    const attachments = new Attachments({ withoutTcx });
    await using kernel = new BpfKernel({ instanceId: 'model', mountPoint: lab.pins, log: silentLogger, attachments });
    const real = new Side(kernel, lab.interfaces, lab.cgroup, () => lab.renewInterface());
    const host = new FakeBpfHost();
    host.hasTcx = !withoutTcx;
    const [, second] = lab.interfaces;
    const fake = new Side(new FakeKernel(host), lab.interfaces, lab.cgroup, async () => {
      host.remove(second);
      host.restore(second);
    });
    const orders = fc.array(order, { minLength: 5, maxLength: MOST_ORDERS });
    await fc.assert(
      fc
        .asyncProperty(orders, async (list) => {
          for (const one of list) {
            const [ours, theirs] = [await real.obey(one), await fake.obey(one)];
            assert.deepEqual(ours, theirs, JSON.stringify(one));
            assert.deepEqual(await real.look(), await fake.look(), JSON.stringify(one));
          }
        })
        .afterEach(async () => {
          for (const side of [real, fake]) await side.empty();
        }),
      { numRuns: RUNS, seed: 5 },
    );
  });
}
