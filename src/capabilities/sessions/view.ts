// A session as others see it: made from its record and what is known of it at the moment.

import type { SessionNames, StepKind } from './plan.ts';
import type { SessionRecord } from './record.ts';
import type { PortSpec } from './session-spec.ts';
import { type Cause, isOver, type PlainError, type SessionState } from './state.ts';

/** A port and whether it answered. */
export interface PortView extends PortSpec {
  readonly reachable: boolean;
}

/** A volume of a session. */
export interface VolumeView {
  readonly name: string;
  /** Engine's name. */
  readonly volume: string;
  readonly target: string;
  readonly exists: boolean;
}

/** Everything that is told of a session; becomes longline.v1.SessionStatus. */
export interface SessionView {
  readonly sessionId: string;
  readonly generation: number;
  readonly revision: number;
  readonly state: SessionState;
  readonly cause: Cause;
  readonly reason: string;
  readonly step: StepKind | undefined;
  readonly error: PlainError | undefined;
  readonly containerId: string;
  readonly containerName: string;
  readonly image: string;
  readonly specHash: string;
  readonly starts: number;
  readonly restarts: number;
  readonly oomKilled: boolean;
  readonly exitCode: number | undefined;
  readonly createdAtMs: number;
  readonly startedAtMs: number | undefined;
  readonly activeAtMs: number | undefined;
  readonly changedAtMs: number;
  readonly endedAtMs: number | undefined;
  readonly expiresAtMs: number | undefined;
  readonly ports: readonly PortView[];
  readonly network: string;
  readonly volumes: readonly VolumeView[];
  readonly healthFailures: number;
  readonly healthOutput: string;
  readonly openTunnels: number;
}

/** What is known of a session beside its record, at the moment. */
export interface Momentary {
  readonly step: StepKind | undefined;
  readonly reachable: ReadonlySet<number>;
  readonly healthFailures: number;
  readonly healthOutput: string;
  readonly openTunnels: number;
}

const STEPPING: ReadonlySet<SessionState['kind']> = new Set(['starting', 'waking', 'hibernating', 'stopping']);

/** The view of a session. */
export function viewOf(record: SessionRecord, names: SessionNames, now: Momentary): SessionView {
  const { spec, state, goal, firstStartedAtMs } = record;
  const over = isOver(state);
  const removed = over && goal.kind === 'gone' && goal.removeVolumes;
  return {
    sessionId: record.sessionId,
    generation: record.generation,
    revision: record.revision,
    state,
    cause: record.cause,
    reason: record.reason,
    step: STEPPING.has(state.kind) ? now.step : undefined,
    error: record.error,
    containerId: over ? '' : record.containerId,
    containerName: over || record.containerId === '' ? '' : names.container,
    image: record.image,
    specHash: record.specHash,
    starts: record.starts,
    restarts: record.restarts,
    oomKilled: record.oomKilled,
    exitCode: record.exitCode,
    createdAtMs: record.createdAtMs,
    startedAtMs: record.startedAtMs,
    activeAtMs: record.activeAtMs,
    changedAtMs: record.changedAtMs,
    endedAtMs: record.endedAtMs,
    expiresAtMs: spec.lifetimeMs > 0 && firstStartedAtMs !== undefined ? firstStartedAtMs + spec.lifetimeMs : undefined,
    ports: spec.ports.map((port) => ({ ...port, reachable: now.reachable.has(port.number) })),
    network: over ? '' : (names.network ?? ''),
    volumes: spec.volumes.map(({ name, target, scope }, index) => ({
      name,
      target,
      volume: names.volumes[index]!,
      exists: !(removed && scope === 'session'),
    })),
    healthFailures: now.healthFailures,
    healthOutput: now.healthOutput,
    openTunnels: now.openTunnels,
  };
}
