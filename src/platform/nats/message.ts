// What is published, as JSON: {type, timestamp, data, metadata}. Pure. `data` holds the names that seed orchestrators read
// (artifact_id, host_id, status and the figures), and further facts of ours beside them.
import type {
  AnnouncedChange,
  AnnouncedFigures,
  AnnouncedProgram,
  AnnouncedRollback,
  ProgramFigures,
} from '../../capabilities/programs/ports.ts';

/** Who speaks. */
export interface MessageSource {
  readonly hostId: string;
  readonly agentVersion: string;
}

/** Facts of one message; `id` is the same if it is sent twice. */
interface Envelope {
  readonly id: string;
  readonly atMs: number;
}

const MAX_TEXT = 1024;

/** What a program did: type "program_telemetry". */
export function figuresMessage(source: MessageSource, id: string, told: AnnouncedFigures): Uint8Array {
  const data = { ...programFacts(source, told), status: statusOf(told), ...figureFacts(told.figures) };
  return encode(source, { id, atMs: told.figures.endMs }, 'program_telemetry', data);
}

/** What became of a program: type "program_event", status "loaded", "unloaded", "error" or "rolled_back". */
export function changeMessage(source: MessageSource, envelope: Envelope, change: AnnouncedChange): Uint8Array {
  const facts = { ...programFacts(source, change), status: change.what };
  switch (change.what) {
    case 'error':
      return encode(source, envelope, 'program_event', { ...facts, error: cut(change.error) });
    case 'rolled_back': {
      const { id, atMs } = { ...envelope, atMs: change.rollback.timeMs };
      return encode(source, { id, atMs }, 'program_event', { ...facts, ...rollbackFacts(change.rollback) });
    }
    default:
      return encode(source, envelope, 'program_event', facts);
  }
}

/** A sign of life: type "agent_heartbeat". */
export function heartbeatMessage(source: MessageSource, envelope: Envelope, loaded: number): Uint8Array {
  const data = { host_id: source.hostId, status: 'healthy', loaded_programs: loaded };
  return encode(source, envelope, 'agent_heartbeat', data);
}

/** A rollback with its reason, threshold and the values that led to it. */
export function rollbackFacts(rollback: AnnouncedRollback): Record<string, unknown> {
  const { id, trigger, threshold, value, reason, requestedBy, toArtifact, figures, error, timeMs } = rollback;
  return {
    rollback_id: id,
    trigger,
    reason: cut(reason),
    threshold,
    value,
    requested_by: requestedBy,
    rolled_back_to: toArtifact ?? null,
    rollback_time: timeText(timeMs),
    ...(figures === undefined ? {} : { values: figureFacts(figures) }),
    ...(error === undefined ? {} : { error: cut(error) }),
  };
}

function programFacts({ hostId }: MessageSource, told: AnnouncedProgram): Record<string, unknown> {
  const { artifact, program, version, revision, state } = told;
  return { artifact_id: artifact, host_id: hostId, program, version, revision, state };
}

/** "running" for all that runs, as orchestrators know it; else the state's own name. */
function statusOf({ state }: AnnouncedProgram): string {
  return ['attached', 'probation', 'active', 'updating'].includes(state) ? 'running' : state;
}

function figureFacts(figures: ProgramFigures): Record<string, unknown> {
  const { packets, violations, errors, packetsDelta, violationsDelta, errorsDelta, others } = figures;
  return {
    cpu_percent: figures.cpuPercent,
    memory_kb: figures.memoryKb,
    packets_processed: Number(packets),
    violations: Number(violations),
    errors: Number(errors),
    latency_ms: figures.latencyMs,
    runs: Number(figures.runs),
    counted_ms: Math.round(figures.countedMs),
    interval_ms: Math.round(figures.elapsedMs),
    packets_delta: numberOf(packetsDelta),
    violations_delta: numberOf(violationsDelta),
    errors_delta: numberOf(errorsDelta),
    events: figures.events,
    dropped_events: figures.droppedEvents,
    counters: Object.fromEntries(Object.entries(others).map(([name, count]) => [name, Number(count)])),
  };
}

function numberOf(count: bigint | undefined): number | null {
  return count === undefined ? null : Number(count);
}

function encode(
  { hostId, agentVersion }: MessageSource,
  { id, atMs }: Envelope,
  type: string,
  data: Record<string, unknown>,
): Uint8Array {
  const metadata = { host_id: hostId, agent_version: agentVersion, message_id: id };
  return new TextEncoder().encode(JSON.stringify({ type, timestamp: timeText(atMs), data, metadata }));
}

function timeText(ms: number): string {
  return new Date(ms).toISOString();
}

function cut(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 1).toWellFormed()}…` : text;
}
