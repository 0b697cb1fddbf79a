// Records as the API shows them. Pure.
import { create, fromBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type AgentCertificate,
  AgentCertificateSchema,
  type AgentEvent,
  AgentEventSchema,
  type StoredAuditCheckpoint,
  StoredAuditCheckpointSchema,
} from '#gen/longline/fleet/v1/agent_service_pb.js';
import { type Agent, AgentFactsSchema, AgentSchema, AgentUsageSchema } from '#gen/longline/v1/agent_pb.js';
import {
  type Job,
  type JobExecution,
  JobExecutionSchema,
  JobProgressSchema,
  JobResultSchema,
  JobSchema,
  JobSpecSchema,
  JobTargetSchema,
} from '#gen/longline/v1/job_pb.js';
import { HostEventSchema } from '#gen/longline/v1/telemetry_pb.js';
import type { IssuedCertificate } from '../identity/ports.ts';
import type { AgentRecord } from '../store/agent.ts';
import type { AgentEventRecord } from '../store/agent-event.ts';
import type { AuditCheckpointRecord } from '../store/audit-checkpoint.ts';
import type { CommandRecord } from '../store/command.ts';
import type { JobRecord } from '../store/job.ts';

function stateReason(agent: AgentRecord): string {
  if (agent.revoked) return agent.revokeReason;
  return agent.drainReason ?? '';
}

/** An agent. */
export function agentView(agent: AgentRecord): Agent {
  const view = create(AgentSchema, {
    id: agent.id,
    state: agent.state,
    labels: { ...agent.labels },
    assignedLabels: { ...agent.assignedLabels },
    enrollTime: timestampFromMs(agent.enrolledAtMs),
    instanceId: agent.instanceId,
    bootId: agent.bootId,
    stateReason: stateReason(agent),
  });
  if (agent.facts !== undefined) view.facts = fromBinary(AgentFactsSchema, agent.facts);
  if (agent.usage !== undefined) view.usage = fromBinary(AgentUsageSchema, agent.usage);
  if (agent.connectedAtMs !== undefined) view.connectTime = timestampFromMs(agent.connectedAtMs);
  if (agent.seenAtMs !== undefined) view.seenTime = timestampFromMs(agent.seenAtMs);
  if (agent.certificateExpiresAtMs !== undefined) {
    view.certificateExpireTime = timestampFromMs(agent.certificateExpiresAtMs);
  }
  if (agent.roundTripMs !== undefined) view.roundTrip = durationFromMs(agent.roundTripMs);
  return view;
}

/** A certificate of an agent. */
export function certificateView({ serial, instanceId, expiresAtMs }: IssuedCertificate): AgentCertificate {
  return create(AgentCertificateSchema, { serial, instanceId, expireTime: timestampFromMs(expiresAtMs) });
}

/** An execution. */
export function executionView(command: CommandRecord): JobExecution {
  const view = create(JobExecutionSchema, {
    id: command.id,
    agentId: command.agentId,
    state: command.jobState,
    createTime: timestampFromMs(command.createdAtMs),
  });
  if (command.progress !== undefined) view.progress = fromBinary(JobProgressSchema, command.progress);
  if (command.result !== undefined) view.result = fromBinary(JobResultSchema, command.result);
  if (command.receivedAtMs !== undefined) view.receiveTime = timestampFromMs(command.receivedAtMs);
  if (command.endedAtMs !== undefined) view.endTime = timestampFromMs(command.endedAtMs);
  return view;
}

/** A job with its executions. */
export function jobView(job: JobRecord, commands: readonly CommandRecord[]): Job {
  return create(JobSchema, {
    id: job.id,
    spec: fromBinary(JobSpecSchema, job.spec),
    target: fromBinary(JobTargetSchema, job.target),
    executions: commands.map(executionView),
    createTime: timestampFromMs(job.createdAtMs),
    expireTime: timestampFromMs(job.expiresAtMs),
    creator: job.creator,
    requestId: job.requestId,
    labels: { ...job.labels },
    state: job.state,
  });
}

/** An event. */
export function eventView(record: AgentEventRecord): AgentEvent {
  return create(AgentEventSchema, {
    number: BigInt(record.number),
    agentId: record.agentId,
    event: fromBinary(HostEventSchema, record.event),
    storeTime: timestampFromMs(record.storedAtMs),
  });
}

/** A checkpoint. */
export function checkpointView(record: AuditCheckpointRecord): StoredAuditCheckpoint {
  return create(StoredAuditCheckpointSchema, {
    chainId: record.chainId,
    sequence: BigInt(record.sequence),
    head: record.head,
    time: timestampFromMs(record.signedAtMs),
    storeTime: timestampFromMs(record.storedAtMs),
    publicKey: record.publicKey,
    payload: record.payload,
    signature: record.signature,
    lag: durationFromMs(record.storedAtMs - record.signedAtMs),
  });
}
