// Rollouts while agents fail, go, come and change their labels, while people steer, and while what drives them is killed before
// any of its writes: no wave is ever exceeded, a halted rollout gives everybody back what was there, everything ends.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ProgramDelivery } from '#gen/longline/fleet/v1/program_service_pb.js';
import {
  abortRollout,
  pauseRollout,
  removeAssignment,
  resumeRollout,
} from '../../../src/controller/rollouts/assignment-change.ts';
import { AssignmentPlan, isForward, sameWanted, targetOf, wantedBy } from '../../../src/controller/rollouts/target.ts';
import type { AssignmentState } from '../../../src/controller/store/rollout.ts';
import { LonglineError } from '../../../src/core/errors.ts';
import { faultSeeds, seededRandom } from '../../fixtures/seeded-random.ts';
import { type Fate, type ModelAgent, PAUSE_MS, RolloutModel } from './rollout-model.ts';

const IDS = Array.from({ length: 9 }, (_, place) => `agent-${place}`);
const FATES: readonly Fate[] = ['well', 'fails', 'rolls_back', 'refuses', 'hangs'];
const WAVES = [[100], [10, 100], [5, 25, 100], [1, 2, 3, 50, 100], [50, 55, 100]];

/** What is done to an assignment may be refused for where it is. */
function tried(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof LonglineError) || error.reason !== 'wrong_state') throw error;
  }
}

class Simulation {
  readonly model = new RolloutModel(IDS);
  readonly #random: () => number;
  readonly #seed: number;
  /** Agents that each rollout changed something for when it began. */
  readonly #begun = new Map<string, ReadonlySet<string>>();
  #artifacts = 0;
  /** By the last turn of what drives it. */
  #justTold: readonly ModelAgent[] = [];

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = seededRandom(seed);
    const fates = new Map<string, Fate>();
    const bad = this.#random() * 0.3;
    this.model.fate = (agentId, artifact) => {
      const key = `${agentId} ${artifact}`;
      // The first is one that everybody takes, so that there is something to go back to.
      if (artifact === 'artifact-1') return 'well';
      const known = fates.get(key) ?? (this.#random() < bad ? this.#pick(FATES) : 'well');
      fates.set(key, known);
      return known;
    };
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)]!;
  }

  put(): void {
    const random = this.#random;
    const rollout = this.model.put({
      artifact: random() < 0.2 && this.#artifacts > 0 ? 'artifact-1' : `artifact-${++this.#artifacts}`,
      waves: this.#pick(WAVES),
      manual: random() < 0.2,
      maxFailedPercent: this.#pick([0, 0, 20, 50, 100]),
      keepOnHalt: random() < 0.2,
      labels: random() < 0.5 ? {} : { tier: 'web' },
      delivery: random() < 0.2 ? ProgramDelivery.POLL : ProgramDelivery.PUSH,
    });
    if (rollout !== undefined) this.#begun.set(rollout.id, new Set(this.#differing()));
  }

  #differing(): string[] {
    const { agents, state } = this.model;
    const plan = new AssignmentPlan(state!);
    return [...agents.keys()].filter((agentId) => {
      const { labels, valid } = agents.get(agentId)!;
      const agent = { agentId, labels, valid };
      return !sameWanted(wantedBy(plan.asked, agent), wantedBy(plan.settled, agent));
    });
  }

  happen(): void {
    const { model } = this;
    this.#justTold = [];
    const chance = this.#random();
    const id = this.#pick([...model.agents.keys()]);
    if (chance < 0.3) model.apply(id);
    else if (chance < 0.55) model.tell(id);
    else if (chance < 0.6) model.setOnline(id, this.#random() < 0.6);
    else if (chance < 0.63) this.#relabel(id);
    else if (chance < 0.64 && model.agents.size < 14) model.enrol(`late-${model.agents.size}`, { tier: 'web' });
    else if (chance < 0.645) model.agents.get(id)!.valid = false;
    else if (chance < 0.66) this.#removedOr(() => tried(() => this.put()));
    else if (chance < 0.69) this.#steer();
    else if (chance < 0.7) model.restart(this.#random() * 2_000_000);
    else if (chance < 0.8) model.pass(this.#random() * 300_000);
    else if (chance < 0.801) model.nowMs -= 3_600_000;
    else this.#drive();
  }

  #drive(): void {
    const { state } = this.model;
    const before = new Map([...this.model.agents.values()].map(({ delivery, id }) => [id, delivery]));
    if (this.#random() < 0.4) this.model.drive(Math.floor(this.#random() * 4));
    else this.model.drive();
    this.#justTold = [...this.model.agents.values()].filter(({ delivery, id }) => delivery !== before.get(id));
    if (state !== undefined) this.#checkStep(state);
  }

  /** A rollout goes on only from where it may. */
  #checkStep({ agents, assignment, rollout: before }: AssignmentState): void {
    const { model } = this;
    const after = before && model.rollouts.get(before.id);
    if (before === undefined || after === undefined) return;
    const what = `seed ${this.#seed}: from ${before.phase} of wave ${before.wave} to ${after.phase} of ${after.wave}`;
    if (after.phase === 'rolled_back') {
      for (const { agentId, step } of model.rows()) assert.notEqual(step, 'updating', `${what}: ${agentId}`);
    }
    if (after.wave === before.wave && after.phase !== 'done') return;
    const { maxFailedPercent } = targetOf(assignment.asked).asked.strategy!;
    const begun = agents.filter(({ wave }) => wave <= before.wave);
    const failed = begun.filter(({ step }) => step === 'failed').length;
    const reached = begun.filter(({ step }) => step !== 'offline').length;
    assert.equal(before.phase, 'watching', what);
    assert.equal(before.paused, false, what);
    assert.ok(after.phase !== 'done' || before.wave === before.waves, what);
    assert.ok(agents.length === 0 || model.nowMs - before.phaseAtMs >= PAUSE_MS, `${what}: too soon`);
    assert.ok(failed * 100 <= maxFailedPercent * reached, `${what}: ${failed} of ${reached} failed`);
    for (const { agentId, step } of begun) assert.notEqual(step, 'updating', `${what}: ${agentId}`);
  }

  #removedOr(work: () => void): void {
    const { model } = this;
    if (this.#random() > 0.05 || model.state === undefined) {
      work();
      return;
    }
    const change = removeAssignment(model.state, model.nowMs);
    if (change !== undefined) model.change(change);
  }

  #relabel(id: string): void {
    this.model.agents.get(id)!.labels = this.#random() < 0.5 ? { tier: 'web' } : {};
  }

  #steer(): void {
    const { model } = this;
    const { rollout } = model;
    if (rollout === undefined) return;
    const chance = this.#random();
    tried(() => {
      const change =
        chance < 0.3
          ? pauseRollout(rollout)
          : chance < 0.9
            ? resumeRollout(rollout, model.rows(), model.records(), model.nowMs)
            : abortRollout(rollout, model.rows(), 'enough', model.nowMs);
      if (change !== undefined) model.change(change);
    });
  }

  /** What holds at every instant. */
  check(): void {
    const { model } = this;
    for (const agent of model.agents.values()) {
      const { delivery, desired, id } = agent;
      const what = `seed ${this.#seed}: ${id}`;
      // What an agent polls for it drops by itself, whether it was heard of or not.
      const pushed = agent.applied.wanted?.spec.artifact;
      if (agent.valid && delivery === undefined) assert.equal(pushed, undefined, `${what} is forgotten`);
      if (desired !== undefined) {
        assert.ok(delivery?.spec !== undefined && delivery.delivery === 'push', `${what} is nobody's`);
        assert.deepEqual(delivery.spec, desired.bytes, what);
      }
    }
    const { rollout, state } = model;
    if (rollout === undefined || !isForward(rollout.phase)) return;
    const plan = new AssignmentPlan(state!);
    const { waves: percents } = plan.asked.asked.strategy!;
    const begun = this.#begun.get(rollout.id)!;
    const told = state!.agents.filter(({ agentId, wave }) => begun.has(agentId) && wave <= rollout.wave);
    let most = 0;
    for (const percent of percents.slice(0, rollout.wave)) {
      most = Math.max(Math.floor((begun.size * percent) / 100), most + 1);
    }
    const what = `seed ${this.#seed}: wave ${rollout.wave} of ${rollout.waves}, ${begun.size} agents`;
    assert.ok(told.length <= most, `${what}: ${told.length} were told`);
    // Nobody else is told of the change: who came later, or is of a later wave.
    const change = plan.asked.wanted.bytes;
    const rows = new Map(state!.agents.map((row) => [row.agentId, row]));
    for (const { delivery, id } of this.#justTold) {
      const has = delivery?.spec !== undefined && Buffer.compare(delivery.spec, change) === 0;
      const may: boolean = (rows.get(id)?.wave ?? Number.POSITIVE_INFINITY) <= rollout.wave;
      const before = plan.settled !== undefined && Buffer.compare(plan.settled.wanted.bytes, change) === 0;
      assert.ok(!has || may || before, `${what}: ${id} was told before its turn`);
    }
    for (const { agentId, wave, step } of state!.agents) {
      if (wave <= rollout.wave) assert.notEqual(step, 'waiting', `${what}: ${agentId}`);
      else assert.equal(step, 'waiting', `${what}: ${agentId}`);
    }
  }

  /** Once everybody is there and nothing happens any more. */
  end(): void {
    const { model } = this;
    const what = `seed ${this.#seed}`;
    for (const id of model.agents.keys()) model.setOnline(id, true);
    for (let turn = 0; ; turn++) {
      assert.ok(turn < 30, `${what}: does not end`);
      model.settle();
      const { rollout } = model;
      if (rollout === undefined || rollout.phase === 'halted') break;
      model.change(resumeRollout(rollout, model.rows(), model.records(), model.nowMs));
    }
    assert.ok(!model.state?.assignment.removing, `${what}: it does not go`);
    if (model.state === undefined) {
      this.#nobodyHasIt(what);
      return;
    }
    const plan = new AssignmentPlan(model.state);
    for (const agent of model.agents.values()) {
      const wanted = plan.wanted({ agentId: agent.id, labels: agent.labels, valid: agent.valid });
      if (!agent.valid) continue;
      assert.deepEqual(agent.delivery?.spec, wanted?.bytes, `${what}: ${agent.id} was told what is wanted`);
      const takes = wanted && model.fate(agent.id, wanted.spec.artifact);
      if (takes !== 'refuses') assert.equal(model.runs(agent.id), wanted?.spec.artifact, `${what}: ${agent.id}`);
    }
    this.#latest(what);
  }

  #nobodyHasIt(what: string): void {
    for (const agent of this.model.agents.values()) {
      assert.deepEqual([agent.delivery, agent.desired], [undefined, undefined], `${what}: ${agent.id} is left with it`);
    }
  }

  #latest(what: string): void {
    const { model } = this;
    const { asked, settled } = model.state!.assignment;
    const { latest } = model;
    if (latest?.phase === 'done') assert.deepEqual(settled, asked, what);
    if (latest?.phase !== 'rolled_back') return;
    const change = targetOf(latest.asked).wanted.spec.artifact;
    const before = latest.before && targetOf(latest.before);
    // How it is rolled out may be another by now, which begins no rollout.
    assert.ok(sameWanted(before?.wanted, settled && targetOf(settled).wanted), `${what}: what was there holds`);
    if (before?.wanted.spec.artifact === change) return;
    for (const { id, valid } of model.agents.values()) {
      const refuses = before !== undefined && model.fate(id, before.wanted.spec.artifact) === 'refuses';
      if (valid && !refuses) assert.notEqual(model.runs(id), change, `${what}: ${id} still has it`);
    }
  }
}

describe('rollouts of programs', () => {
  it('exceed no wave, give back what was there, leave no agent behind and end, whatever happens in between', () => {
    const ends = new Map<string, number>();
    for (const seed of faultSeeds(1200)) {
      const simulation = new Simulation(seed);
      simulation.put();
      simulation.check();
      for (let turn = 0; turn < 160; turn++) {
        simulation.happen();
        simulation.check();
      }
      simulation.end();
      for (const { phase } of simulation.model.rollouts.values()) ends.set(phase, (ends.get(phase) ?? 0) + 1);
    }
    for (const phase of ['done', 'rolled_back', 'superseded', 'halted']) {
      assert.ok((ends.get(phase) ?? 0) > 10, `${phase} happens: ${JSON.stringify([...ends])}`);
    }
  });
});
