// Sessions and templates as machine output: snake_case keys, times as RFC 3339, enums in lower case, absent as null. These
// shapes are a promise to scripts; add to them, never rename.
import { toJson as messageToJson } from '@bufbuild/protobuf';
import type { SessionUsage } from '#gen/longline/fleet/v1/session_service_pb.js';
import {
  type Session,
  SessionCause,
  type SessionOperation,
  SessionOperationState,
  SessionPortProtocol,
  SessionProgressSchema,
  SessionSpecSchema,
  SessionState,
  SessionStep,
  type SessionTelemetry,
  type SessionTemplate,
  SessionVerb,
} from '#gen/longline/v1/session_pb.js';
import { timeView, type View, wireErrorView, wordOf } from '../views.ts';

/** "hibernated" for SessionState.HIBERNATED. */
export function sessionStateName(state: SessionState): string {
  return wordOf(SessionState[state]);
}

/** "crash_loop" for SessionCause.CRASH_LOOP; empty for unspecified. */
export function causeName(cause: SessionCause): string {
  return wordOf(SessionCause[cause]);
}

/** "pull" for SessionStep.PULL; empty for unspecified. */
export function stepName(step: SessionStep): string {
  return wordOf(SessionStep[step]);
}

/** "wake" for SessionVerb.WAKE. */
export function verbName(verb: SessionVerb): string {
  return wordOf(SessionVerb[verb]);
}

function operationView(operation: SessionOperation): View {
  const { progress } = operation;
  return {
    id: operation.id,
    verb: verbName(operation.verb),
    state: wordOf(SessionOperationState[operation.state]),
    unchanged: operation.unchanged,
    progress:
      progress === undefined ? null : messageToJson(SessionProgressSchema, progress, { useProtoFieldName: true }),
    error: operation.error === undefined ? null : wireErrorView(operation.error),
    creator: operation.creator,
    created_at: timeView(operation.createTime),
    ended_at: timeView(operation.endTime),
  };
}

/** A session. */
export function sessionView(session: Session): View {
  const { status, spec } = session;
  return {
    id: session.id,
    generation: session.generation,
    state: sessionStateName(status?.state ?? SessionState.UNSPECIFIED),
    cause: causeName(status?.cause ?? SessionCause.UNSPECIFIED) || null,
    reason: status?.reason || null,
    step: stepName(status?.step ?? SessionStep.UNSPECIFIED) || null,
    agent: session.agentId,
    unknown_since: timeView(session.unknownSince),
    template: session.template || null,
    template_version: session.templateVersion || null,
    image: status?.image || spec?.image || null,
    owner: spec?.owner || null,
    labels: spec?.labels ?? {},
    container_id: status?.containerId || null,
    container_name: status?.containerName || null,
    starts: status?.starts ?? 0,
    restarts: status?.restarts ?? 0,
    oom_killed: status?.oomKilled ?? false,
    exit_code: status?.exitCode ?? null,
    error: status?.error === undefined ? null : wireErrorView(status.error),
    ports: (status?.ports ?? []).map(({ name, number, protocol, reachable }) => {
      return { name, number, protocol: wordOf(SessionPortProtocol[protocol]), reachable };
    }),
    network: status?.network || null,
    volumes: (status?.volumes ?? []).map(({ name, volume, target, exists }) => ({ name, volume, target, exists })),
    open_tunnels: status?.openTunnels ?? 0,
    created_at: timeView(session.createTime),
    started_at: timeView(status?.startTime),
    active_at: timeView(status?.activityTime),
    changed_at: timeView(status?.changeTime),
    ended_at: timeView(status?.endTime),
    expires_at: timeView(status?.expireTime),
    next_try_at: timeView(status?.nextTryTime),
    creator: session.creator,
    request_id: session.requestId || null,
    spec_hash: Buffer.from(session.specHash).toString('hex'),
    spec: spec === undefined ? null : messageToJson(SessionSpecSchema, spec, { useProtoFieldName: true }),
    operation: session.operation === undefined ? null : operationView(session.operation),
  };
}

/** A template. */
export function templateView(template: SessionTemplate): View {
  const { spec } = template;
  return {
    name: template.name,
    version: template.version,
    description: template.description,
    image: spec?.image || null,
    created_at: timeView(template.createTime),
    creator: template.creator,
    spec: spec === undefined ? null : messageToJson(SessionSpecSchema, spec, { useProtoFieldName: true }),
  };
}

function sampleView(sample: SessionTelemetry): View {
  return {
    at: timeView(sample.time),
    cpus: sample.cpus,
    cpu_limit: sample.cpuLimit || null,
    cpu_seconds: sample.cpuSeconds,
    memory_bytes: sample.memoryBytes,
    memory_limit_bytes: sample.memoryLimitBytes || null,
    network_rx_bytes: sample.networkRxBytes,
    network_tx_bytes: sample.networkTxBytes,
    block_read_bytes: sample.blockReadBytes,
    block_write_bytes: sample.blockWriteBytes,
    pids: sample.pids,
    tunnel_in_bytes: sample.tunnelInBytes,
    tunnel_out_bytes: sample.tunnelOutBytes,
    open_tunnels: sample.openTunnels,
  };
}

/** Latest figures of a session; null for each where none came lately. */
export function sessionUsageView({ sessionId, agentId, state, sample }: SessionUsage): View {
  return { id: sessionId, agent: agentId, state: sessionStateName(state), usage: sample ? sampleView(sample) : null };
}
