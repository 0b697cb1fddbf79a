// What an assignment wants of an agent at present, from what is stored of it alone: so it is the same for whoever asks, whenever
// a controller goes on after another. Pure.
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type ProgramAssignment,
  ProgramAssignmentSchema,
  ProgramDelivery,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { type ProgramSpec, ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { type AgentSelector, unmetCondition } from '../../core/agent-selector.ts';
import type { AssignmentState, Delivery, DeliveryRecord, RolloutPhase } from '../store/rollout.ts';

/** An assignment as it was stored, read. */
export interface Target {
  readonly asked: ProgramAssignment;
  readonly selector: AgentSelector;
  readonly wanted: Wanted;
}

/** What an agent is to have. */
export interface Wanted {
  readonly spec: ProgramSpec;
  /** `spec`, serialised. */
  readonly bytes: Uint8Array;
  readonly delivery: Delivery;
}

/** An agent as far as it matters for what it is to have. */
export interface WantingAgent {
  readonly agentId: string;
  readonly labels: Readonly<Record<string, string>>;
  /** False for one that is gone. */
  readonly valid: boolean;
}

/** Reads a serialised ProgramAssignment. */
export function targetOf(bytes: Uint8Array): Target {
  const asked = fromBinary(ProgramAssignmentSchema, bytes);
  const spec = asked.spec!;
  const { agentIds = [], hasLabels = [], matchLabels = {} } = asked.selector ?? {};
  const delivery = asked.delivery === ProgramDelivery.POLL ? 'poll' : 'push';
  return {
    asked,
    selector: { agentIds, hasLabels, matchLabels },
    wanted: { spec, bytes: toBinary(ProgramSpecSchema, spec, { writeUnknownFields: false }), delivery },
  };
}

/** What a target wants of an agent; undefined for nothing. */
export function wantedBy(target: Target | undefined, agent: WantingAgent): Wanted | undefined {
  if (target === undefined || !agent.valid) return undefined;
  return unmetCondition(target.selector, agent) === undefined ? target.wanted : undefined;
}

/** True if both are the same, or both nothing. */
export function sameWanted(
  one: Pick<Wanted, 'bytes' | 'delivery'> | undefined,
  other: Pick<Wanted, 'bytes' | 'delivery'> | undefined,
): boolean {
  if (one === undefined || other === undefined) return one === other;
  return one.delivery === other.delivery && Buffer.compare(one.bytes, other.bytes) === 0;
}

/** What an agent was told to have; undefined for nothing. */
export function toldOf(record: DeliveryRecord | undefined): Pick<Wanted, 'bytes' | 'delivery'> | undefined {
  return record?.spec && { bytes: record.spec, delivery: record.delivery };
}

const HAVING: readonly RolloutPhase[] = ['running', 'watching', 'waiting', 'halted'];

/** True while agents of waves that have begun are to have the change. */
export function isForward(phase: RolloutPhase): boolean {
  return HAVING.includes(phase);
}

/** An assignment with what it wants of each agent. */
export class AssignmentPlan {
  readonly state: AssignmentState;
  readonly asked: Target;
  readonly settled: Target | undefined;
  readonly #told: ReadonlySet<string>;

  constructor(state: AssignmentState) {
    const { agents, assignment, rollout } = state;
    this.state = state;
    this.asked = targetOf(assignment.asked);
    this.settled = assignment.settled && targetOf(assignment.settled);
    const begun = rollout !== undefined && isForward(rollout.phase) ? rollout.wave : 0;
    this.#told = new Set(agents.filter(({ wave }) => wave <= begun).map(({ agentId }) => agentId));
  }

  /** What is wanted of an agent now: the change once its wave has begun, until then and otherwise what is settled. */
  wanted(agent: WantingAgent): Wanted | undefined {
    if (this.state.assignment.removing) return undefined;
    return wantedBy(this.#told.has(agent.agentId) ? this.asked : this.settled, agent);
  }
}
