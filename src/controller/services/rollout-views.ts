// Assignments and rollouts as the API shows them. Pure.
import { create, fromBinary } from '@bufbuild/protobuf';
import { durationMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type Assignment,
  AssignmentSchema,
  ProgramAssignmentSchema,
  type Rollout,
  type RolloutAgent,
  RolloutAgentSchema,
  RolloutAgentState,
  RolloutSchema,
  RolloutState,
} from '#gen/longline/fleet/v1/program_service_pb.js';
import { standingOf } from '../rollouts/agent-standing.ts';
import { targetOf, wantedBy } from '../rollouts/target.ts';
import type {
  AssignedAgentRecord,
  AssignmentRecord,
  RolloutAgentRecord,
  RolloutAgentStep,
  RolloutPhase,
  RolloutRecord,
  RolloutSummary,
} from '../store/rollout.ts';

const STATES: Readonly<Record<RolloutPhase, RolloutState>> = {
  running: RolloutState.RUNNING,
  watching: RolloutState.WATCHING,
  waiting: RolloutState.PAUSED,
  halted: RolloutState.HALTED,
  rolling_back: RolloutState.ROLLING_BACK,
  done: RolloutState.DONE,
  rolled_back: RolloutState.ROLLED_BACK,
  superseded: RolloutState.SUPERSEDED,
};

const AGENT_STATES: Readonly<Record<RolloutAgentStep, RolloutAgentState>> = {
  waiting: RolloutAgentState.WAITING,
  updating: RolloutAgentState.UPDATING,
  current: RolloutAgentState.CURRENT,
  failed: RolloutAgentState.FAILED,
  offline: RolloutAgentState.OFFLINE,
  reverted: RolloutAgentState.REVERTED,
};

/** An assignment. `agents` are at least those that it picks. */
export function assignmentView(record: AssignmentRecord, agents: readonly AssignedAgentRecord[]): Assignment {
  const target = targetOf(record.asked);
  const picked = agents.filter((agent) => wantedBy(target, agent) !== undefined);
  const current = picked.filter((agent) => standingOf(record.name, agent, target.wanted, undefined).kind === 'current');
  return create(AssignmentSchema, {
    assignment: target.asked,
    createTime: timestampFromMs(record.createdAtMs),
    updateTime: timestampFromMs(record.updatedAtMs),
    rolloutId: record.rolloutId,
    agents: picked.length,
    agentsCurrent: record.removing ? 0 : current.length,
    removing: record.removing,
  });
}

/** A rollout; without its agents if none are given. */
export function rolloutView({ counts, rollout }: RolloutSummary, agents: readonly RolloutAgentRecord[]): Rollout {
  const { endedAtMs, phase, startedAtMs, wave, waves } = rollout;
  const asked = fromBinary(ProgramAssignmentSchema, rollout.asked);
  const before = rollout.before && fromBinary(ProgramAssignmentSchema, rollout.before).spec;
  const { manual, pause } = asked.strategy!;
  const byItself = phase === 'watching' && !rollout.paused && !manual && wave < waves;
  return create(RolloutSchema, {
    id: rollout.id,
    assignment: rollout.assignment,
    ...(asked.spec && { spec: asked.spec }),
    ...(before && { previousSpec: before }),
    state: rollout.paused ? RolloutState.PAUSED : STATES[phase],
    reason: reasonOf(rollout),
    wave,
    waves,
    agents: agents.map(agentView),
    agentCount: counts.all,
    currentCount: counts.current,
    failedCount: counts.failed,
    offlineCount: counts.offline,
    startTime: timestampFromMs(startedAtMs),
    ...(endedAtMs !== undefined && { endTime: timestampFromMs(endedAtMs) }),
    ...(byItself && { nextWaveTime: timestampFromMs(rollout.phaseAtMs + durationMs(pause!)) }),
  });
}

function reasonOf({ phase, reason, wave, waves }: RolloutRecord): string {
  if (phase !== 'waiting' || reason !== '') return reason;
  return `wave ${wave} of ${waves} is through; the next one begins when the rollout is resumed`;
}

function agentView({ agentId, reason, step, wave }: RolloutAgentRecord): RolloutAgent {
  return create(RolloutAgentSchema, { agentId, wave, state: AGENT_STATES[step], reason });
}
