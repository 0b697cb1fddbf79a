// An assignment in memory with its agents, each of which does what it is asked whenever a test lets it: without store and bus.
import { create, toBinary } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import {
  type ProgramAssignment,
  ProgramAssignmentSchema,
  ProgramDelivery,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { DesiredStateKind, StateReportSchema } from '#gen/longline/link/v1/link_pb.js';
import { ErrorReason, ErrorSchema } from '#gen/longline/v1/error_pb.js';
import { ProgramSpecSchema, ProgramState } from '#gen/longline/v1/program_pb.js';
import { factsOf, takenFrom, tellings } from '../../../src/controller/rollouts/assigned-agents.ts';
import { type AskedChange, putAssignment } from '../../../src/controller/rollouts/assignment-change.ts';
import { outlookOf } from '../../../src/controller/rollouts/progress.ts';
import { AssignmentPlan, type Wanted } from '../../../src/controller/rollouts/target.ts';
import type {
  AssignedAgentRecord,
  AssignmentState,
  DeliveryRecord,
  RolloutAgentRecord,
  RolloutRecord,
} from '../../../src/controller/store/rollout.ts';

export const NAME = 'drop';

/** How an agent takes an artifact. */
export type Fate = 'well' | 'fails' | 'rolls_back' | 'refuses' | 'hangs';

/** A spec, as far as a test says. */
export interface AskedInit {
  readonly artifact: string;
  readonly waves?: readonly number[];
  readonly manual?: boolean;
  readonly maxFailedPercent?: number;
  readonly keepOnHalt?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  readonly delivery?: ProgramDelivery;
  readonly parameters?: Readonly<Record<string, string>>;
}

export const PAUSE_MS = 60_000;
export const TIMEOUT_MS = 600_000;

/** Complete and canonical. */
export function assignmentOf(init: AskedInit): ProgramAssignment {
  const { artifact, delivery = ProgramDelivery.PUSH, labels = {}, parameters = {} } = init;
  return create(ProgramAssignmentSchema, {
    name: NAME,
    spec: { name: NAME, artifact, parameters },
    selector: { matchLabels: { ...labels } },
    delivery,
    strategy: {
      waves: [...(init.waves ?? [100])],
      pause: durationFromMs(PAUSE_MS),
      manual: init.manual ?? false,
      maxFailedPercent: init.maxFailedPercent ?? 0,
      waveTimeout: durationFromMs(TIMEOUT_MS),
      keepOnHalt: init.keepOnHalt ?? false,
    },
  });
}

/** An agent. */
export interface ModelAgent {
  readonly id: string;
  labels: Record<string, string>;
  valid: boolean;
  online: boolean;
  connectedAtMs: number | undefined;
  /** What it was told, as stored. */
  delivery: DeliveryRecord | undefined;
  /** Its desired state: generation of the last change, and the spec of the program. */
  generation: bigint;
  desired: Wanted | undefined;
  /** Noted beside the desired state. */
  program: { generation: bigint; removing: boolean } | undefined;
  /** What it has taken up. */
  applied: { generation: bigint; wanted: Wanted | undefined; polled: Wanted | undefined };
  /** Artifacts that it gave up. */
  readonly quarantined: Set<string>;
  lastRollback: { id: string; artifact: string } | undefined;
  report: Uint8Array | undefined;
  reported: bigint;
  refused: bigint;
}

class Killed extends Error {}

/** An assignment and its agents. */
export class RolloutModel {
  readonly agents = new Map<string, ModelAgent>();
  /** How an agent takes an artifact. */
  fate: (agentId: string, artifact: string) => Fate = () => 'well';
  state: AssignmentState | undefined;
  /** All rollouts, also those that ended. */
  readonly rollouts = new Map<string, RolloutRecord>();
  nowMs = 1_000_000;
  /** How long what drives it has been there. */
  #heardForMs = 0;
  #ids = 0;
  #writesLeft = Number.POSITIVE_INFINITY;
  againAtMs: number | undefined;

  constructor(ids: readonly string[]) {
    for (const id of ids) this.enrol(id);
  }

  enrol(id: string, labels: Record<string, string> = {}): void {
    this.agents.set(id, {
      id,
      labels,
      valid: true,
      online: true,
      connectedAtMs: this.nowMs,
      delivery: undefined,
      generation: 0n,
      desired: undefined,
      program: undefined,
      applied: { generation: 0n, wanted: undefined, polled: undefined },
      quarantined: new Set(),
      lastRollback: undefined,
      report: undefined,
      reported: 0n,
      refused: 0n,
    });
  }

  get rollout(): RolloutRecord | undefined {
    return this.state?.rollout;
  }

  /** Of the latest rollout, whether it is over or not. */
  get latest(): RolloutRecord | undefined {
    return this.state && this.rollouts.get(this.state.assignment.rolloutId);
  }

  put(init: AskedInit): RolloutRecord | undefined {
    const asked = toBinary(ProgramAssignmentSchema, assignmentOf(init));
    const id = `rollout-${String(++this.#ids).padStart(6, '0')}`;
    const { change, rollout } = putAssignment(NAME, this.state, asked, this.records(), id, this.nowMs);
    if (change !== undefined) this.change(change);
    return rollout;
  }

  /** As a store commits it. */
  change(change: AskedChange): void {
    this.#write();
    const before = this.state;
    for (const rollout of change.putRollouts ?? []) this.rollouts.set(rollout.id, rollout);
    const rolloutId = [...this.rollouts.keys()].sort().at(-1) ?? '';
    const latest = this.rollouts.get(rolloutId);
    const same = before?.assignment.rolloutId === rolloutId;
    const rows = new Map((same ? before.agents : []).map((row) => [row.agentId, row]));
    for (const id of change.removedAgents ?? []) rows.delete(id);
    for (const row of change.putAgents ?? []) rows.set(row.agentId, row);
    const active = latest?.endedAtMs === undefined ? latest : undefined;
    this.state = {
      assignment: {
        name: NAME,
        asked: change.asked?.bytes ?? before!.assignment.asked,
        settled: change.settled?.bytes ?? before?.assignment.settled,
        revision: (before?.assignment.revision ?? 0) + 1,
        createdAtMs: 0,
        updatedAtMs: 0,
        removing: change.removing ?? before?.assignment.removing ?? false,
        rolloutId,
      },
      rollout: active,
      agents: [...rows.values()].sort((one, other) => (one.agentId < other.agentId ? -1 : 1)),
    };
  }

  records(): AssignedAgentRecord[] {
    return [...this.agents.values()].map((agent) => ({
      agentId: agent.id,
      valid: agent.valid,
      online: agent.online && agent.valid,
      connectedAtMs: agent.connectedAtMs,
      labels: agent.labels,
      delivery: agent.delivery,
      program: agent.program,
      report: agent.report && { generation: agent.reported, bytes: agent.report },
      refusal:
        agent.refused === 0n
          ? undefined
          : {
              generation: agent.refused,
              error: toBinary(ErrorSchema, create(ErrorSchema, { reason: ErrorReason.POLICY, message: 'no' })),
            },
    }));
  }

  rows(): readonly RolloutAgentRecord[] {
    return this.state?.agents ?? [];
  }

  /** One turn of what drives it; killed before its write of this number. True if it changed something and was not killed. */
  drive(killedBefore = Number.POSITIVE_INFINITY): boolean {
    if (this.state === undefined) return false;
    this.#writesLeft = killedBefore;
    try {
      return this.#turn();
    } catch (error) {
      if (error instanceof Killed) return false;
      throw error;
    } finally {
      this.#writesLeft = Number.POSITIVE_INFINITY;
    }
  }

  /** Time goes by; `nowMs` itself is a clock that somebody may set. */
  pass(ms: number): void {
    this.nowMs += ms;
    this.#heardForMs += ms;
  }

  /** The controller is gone for a while: nobody is heard meanwhile, and all come again. */
  restart(awayMs: number): void {
    this.nowMs += awayMs;
    this.#heardForMs = 0;
    for (const agent of this.agents.values()) if (agent.online) agent.connectedAtMs = this.nowMs;
  }

  #turn(): boolean {
    const plan = new AssignmentPlan(this.state!);
    let changed = false;
    for (const { record, wanted } of tellings(plan, this.records())) {
      this.#tell(record.agentId, wanted);
      changed = true;
    }
    for (const taken of takenFrom(plan, this.records())) {
      this.#write();
      this.agents.get(taken.agentId)!.delivery = undefined;
      changed = true;
    }
    const facts = factsOf(plan, this.records(), new Map());
    const outlook = outlookOf(plan, facts, { nowMs: this.nowMs, heardForMs: this.#heardForMs });
    this.againAtMs = outlook.lookAgainAtMs;
    if (outlook.change !== undefined) this.change(outlook.change);
    else if (plan.state.assignment.removing && [...this.agents.values()].every(({ delivery }) => !delivery)) {
      this.#write();
      this.state = undefined;
      this.rollouts.clear();
    }
    return changed || outlook.change !== undefined;
  }

  #tell(agentId: string, wanted: Wanted | undefined): void {
    this.#write();
    const agent = this.agents.get(agentId)!;
    const delivery = wanted?.delivery ?? agent.delivery!.delivery;
    const artifact = wanted?.spec.artifact ?? '';
    agent.delivery = { assignment: NAME, agentId, spec: wanted?.bytes, artifact, delivery, atMs: this.nowMs };
    const desired = wanted?.delivery === 'push' ? wanted : undefined;
    if (desired === undefined && agent.desired === undefined) return;
    agent.generation += 1n;
    agent.desired = desired;
    agent.program = { generation: agent.generation, removing: desired === undefined };
  }

  #write(): void {
    if (this.#writesLeft-- <= 0) throw new Killed();
  }

  /** An agent that is there takes up what is wanted of it. */
  apply(id: string): void {
    const agent = this.agents.get(id)!;
    if (!agent.online || !agent.valid) return;
    const polled = this.#polled(agent);
    const artifact = agent.desired?.spec.artifact;
    if (
      artifact !== undefined &&
      this.fate(id, artifact) === 'refuses' &&
      agent.applied.generation < agent.generation
    ) {
      agent.refused = agent.generation;
      return;
    }
    agent.applied = { generation: agent.generation, wanted: agent.desired, polled };
    for (const wanted of [agent.desired, polled]) if (wanted !== undefined) this.#take(agent, wanted.spec.artifact);
  }

  #polled({ delivery }: ModelAgent): Wanted | undefined {
    if (delivery?.delivery !== 'poll' || delivery.spec === undefined) return undefined;
    const plan = new AssignmentPlan(this.state!);
    return [plan.asked.wanted, plan.settled?.wanted].find(
      (one) => one !== undefined && Buffer.compare(one.bytes, delivery.spec!) === 0,
    );
  }

  #take(agent: ModelAgent, artifact: string): void {
    if (this.fate(agent.id, artifact) !== 'rolls_back' || agent.quarantined.has(artifact)) return;
    agent.quarantined.add(artifact);
    agent.lastRollback = { id: `${agent.id}/${agent.quarantined.size}`, artifact };
  }

  /** The controller hears of what an agent has. */
  tell(id: string): void {
    const agent = this.agents.get(id)!;
    if (!agent.online || !agent.valid) return;
    const { generation, polled, wanted } = agent.applied;
    const programs = [
      ...(wanted === undefined ? [] : [this.#status(agent, wanted, 'controller')]),
      ...(polled === undefined ? [] : [this.#status(agent, polled, 'registry')]),
    ];
    const detail = { case: 'programs' as const, value: { programs } };
    const report = create(StateReportSchema, { kind: DesiredStateKind.PROGRAMS, generation, detail });
    if (generation === 0n && programs.length === 0 && agent.report === undefined) return;
    agent.report = toBinary(StateReportSchema, report);
    agent.reported = generation;
    if (agent.refused <= generation) agent.refused = 0n;
    // What keeps programs forgets one that was taken away as soon as its agent says so.
    const { program } = agent;
    if (program?.removing && generation >= program.generation) agent.program = undefined;
  }

  #status(agent: ModelAgent, { spec: { artifact } }: Wanted, source: string) {
    const fate = this.fate(agent.id, artifact);
    const quarantined = agent.quarantined.has(artifact);
    const failed = fate === 'fails' || quarantined;
    const state = failed ? ProgramState.FAILED : fate === 'hangs' ? ProgramState.DISCOVERED : ProgramState.ACTIVE;
    const back = agent.lastRollback;
    return {
      name: NAME,
      source,
      state,
      quarantined,
      wantedArtifact: artifact,
      ...(state === ProgramState.ACTIVE ? { current: { artifact } } : {}),
      ...(back === undefined
        ? {}
        : { lastRollback: { id: back.id, from: { artifact: back.artifact }, reason: 'errors' } }),
    };
  }

  /** What an agent runs because of the assignment. */
  runs(id: string): string | undefined {
    const { applied } = this.agents.get(id)!;
    return (applied.wanted ?? applied.polled)?.spec.artifact;
  }

  setOnline(id: string, online: boolean): void {
    const agent = this.agents.get(id)!;
    if (online && !agent.online) agent.connectedAtMs = this.nowMs;
    agent.online = online;
  }

  /** Everybody who is there does everything, as time goes by, until nothing is left to do. */
  settle(): void {
    for (let turn = 0; turn < 2000; turn++) {
      const changed = this.drive();
      let heard = false;
      for (const id of this.agents.keys()) {
        const before = JSON.stringify(
          this.records().find(({ agentId }) => agentId === id),
          plain,
        );
        this.apply(id);
        this.tell(id);
        heard ||=
          JSON.stringify(
            this.records().find(({ agentId }) => agentId === id),
            plain,
          ) !== before;
      }
      if (changed || heard) continue;
      if (this.againAtMs === undefined) return;
      this.pass(Math.max(0, this.againAtMs - this.nowMs));
    }
    throw new Error(`it does not come to rest: ${JSON.stringify(this.state, plain)}`);
  }
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  return value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value;
}

/** Serialised spec, as agents are told it. */
export function specBytes(artifact: string): Uint8Array {
  return toBinary(ProgramSpecSchema, create(ProgramSpecSchema, { name: NAME, artifact }));
}
