// Programs as machine output, in the shapes that ../views.ts promises.
import { toJson } from '@bufbuild/protobuf';
import type { Artifact, FleetRollback, Program } from '#gen/longline/fleet/v1/program_service_pb.js';
import {
  type ProgramFigures,
  ProgramMetadataSchema,
  type ProgramRevision,
  type ProgramRollback,
  ProgramRollbackTrigger,
  ProgramSpecSchema,
  ProgramState,
  type ProgramStatus,
} from '#gen/longline/v1/program_pb.js';
import { timeView, type View, wireErrorView, wordOf } from '../views.ts';

/** "rolling_back" for ProgramState.ROLLING_BACK; empty for unspecified. */
export function programStateName(state: ProgramState): string {
  return wordOf(ProgramState[state]);
}

/** "latency" for ProgramRollbackTrigger.LATENCY. */
export function triggerName(trigger: ProgramRollbackTrigger): string {
  return wordOf(ProgramRollbackTrigger[trigger]);
}

/** An artifact. */
export function artifactView({ createTime, digest, metadata, signers, size }: Artifact): View {
  return {
    digest,
    name: metadata?.name ?? '',
    version: metadata?.version ?? '',
    size: Number(size),
    signers,
    metadata: metadata === undefined ? null : toJson(ProgramMetadataSchema, metadata, { useProtoFieldName: true }),
    created_at: timeView(createTime),
  };
}

function revisionView(revision: ProgramRevision | undefined): View | null {
  if (revision === undefined) return null;
  return {
    number: Number(revision.number),
    artifact: revision.artifact,
    artifact_name: revision.artifactName,
    version: revision.version,
    signers: revision.signers,
    loaded_at: timeView(revision.loadTime),
    active_at: timeView(revision.activeTime),
    program_ids: revision.programIds,
  };
}

/** What a program did between two looks. */
export function figuresView(figures: ProgramFigures): View {
  const others = Object.entries(figures.others).map(([name, value]) => [name, Number(value)] as const);
  return {
    started_at: timeView(figures.startTime),
    ended_at: timeView(figures.endTime),
    runs: Number(figures.runs),
    cpu_percent: figures.cpuPercent,
    latency_ms: figures.latencyMs,
    memory_kb: Number(figures.memoryKb),
    packets: Number(figures.packets),
    violations: Number(figures.violations),
    errors: Number(figures.errors),
    packets_delta: Number(figures.packetsDelta),
    violations_delta: Number(figures.violationsDelta),
    errors_delta: Number(figures.errorsDelta),
    others: Object.fromEntries(others),
    events: Number(figures.events),
    dropped_events: Number(figures.droppedEvents),
  };
}

/** A rollback. */
export function rollbackView(rollback: ProgramRollback): View {
  return {
    id: rollback.id,
    program: rollback.program,
    from: revisionView(rollback.from),
    to: revisionView(rollback.to),
    trigger: triggerName(rollback.trigger),
    threshold: rollback.threshold,
    value: rollback.value,
    figures: rollback.figures === undefined ? null : figuresView(rollback.figures),
    reason: rollback.reason,
    requested_by: rollback.requestedBy || null,
    time: timeView(rollback.time),
    error: rollback.error === undefined ? null : wireErrorView(rollback.error),
  };
}

/** A rollback of an agent. */
export function fleetRollbackView({ agentId, rollback }: FleetRollback): View {
  return { agent_id: agentId, ...(rollback === undefined ? {} : rollbackView(rollback)) };
}

/** A program as its agent tells of it. */
export function programStatusView(status: ProgramStatus): View {
  return {
    name: status.name,
    source: status.source,
    state: programStateName(status.state),
    state_at: timeView(status.stateTime),
    current: revisionView(status.current),
    previous: revisionView(status.previous),
    wanted_artifact: status.wantedArtifact,
    quarantined: status.quarantined,
    problems: status.problems.map(({ error, field, retryTime, verifierLog }) => ({
      field,
      error: error === undefined ? null : wireErrorView(error),
      verifier_log: verifierLog || null,
      retry_at: timeView(retryTime),
    })),
    links: status.links.map(({ atomic, attach, function: name, linkId }) => ({
      function: name,
      attach,
      link_id: linkId,
      atomic,
    })),
    expires_at: timeView(status.expireTime),
    last_rollback: status.lastRollback === undefined ? null : rollbackView(status.lastRollback),
  };
}

/** A program of an agent. */
export function programView(program: Program): View {
  const { error, spec, status, telemetry } = program;
  return {
    agent_id: program.agentId,
    name: programName(program),
    state: programStateText(program),
    assignment: program.assignment || null,
    generation: Number(program.generation),
    applied: program.applied,
    removing: program.removing,
    error: error === undefined ? null : wireErrorView(error),
    spec: spec === undefined ? null : toJson(ProgramSpecSchema, spec, { useProtoFieldName: true }),
    status: status === undefined ? null : programStatusView(status),
    status_at: timeView(program.statusTime),
    figures: telemetry?.figures === undefined ? null : figuresView(telemetry.figures),
    updated_at: timeView(program.updateTime),
  };
}

/** Its name, whoever asked for it. */
export function programName({ spec, status }: Program): string {
  return spec?.name || status?.name || '';
}

/** State in words: what the agent says, with a mark while that is not of what is wanted. */
export function programStateText({ applied, error, removing, spec, status }: Program): string {
  if (removing) return 'removing';
  if (error !== undefined) return 'refused';
  const state = status === undefined ? '' : programStateName(status.state);
  if (spec !== undefined && !applied) return state === '' ? 'waiting' : `${state} (changing)`;
  return state === '' ? 'applied' : state;
}
