// Assignments and rollouts as machine output, in the shapes that ../views.ts promises, and as rows of tables.
import { toJson } from '@bufbuild/protobuf';
import {
  type Assignment,
  ProgramAssignmentSchema,
  ProgramDelivery,
  type Rollout,
  type RolloutAgent,
  RolloutAgentState,
  RolloutState,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { ProgramSpecSchema } from '#gen/longline/v1/program_pb.js';
import { ageOf } from '../age.ts';
import type { TableColumn } from '../table.ts';
import { timeView, type View, wordOf } from '../views.ts';

/** "rolled_back" for RolloutState.ROLLED_BACK. */
export function rolloutStateName(state: RolloutState): string {
  return wordOf(RolloutState[state]);
}

function agentStateName(state: RolloutAgentState): string {
  return wordOf(RolloutAgentState[state]);
}

/** "poll" for ProgramDelivery.POLL; "push" if it isn't said. */
function deliveryName(delivery: ProgramDelivery | undefined): string {
  return wordOf(ProgramDelivery[delivery ?? 0]) || 'push';
}

/** An assignment. */
export function assignmentView(assignment: Assignment): View {
  const { assignment: asked } = assignment;
  return {
    name: asked?.name ?? '',
    assignment: asked === undefined ? null : toJson(ProgramAssignmentSchema, asked, { useProtoFieldName: true }),
    agents: assignment.agents,
    agents_current: assignment.agentsCurrent,
    rollout: assignment.rolloutId || null,
    removing: assignment.removing,
    created_at: timeView(assignment.createTime),
    updated_at: timeView(assignment.updateTime),
  };
}

/** A rollout. */
export function rolloutView(rollout: Rollout): View {
  const { previousSpec, spec } = rollout;
  return {
    id: rollout.id,
    assignment: rollout.assignment,
    state: rolloutStateName(rollout.state),
    reason: rollout.reason || null,
    wave: rollout.wave,
    waves: rollout.waves,
    agents: rollout.agentCount,
    current: rollout.currentCount,
    failed: rollout.failedCount,
    offline: rollout.offlineCount,
    spec: spec === undefined ? null : toJson(ProgramSpecSchema, spec, { useProtoFieldName: true }),
    previous_spec:
      previousSpec === undefined ? null : toJson(ProgramSpecSchema, previousSpec, { useProtoFieldName: true }),
    started_at: timeView(rollout.startTime),
    ended_at: timeView(rollout.endTime),
    next_wave_at: timeView(rollout.nextWaveTime),
    members: rollout.agents.map((agent) => ({
      agent_id: agent.agentId,
      wave: agent.wave,
      state: agentStateName(agent.state),
      reason: agent.reason || null,
    })),
  };
}

/** How far it is, on one line. */
export function rolloutLine(rollout: Rollout): string {
  const { agentCount, assignment, currentCount, failedCount, offlineCount, reason, state, wave, waves } = rollout;
  const parts = [`${currentCount} of ${agentCount} agents`];
  if (failedCount > 0) parts.push(`${failedCount} failed`);
  if (offlineCount > 0) parts.push(`${offlineCount} offline`);
  const why = reason === '' ? '' : `: ${reason}`;
  return `${assignment}: ${rolloutStateName(state)}, wave ${wave} of ${waves}, ${parts.join(', ')}${why}`;
}

/** One row for each assignment. */
export function assignmentColumns(nowMs: number): readonly TableColumn<Assignment>[] {
  return [
    { heading: 'assignment', value: ({ assignment }) => assignment?.name ?? '' },
    { heading: 'artifact', value: ({ assignment }) => assignment?.spec?.artifact.slice(0, 19) ?? '' },
    { heading: 'delivery', value: ({ assignment }) => deliveryName(assignment?.delivery) },
    { heading: 'agents', align: 'right', value: ({ agents, agentsCurrent }) => `${agentsCurrent} of ${agents}` },
    { heading: 'state', value: ({ agents, agentsCurrent, removing }) => stateOf(removing, agents === agentsCurrent) },
    { heading: 'changed', value: ({ updateTime }) => ageOf(updateTime, nowMs) },
    { heading: 'rollout', value: ({ rolloutId }) => rolloutId || '-' },
  ];
}

function stateOf(removing: boolean, whole: boolean): string {
  if (removing) return 'removing';
  return whole ? 'current' : 'changing';
}

/** One row for each rollout. */
export function rolloutColumns(nowMs: number): readonly TableColumn<Rollout>[] {
  return [
    { heading: 'rollout', value: ({ id }) => id },
    { heading: 'assignment', value: ({ assignment }) => assignment },
    { heading: 'state', value: ({ state }) => rolloutStateName(state) },
    { heading: 'wave', value: ({ wave, waves }) => `${wave} of ${waves}` },
    { heading: 'current', align: 'right', value: ({ agentCount, currentCount }) => `${currentCount} of ${agentCount}` },
    { heading: 'failed', align: 'right', value: ({ failedCount }) => String(failedCount) },
    { heading: 'begun', value: ({ startTime }) => ageOf(startTime, nowMs) },
    { heading: 'ended', value: ({ endTime }) => ageOf(endTime, nowMs) },
    { heading: 'why', value: ({ reason }) => reason || '-' },
  ];
}

/** One row for each agent of a rollout. */
export const ROLLOUT_AGENT_COLUMNS: readonly TableColumn<RolloutAgent>[] = [
  { heading: 'agent', value: ({ agentId }) => agentId },
  { heading: 'wave', align: 'right', value: ({ wave }) => String(wave) },
  { heading: 'state', value: ({ state }) => agentStateName(state) },
  { heading: 'why', value: ({ reason }) => reason || '-' },
];
