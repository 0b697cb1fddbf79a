// A session as others see it: made from its record and what is known of it at the moment.

import type { StepKind } from './plan.ts';
import type { PortSpec } from './session-spec.ts';
import type { Cause, PlainError, SessionState } from './state.ts';

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
