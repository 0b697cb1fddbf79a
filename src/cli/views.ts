// Messages of the API as machine output: snake_case keys, times as RFC 3339, enums in lower case, absent as null. These
// shapes are a promise to scripts; add to them, never rename.
import { toJson as messageToJson } from '@bufbuild/protobuf';
import { type Duration, type Timestamp, timestampDate } from '@bufbuild/protobuf/wkt';
import type { AgentCertificate, AgentEvent } from '#gen/longline/fleet/v1/agent_service_pb.js';
import { type ApiToken, type EnrollmentToken, Role } from '#gen/longline/fleet/v1/token_service_pb.js';
import { type Agent, AgentState, type AgentUsage, type SessionCapacity } from '#gen/longline/v1/agent_pb.js';
import { ErrorReason, type Error as WireError } from '#gen/longline/v1/error_pb.js';
import { type Job, type JobExecution, JobReason, JobSpecSchema, JobState } from '#gen/longline/v1/job_pb.js';

/** One JSON object. */
export type View = Readonly<Record<string, unknown>>;

/** RFC 3339 in UTC with milliseconds, or null. */
export function timeView(time: Timestamp | undefined): string | null {
  return time === undefined ? null : timestampDate(time).toISOString();
}

/** Milliseconds, or null. */
export function durationView(duration: Duration | undefined): number | null {
  return duration === undefined ? null : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** "timed_out" for JobState.TIMED_OUT; empty for unspecified. */
export function stateName(state: JobState): string {
  return wordOf(JobState[state]);
}

/** "exited" for JobReason.EXITED; empty for unspecified. */
export function reasonName(reason: JobReason): string {
  return wordOf(JobReason[reason]);
}

/** "online" for AgentState.ONLINE. */
export function agentStateName(state: AgentState): string {
  return wordOf(AgentState[state]);
}

/** "admin" for Role.ADMIN. */
export function roleName(role: Role): string {
  return wordOf(Role[role]);
}

/** An enum value in lower case; empty for unspecified and unknown. */
export function wordOf(name: string | undefined): string {
  return name === undefined || name === 'UNSPECIFIED' ? '' : name.toLowerCase();
}

/** An event of a host. */
export function eventView({ number, agentId, event, storeTime }: AgentEvent) {
  return {
    number,
    agent: agentId,
    time: timeView(event?.time),
    store_time: timeView(storeTime),
    type: event?.type ?? '',
    capability: event?.capability ?? '',
    message: event?.message ?? '',
    attributes: event?.attributes ?? {},
  };
}

/** An agent. */
export function agentView(agent: Agent): View {
  const { facts } = agent;
  return {
    id: agent.id,
    state: agentStateName(agent.state),
    state_reason: agent.stateReason,
    labels: agent.labels,
    assigned_labels: agent.assignedLabels,
    version: facts?.version ?? null,
    platform: facts?.platform ?? null,
    region: facts?.region ?? null,
    hostname: facts?.hostname ?? null,
    kernel: facts?.kernel ?? null,
    cpu_count: facts?.cpuCount ?? null,
    memory_bytes: facts?.memoryBytes ?? null,
    capabilities: (facts?.capabilities ?? []).map(({ name, available, reason, mend, limits, attributes }) => ({
      name,
      available,
      reason,
      mend,
      limits,
      attributes,
    })),
    usage: agent.usage === undefined ? null : usageView(agent.usage),
    enrolled_at: timeView(agent.enrollTime),
    connected_at: timeView(agent.connectTime),
    seen_at: timeView(agent.seenTime),
    certificate_expires_at: timeView(agent.certificateExpireTime),
    instance_id: agent.instanceId,
    boot_id: agent.bootId,
    round_trip_ms: durationView(agent.roundTrip),
  };
}

/** A client certificate of an agent. */
export function certificateView({ serial, instanceId, expireTime }: AgentCertificate): View {
  return { serial, instance_id: instanceId, expires_at: timeView(expireTime) };
}

/** What a host uses. */
export function usageView(usage: AgentUsage): View {
  return {
    running_jobs: usage.runningJobs,
    queued_jobs: usage.queuedJobs,
    max_jobs: usage.maxJobs,
    agent_rss_bytes: usage.agentRssBytes,
    load_1m: usage.load1m,
    spool_bytes: usage.spoolBytes,
    sessions: usage.sessions,
    session_capacity: usage.sessionCapacity === undefined ? null : capacityView(usage.sessionCapacity),
  };
}

function capacityView(room: SessionCapacity): View {
  return {
    held: room.held,
    max_sessions: room.maxSessions,
    cpus_reserved: room.cpusReserved,
    max_cpus: room.maxCpus,
    memory_reserved_bytes: room.memoryReservedBytes,
    max_memory_bytes: room.maxMemoryBytes,
    running: room.running,
    asleep: room.asleep,
  };
}

/** One execution under the id of its job. */
export function executionView(jobId: string, execution: JobExecution): View {
  const { result } = execution;
  return {
    id: jobId,
    execution_id: execution.id,
    agent: execution.agentId,
    state: stateName(execution.state),
    exit_code: result?.exitCode ?? null,
    reason: result === undefined ? null : reasonName(result.reason),
    signal: result?.signal || null,
    oom_killed: result?.oomKilled ?? false,
    created_at: timeView(execution.createTime),
    received_at: timeView(execution.receiveTime),
    started_at: timeView(result?.startTime ?? startedTime(execution)),
    ended_at: timeView(result?.endTime ?? execution.endTime),
    stdout_bytes: result?.stdoutBytes ?? null,
    stderr_bytes: result?.stderrBytes ?? null,
    output_truncated: result?.outputTruncated ?? false,
    queue_ms: durationView(result?.queueTime),
    cpu_ms: durationView(result?.cpuTime),
    memory_peak_bytes: result?.memoryPeakBytes || null,
    image: result?.image || null,
    container_id: result?.containerId || null,
    warm: result?.warm ?? false,
    error: result?.error === undefined ? null : wireErrorView(result.error),
  };
}

function startedTime({ progress }: JobExecution): Timestamp | undefined {
  return progress?.step.case === 'started' ? progress.step.value.startTime : undefined;
}

/** An error that came as data. */
export function wireErrorView(error: WireError): View {
  return {
    reason: wordOf(ErrorReason[error.reason]),
    message: error.message,
    retryable: error.retryable,
    violations: error.violations.map(({ field, description }) => ({ field, description })),
    rule: error.rule || null,
  };
}

/** A job; with one execution its fields stand at the top as well. */
export function jobView(job: Job): View {
  const [only] = job.executions.length === 1 ? job.executions : [];
  return {
    id: job.id,
    ...(only === undefined ? {} : executionView(job.id, only)),
    state: stateName(job.state),
    created_at: timeView(job.createTime),
    expires_at: timeView(job.expireTime),
    creator: job.creator,
    request_id: job.requestId || null,
    labels: job.labels,
    spec: job.spec === undefined ? null : messageToJson(JobSpecSchema, job.spec, { useProtoFieldName: true }),
    executions: job.executions.map((execution) => executionView(job.id, execution)),
  };
}

/** A registration token without its secret. */
export function enrollmentTokenView(token: EnrollmentToken): View {
  return {
    id: token.id,
    uses_left: token.usesLeft,
    uses_total: token.usesTotal,
    expires_at: timeView(token.expireTime),
    created_at: timeView(token.createTime),
    labels: token.labels,
    agent: token.agentId || null,
    revoked: token.revoked,
  };
}

/** An API token without its secret. */
export function apiTokenView(token: ApiToken): View {
  return {
    id: token.id,
    name: token.name,
    role: roleName(token.role),
    expires_at: timeView(token.expireTime),
    created_at: timeView(token.createTime),
    used_at: timeView(token.useTime),
    revoked: token.revoked,
  };
}
