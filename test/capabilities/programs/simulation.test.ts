// Whatever happens to a host in whatever order, what is wanted is there once all is well again, and nothing else of ours is.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ProgramsCapability } from '../../../src/capabilities/programs/capability.ts';
import { isOver, isRunning } from '../../../src/capabilities/programs/lifecycle.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { faultSeeds, seededRandom } from '../../fixtures/seeded-random.ts';
import { applyFull, ProgramsWorld, spec, until } from './programs-fixture.ts';

const STEPS = 40;
const NAMES = ['a', 'b', 'c', 'd'] as const;

interface Artifact {
  readonly digest: string;
  readonly isTrace: boolean;
}

/** A place that is a program's own, of a kind that is handed over in one step or not. */
function placed(isTrace: boolean, where: string, name: string): string {
  return isTrace ? `tracepoint:${where}:${name}` : `xdp:${where}-${name}`;
}

class Simulation {
  readonly #random: () => number;
  readonly #world: ProgramsWorld;
  readonly #artifacts: readonly Artifact[];
  readonly trace: string[] = [];
  capability: ProgramsCapability;
  generation = 0;
  wanted: Parameters<typeof applyFull>[2] = [];

  constructor(
    random: () => number,
    world: ProgramsWorld,
    artifacts: readonly Artifact[],
    capability: ProgramsCapability,
  ) {
    this.#random = random;
    this.#world = world;
    this.#artifacts = artifacts;
    this.capability = capability;
  }

  pick<T>(all: readonly T[]): T {
    return all[Math.floor(this.#random() * all.length)]!;
  }

  async want(): Promise<void> {
    const names = NAMES.filter(() => this.#random() < 0.6);
    const specs = names.map((name) => {
      const artifact = this.pick(this.#artifacts);
      const placeOf = (where: string) => placed(artifact.isTrace, where, name);
      return spec(name, artifact.digest, {
        attach: this.#random() < 0.5 ? [placeOf('if')] : [placeOf('if'), placeOf('other')],
        parameters: { limit: String(Math.floor(this.#random() * 3)) },
        renewal: BigInt(this.generation),
        ttl: { seconds: 0n, nanos: 0 },
      });
    });
    await this.set(specs);
  }

  async set(specs: Parameters<typeof applyFull>[2]): Promise<void> {
    this.generation += 1;
    this.trace.push(
      `want ${specs.map(({ name, artifact, attach }) => `${name}=${artifact?.slice(7, 11)}@${attach?.length}`).join()}`,
    );
    await applyFull(this.capability, this.generation, specs);
    this.wanted = specs;
  }

  async step(): Promise<void> {
    const { host, kernel } = this.#world;
    const where = this.#anyPlace();
    const method = this.pick(['load', 'attach', 'replace', 'detach', 'unload', 'list'] as const);
    const moment = this.pick(['before', 'after'] as const);
    const reason = this.pick(['unavailable', 'internal', 'not_found'] as const);
    const actions: readonly (() => Promise<void> | void)[] = [
      async () => await this.want(),
      async () => await this.#world.pass(1_000 + this.#random() * 100_000, 4),
      () => host.remove(where),
      () => host.restore(where),
      () => kernel.failNext(method, new LonglineError(reason, 'it broke'), { moment }),
      () => kernel.refuseNext('no way'),
      async () => await this.restart(() => undefined),
      async () => await this.restart(() => host.reboot()),
      async () => {
        this.#world.killAfter = Math.floor(this.#random() * 12);
        await this.want().catch(() => undefined);
        await this.#world.pass(1_000);
        await this.restart(() => undefined);
      },
      async () => {
        const request = { program: this.pick(NAMES), artifact: undefined, reason: 'any', requestedBy: 'local' };
        const rolledBack = this.capability.rollBack(request).catch(() => undefined);
        await this.#world.pass(50_000, 4);
        await Promise.race([rolledBack, this.#world.settle()]);
      },
      async () => void (await this.capability.releaseQuarantine(undefined)),
    ];
    const index = Math.floor(this.#random() * actions.length);
    this.trace.push(`step ${index} ${where} ${method} ${moment} ${reason}`);
    await actions[index]!();
    if (this.#random() < 0.5) await this.#world.settle();
  }

  /** An interface or tracepoint, as the host knows it. */
  #anyPlace(): string {
    const place = placed(this.#random() < 0.5, this.pick(['if', 'other']), this.pick(NAMES));
    return place.replace(/^xdp:/, '');
  }

  async restart(between: () => void): Promise<void> {
    await this.#world.letGo();
    between();
    this.capability = await this.#world.start();
  }

  /** True once what is wanted is there, and nothing else. */
  isRight(): boolean {
    const { host } = this.#world;
    const views = this.capability.look();
    const names = views.map(({ name }) => name);
    if (JSON.stringify(names) !== JSON.stringify(this.wanted.map(({ name }) => name).sort())) return false;
    for (const { name, artifact, attach } of this.wanted) {
      const view = views.find((one) => one.name === name)!;
      if (view.current?.artifact !== artifact || !isRunning(view.life) || view.life.kind === 'updating') return false;
      if (view.problems.length > 0 || isOver(view.life)) return false;
      for (const place of attach!) {
        const [running, ...others] = host.runningAt(place);
        if (running === undefined || others.length > 0) return false;
        if (running.program !== name || running.revision !== view.current?.number) return false;
      }
    }
    const places = this.wanted.reduce((sum, { attach }) => sum + attach!.length, 0);
    return host.attachments.size === places && host.revisions.size <= 2 * this.wanted.length;
  }
}

describe('a host to which anything happens', () => {
  it('comes to be as wanted once all is well', async () => {
    for (const seed of faultSeeds(60)) {
      await using world = new ProgramsWorld({ defaultTtlMs: 0 });
      const artifacts = [];
      for (const version of ['1.0.0', '2.0.0', '3.0.0']) {
        artifacts.push({ digest: await world.artifact({ version }), isTrace: false });
        const functions = [{ name: 'trace', type: 'tracepoint' }] as const;
        artifacts.push({ digest: await world.artifact({ version, functions }), isTrace: true });
      }
      const simulation = new Simulation(seededRandom(seed), world, artifacts, await world.start());
      world.onPoint = () => {
        const slots = [...world.host.attachments].map(({ program, slot }) => `${program} ${slot}`);
        assert.equal(new Set(slots).size, slots.length);
      };
      try {
        await simulation.want();
        for (let step = 0; step < STEPS; step++) await simulation.step();
        for (const name of NAMES) {
          for (const part of ['if', 'other']) {
            for (const isTrace of [true, false]) world.host.restore(placed(isTrace, part, name).replace(/^xdp:/, ''));
          }
        }
        await simulation.restart(() => undefined);
        await simulation.capability.releaseQuarantine(undefined);
        await simulation.want();
        await until('all is as wanted', async () => {
          if (simulation.isRight()) return true;
          await world.pass(20_000, 2);
          return undefined;
        });
        assert.equal(world.seen, undefined);
        await simulation.set([]);
        await until('nothing is left', async () => {
          if (world.host.revisions.size + world.host.attachments.size + simulation.capability.look().length === 0)
            return true;
          await world.pass(20_000, 2);
          return undefined;
        });
        const left = [...world.state.values.keys()].filter((key) => key.startsWith('program/'));
        assert.deepEqual(left, []);
      } catch (error) {
        const views = simulation.capability.look().map(({ name, life, problems, current }) => ({
          ...{ name, life: life.kind, revision: current?.number, artifact: current?.artifact.slice(7, 11) },
          problems: problems.map(({ field, error: { message } }) => `${field}: ${message}`),
        }));
        const told = [...simulation.trace, ...world.kernel.calls.slice(-20), JSON.stringify(views, undefined, 1)].join(
          '\n',
        );
        throw new Error(`seed ${seed}: ${(error as Error).message}\n${told}`, { cause: error });
      }
    }
  });
});
