// The only file of the capability that knows generated code: bytes of longline.v1 messages to and from domain values.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt';
import { type Error as ErrorMessage, ErrorReason, ErrorSchema } from '#gen/longline/v1/error_pb.js';
import {
  type HibernationTier,
  type SessionAction,
  SessionActionSchema,
  SessionCause,
  type SessionNetworkMode,
  SessionPortProtocol,
  type SessionProgress,
  SessionProgressSchema,
  SessionPullSchema,
  type SessionRestartMode,
  SessionResultSchema,
  type SessionSpec as SessionSpecMessage,
  SessionSpecSchema,
  type SessionStatus,
  SessionStatusSchema,
  SessionStep,
  SessionStepState,
  SessionTelemetrySchema,
  type SessionVolumeScope,
  SessionState as WireState,
} from '#gen/longline/v1/session_pb.js';
import { LonglineError } from '../../core/errors.ts';
import type { Figures } from './figures.ts';
import type { StepReport } from './plan.ts';
import type { Cause, PlainError, SessionState, Tier } from './state.ts';
import type { SessionView } from './view.ts';

export type { SessionSpecMessage };

/** A spec message in parts: for tests and tools. */
export type SessionSpecInit = MessageInitShape<typeof SessionSpecSchema>;

/** An action message in parts: for tests and tools. */
export type SessionActionInit = MessageInitShape<typeof SessionActionSchema>;

/** What a command asks for. */
export type SessionRequest =
  | {
      readonly kind: 'start';
      readonly sessionId: string;
      readonly generation: number;
      /** Hexadecimal. */
      readonly specHash: string;
      readonly spec: SessionSpecMessage;
    }
  | {
      readonly kind: 'stop';
      readonly sessionId: string;
      readonly generation: number;
      readonly graceMs: number | undefined;
      readonly removeVolumes: boolean;
      readonly reason: string;
    }
  | {
      readonly kind: 'hibernate';
      readonly sessionId: string;
      readonly generation: number;
      readonly tier: Tier;
      readonly reason: string;
    }
  | { readonly kind: 'wake'; readonly sessionId: string; readonly generation: number; readonly reason: string };

const SESSION_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
const MAX_REASON = 500;

/** The request in a serialised longline.v1.SessionAction. Throws `invalid` or `unsupported` if it isn't one. */
export function decodeSessionAction(action: Uint8Array): SessionRequest {
  let decoded: SessionAction;
  try {
    decoded = fromBinary(SessionActionSchema, action);
  } catch (cause) {
    throw new LonglineError('invalid', 'the action is not a longline.v1.SessionAction', { cause });
  }
  const { action: asked } = decoded;
  if (asked.case === undefined || asked.case === 'tunnel') {
    throw new LonglineError('unsupported', 'the session action has a kind that is no command of this agent');
  }
  const { sessionId } = asked.value;
  if (!SESSION_ID.test(sessionId)) {
    const shown = JSON.stringify(sessionId.slice(0, 80));
    throw new LonglineError('invalid', `session_id: ${shown} is not 1 to 63 of a-z 0-9 -, not beginning with "-"`);
  }
  const whose = { sessionId, generation: Number(asked.value.generation) };
  if (asked.case === 'start') {
    const { spec, specHash } = asked.value;
    if (spec === undefined) throw new LonglineError('invalid', 'spec: is missing; a start must say what to start');
    return { kind: 'start', ...whose, specHash: Buffer.from(specHash).toString('hex'), spec };
  }
  const reason = asked.value.reason.slice(0, MAX_REASON);
  if (asked.case === 'wake') return { kind: 'wake', ...whose, reason };
  if (asked.case === 'hibernate') return { kind: 'hibernate', ...whose, tier: tierOf(asked.value.tier), reason };
  const { grace, removeVolumes } = asked.value;
  const graceMs = grace === undefined ? undefined : durationMs(grace);
  if (graceMs !== undefined && !(graceMs >= 0 && graceMs <= 600_000)) {
    throw new LonglineError('invalid', `grace: ${graceMs / 1000} s is out of range; 0 s to 10 min is allowed`);
  }
  return { kind: 'stop', ...whose, graceMs, removeVolumes, reason };
}

/** The spec that an action would start, for policy; undefined if it starts none. */
export function specOfAction(action: Uint8Array): SessionSpecMessage | undefined {
  const request = decodeSessionAction(action);
  return request.kind === 'start' ? request.spec : undefined;
}

/** A serialised longline.v1.SessionAction: for tests and tools. */
export function encodeSessionAction(action: SessionActionInit): Uint8Array {
  return toBinary(SessionActionSchema, create(SessionActionSchema, action));
}

/** A spec message from its parts: for tests and tools. */
export function sessionSpecMessage(spec: SessionSpecInit): SessionSpecMessage {
  return create(SessionSpecSchema, spec);
}

function tierOf(tier: HibernationTier): Tier {
  const known = ({ 0: 'stop', 1: 'pause', 2: 'stop', 3: 'checkpoint' } as const)[tier];
  if (known === undefined) throw new LonglineError('invalid', `tier: ${tier} is a value that this agent does not know`);
  return known;
}

/** When to fetch the image; undefined for a value that isn't known. */
export function pullPolicyOf(value: SessionSpecMessage['pullPolicy']): 'if_missing' | 'always' | 'never' | undefined {
  return ({ 0: 'if_missing', 1: 'if_missing', 2: 'always', 3: 'never' } as const)[value];
}

/** With whom a volume is shared; undefined for a value that isn't known. */
export function volumeScopeOf(value: SessionVolumeScope): 'session' | 'owner' | 'shared' | undefined {
  return ({ 0: 'session', 1: 'session', 2: 'owner', 3: 'shared' } as const)[value];
}

/** Which network; undefined for a value that isn't known. */
export function networkModeOf(value: SessionNetworkMode): 'isolated' | 'shared' | 'named' | 'none' | undefined {
  return ({ 0: 'isolated', 1: 'isolated', 2: 'shared', 3: 'named', 4: 'none' } as const)[value];
}

/** What is spoken on a port; undefined for a value that isn't known. */
export function portProtocolOf(value: SessionPortProtocol): 'raw' | 'vnc' | 'http' | 'ssh' | undefined {
  return ({ 0: 'raw', 1: 'raw', 2: 'vnc', 3: 'http', 4: 'ssh' } as const)[value];
}

/** When a session is started anew; undefined for a value that isn't known. */
export function restartModeOf(value: SessionRestartMode): 'never' | 'on_failure' | 'always' | undefined {
  return ({ 0: 'on_failure', 1: 'never', 2: 'on_failure', 3: 'always' } as const)[value];
}

/** Milliseconds of a duration, rounded up to whole ones; NaN if it is malformed. */
export function durationMs(duration: Duration): number {
  const { seconds, nanos } = duration;
  const opposed = (seconds > 0n && nanos < 0) || (seconds < 0n && nanos > 0);
  if (opposed || Math.abs(nanos) > 999_999_999) return Number.NaN;
  return Number(seconds) * 1000 + Math.ceil(nanos / 1e6);
}

/** A step as a serialised longline.v1.SessionProgress. */
export function encodeStep(sessionId: string, step: StepReport): Uint8Array {
  return toBinary(SessionProgressSchema, stepMessage(sessionId, step));
}

/** The end of an action as a serialised longline.v1.SessionResult. `view` is undefined for an unknown session. */
export function encodeResult(
  view: SessionView | undefined,
  unchanged: boolean,
  sessionId: string,
  steps: readonly StepReport[],
): Uint8Array {
  const result = create(SessionResultSchema, { unchanged, steps: steps.map((step) => stepMessage(sessionId, step)) });
  if (view !== undefined) result.status = statusMessage(view);
  return toBinary(SessionResultSchema, result);
}

/** A session as a serialised longline.v1.SessionStatus. */
export function encodeStatus(view: SessionView): Uint8Array {
  return toBinary(SessionStatusSchema, statusMessage(view));
}

/** Figures as a serialised longline.v1.SessionTelemetry. */
export function encodeFigures(figures: Figures): Uint8Array {
  const { reading } = figures;
  return toBinary(
    SessionTelemetrySchema,
    create(SessionTelemetrySchema, {
      sessionId: figures.sessionId,
      time: timestamp(reading.atMs),
      cpus: figures.cpuCores,
      cpuSeconds: reading.cpuNanos / 1e9,
      memoryBytes: BigInt(Math.round(reading.memoryBytes)),
      memoryLimitBytes: BigInt(figures.memoryLimitBytes),
      networkRxBytes: BigInt(reading.networkRxBytes),
      networkTxBytes: BigInt(reading.networkTxBytes),
      blockReadBytes: BigInt(reading.blockReadBytes),
      blockWriteBytes: BigInt(reading.blockWriteBytes),
      pids: reading.pids,
      tunnelInBytes: BigInt(figures.tunnelInBytes),
      tunnelOutBytes: BigInt(figures.tunnelOutBytes),
      openTunnels: figures.openTunnels,
      starts: figures.starts,
      cpuLimit: figures.cpuLimit,
    }),
  );
}

const CAUSES: Readonly<Record<Cause, SessionCause>> = {
  unspecified: SessionCause.UNSPECIFIED,
  requested: SessionCause.REQUESTED,
  idle: SessionCause.IDLE,
  tunnel: SessionCause.TUNNEL,
  lifetime: SessionCause.LIFETIME,
  exited: SessionCause.EXITED,
  out_of_memory: SessionCause.OUT_OF_MEMORY,
  unhealthy: SessionCause.UNHEALTHY,
  crash_loop: SessionCause.CRASH_LOOP,
  image_unavailable: SessionCause.IMAGE_UNAVAILABLE,
  start_failed: SessionCause.START_FAILED,
  start_timeout: SessionCause.START_TIMEOUT,
  host_limit: SessionCause.HOST_LIMIT,
  engine_lost: SessionCause.ENGINE_LOST,
  cancelled: SessionCause.CANCELLED,
  recovered: SessionCause.RECOVERED,
  lost: SessionCause.LOST,
};

const ASLEEP: Readonly<Record<Tier, WireState>> = {
  pause: WireState.PAUSED,
  stop: WireState.HIBERNATED,
  checkpoint: WireState.CHECKPOINTED,
};

const STATES: Readonly<Record<Exclude<SessionState['kind'], 'asleep'>, WireState>> = {
  starting: WireState.STARTING,
  running: WireState.RUNNING,
  unhealthy: WireState.UNHEALTHY,
  hibernating: WireState.HIBERNATING,
  waking: WireState.WAKING,
  restarting: WireState.RESTARTING,
  stopping: WireState.STOPPING,
  ended: WireState.ENDED,
  failed: WireState.FAILED,
};

function statusMessage(view: SessionView): SessionStatus {
  const { state } = view;
  const message = create(SessionStatusSchema, {
    sessionId: view.sessionId,
    generation: BigInt(view.generation),
    revision: BigInt(view.revision),
    state: state.kind === 'asleep' ? ASLEEP[state.tier] : STATES[state.kind],
    cause: CAUSES[view.cause],
    reason: view.reason,
    step: view.step === undefined ? SessionStep.UNSPECIFIED : STEPS[view.step],
    containerId: view.containerId,
    containerName: view.containerName,
    image: view.image,
    specHash: Buffer.from(view.specHash, 'hex'),
    starts: view.starts,
    restarts: view.restarts,
    oomKilled: view.oomKilled,
    createTime: timestamp(view.createdAtMs),
    changeTime: timestamp(view.changedAtMs),
    ports: view.ports.map((port) => ({ ...port, protocol: PROTOCOLS[port.protocol] })),
    network: view.network,
    volumes: view.volumes.map((volume) => ({ ...volume })),
    healthFailures: view.healthFailures,
    healthOutput: view.healthOutput,
    openTunnels: view.openTunnels,
  });
  if (view.exitCode !== undefined) message.exitCode = view.exitCode;
  if (view.error !== undefined) message.error = errorMessage(view.error);
  if (state.kind === 'restarting') message.nextTryTime = timestamp(state.dueAtMs);
  if (view.startedAtMs !== undefined) message.startTime = timestamp(view.startedAtMs);
  if (view.activeAtMs !== undefined) message.activityTime = timestamp(view.activeAtMs);
  if (view.endedAtMs !== undefined) message.endTime = timestamp(view.endedAtMs);
  if (view.expiresAtMs !== undefined) message.expireTime = timestamp(view.expiresAtMs);
  return message;
}

const PROTOCOLS = {
  raw: SessionPortProtocol.RAW,
  vnc: SessionPortProtocol.VNC,
  http: SessionPortProtocol.HTTP,
  ssh: SessionPortProtocol.SSH,
} as const;

const STEPS: Readonly<Record<StepReport['step'], SessionStep>> = {
  admit: SessionStep.ADMIT,
  network: SessionStep.NETWORK,
  volume: SessionStep.VOLUME,
  pull: SessionStep.PULL,
  create: SessionStep.CREATE,
  start: SessionStep.START,
  running: SessionStep.RUNNING,
  healthy: SessionStep.HEALTHY,
  tunnel_ready: SessionStep.TUNNEL_READY,
  pause: SessionStep.PAUSE,
  checkpoint: SessionStep.CHECKPOINT,
  stop: SessionStep.STOP,
  remove_container: SessionStep.REMOVE_CONTAINER,
  remove_network: SessionStep.REMOVE_NETWORK,
  remove_volume: SessionStep.REMOVE_VOLUME,
};

const STEP_STATES: Readonly<Record<StepReport['state'], SessionStepState>> = {
  begun: SessionStepState.BEGUN,
  done: SessionStepState.DONE,
  found: SessionStepState.FOUND,
  failed: SessionStepState.FAILED,
  undone: SessionStepState.UNDONE,
};

function stepMessage(sessionId: string, report: StepReport): SessionProgress {
  const message = create(SessionProgressSchema, {
    sessionId,
    step: STEPS[report.step],
    state: STEP_STATES[report.state],
    subject: report.subject,
    message: report.message ?? '',
    resumed: report.resumed ?? false,
  });
  if (report.error !== undefined) message.error = errorMessage(report.error);
  const { pull } = report;
  if (pull === undefined) return message;
  const { layersTotal, layersDone, attempt } = pull;
  const bytes = { bytesTotal: BigInt(pull.bytesTotal), bytesDone: BigInt(pull.bytesDone) };
  message.pull = create(SessionPullSchema, { image: report.subject, layersTotal, layersDone, attempt, ...bytes });
  return message;
}

function errorMessage(error: PlainError | LonglineError): ErrorMessage {
  const violations = error instanceof LonglineError ? error.violations : [];
  return create(ErrorSchema, {
    reason: ErrorReason[error.reason.toUpperCase() as keyof typeof ErrorReason],
    message: error.message,
    retryable: error.retryable,
    violations: violations.map(({ field, description }) => ({ field, description })),
    rule: error instanceof LonglineError ? (error.rule ?? '') : '',
  });
}

function timestamp(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000);
  return create(TimestampSchema, { seconds: BigInt(seconds), nanos: Math.floor((ms - seconds * 1000) * 1e6) });
}

/** A duration: for tests and tools. */
export function duration(ms: number): Duration {
  const seconds = Math.floor(ms / 1000);
  return create(DurationSchema, { seconds: BigInt(seconds), nanos: Math.floor((ms - seconds * 1000) * 1e6) });
}

/** Decodes what encodeStep made: for tests and tools. */
export function decodeStep(detail: Uint8Array): SessionProgress {
  return fromBinary(SessionProgressSchema, detail);
}

/** Decodes what encodeResult made: for tests and tools. */
export function decodeResult(detail: Uint8Array) {
  return fromBinary(SessionResultSchema, detail);
}

/** Decodes what encodeStatus made: for tests and tools. */
export function decodeStatus(status: Uint8Array): SessionStatus {
  return fromBinary(SessionStatusSchema, status);
}
