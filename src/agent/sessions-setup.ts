// The sessions capability as the agent's configuration wants it, and what it reports as the link takes it.
import { readFileSync } from 'node:fs';
import { create, fromBinary } from '@bufbuild/protobuf';
import { type SessionCapacity, SessionCapacitySchema } from '#gen/longline/v1/agent_pb.js';
import { type SessionStatus, SessionStatusSchema, SessionTelemetrySchema } from '#gen/longline/v1/session_pb.js';
import { SessionsCapability } from '../capabilities/sessions/capability.ts';
import type { SessionsConfig } from '../capabilities/sessions/config.ts';
import type { SessionMeter, SessionReports } from '../capabilities/sessions/ports.ts';
import type { Tracer } from '../core/tracer.ts';
import type { Link } from '../link/link.ts';
import { parseEngineAddress } from '../platform/docker/engine-address.ts';
import { DockerSessionEngine } from '../platform/docker/session-engine.ts';
import type { AgentConfig } from './config.ts';
import { RegistryCredentialFile } from './registry-credentials.ts';

const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/** The bounds of sessions on this host. */
export function sessionsConfigOf({ sessions }: AgentConfig): SessionsConfig {
  return sessions;
}

/** What sessions use of the agent around them. */
export interface SessionsSurroundings {
  readonly link: () => Link | undefined;
  readonly meter: SessionMeter;
  readonly tracer: Tracer;
}

/** The capability on the configured engine. The engine is the stack's to dispose, after the capability. */
export function openSessions(
  config: AgentConfig,
  instanceId: string,
  { link, meter, tracer }: SessionsSurroundings,
  stack: AsyncDisposableStack,
): SessionsCapability {
  const engine = stack.use(new DockerSessionEngine(parseEngineAddress(config.dockerHost)));
  return new SessionsCapability({
    engine,
    logs: { open: (logId, attempt) => link()!.logs.open(logId, 'session', attempt) },
    credentials: new RegistryCredentialFile(config.jobs.credentialsFile),
    reports: reportsTo(link),
    meter,
    tracer,
    instanceId,
    bootId: hostBootId(),
    config: sessionsConfigOf(config),
  });
}

function reportsTo(link: () => Link | undefined): SessionReports {
  return {
    changed: (_sessionId, status, forgotten) => {
      // One that was forgotten is missing from a full report, and nowhere else.
      link()?.sessionsChanged(forgotten ? undefined : [fromBinary(SessionStatusSchema, status)]);
    },
    measured: (figures) => {
      link()?.sessionTelemetry(figures.map((one) => fromBinary(SessionTelemetrySchema, one.figures)));
    },
  };
}

/** Every session as the link reports it; undefined until they are known. */
export function sessionStatuses(sessions: SessionsCapability): readonly SessionStatus[] | undefined {
  return sessions.statuses()?.map((status) => fromBinary(SessionStatusSchema, status));
}

/** Room for sessions, as heartbeats tell it. */
export function sessionCapacity(sessions: SessionsCapability): SessionCapacity {
  const { running, asleep, reserved, limits } = sessions.counts();
  return create(SessionCapacitySchema, {
    held: reserved.sessions,
    maxSessions: limits.maxSessions,
    cpusReserved: reserved.cpus,
    maxCpus: limits.maxCpus,
    memoryReservedBytes: BigInt(reserved.memoryBytes),
    maxMemoryBytes: BigInt(limits.maxMemoryBytes),
    running,
    asleep,
  });
}

/** Changes when the host boots; where the kernel doesn't tell, every start of the agent counts as a boot. */
function hostBootId(): string {
  try {
    return readFileSync(BOOT_ID, 'utf8').trim();
  } catch {
    return `unknown-${process.pid}-${Date.now()}`;
  }
}
