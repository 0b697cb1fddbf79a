// What is known of one job so far, shared by the parts that carry it out.
import type { OutputRecorder } from '../../core/output/output-recorder.ts';
import type { ContainerFacts } from './ports.ts';
import type { RunRecord } from './run-record.ts';
import type { JobSpec } from './spec.ts';
import type { Noticed } from './supervision.ts';

/** Where a job stands; it only moves on, but for a lost engine. */
export type RunPhase =
  /** Waits for a place or its image, or its container is made. */
  | { readonly kind: 'preparing' }
  /** Its container runs, as far as is known. */
  | { readonly kind: 'running'; readonly containerId: string }
  /** The engine is away; it is asked again and again. */
  | { readonly kind: 'reconnecting' }
  /** The result waits for its reader; the container is removed after that. */
  | { readonly kind: 'ended' }
  /** Let go, or over and tidied up. */
  | { readonly kind: 'over' };

/** The container that ran it. */
export interface Ran {
  readonly containerId: string;
  readonly startedAtMs: number;
  readonly warm: boolean;
}

/** Mutable facts of one job. */
export interface RunState {
  phase: RunPhase;
  spec: JobSpec | undefined;
  recorder: OutputRecorder | undefined;
  /** The container as it was found when last looked for. */
  observed: ContainerFacts | undefined;
  record: RunRecord | undefined;
  ran: Ran | undefined;
  /** Image that ran, with digest where known. */
  imageName: string;
  /** All input is in the job's hands, or it has none. */
  inputDone: boolean;
  /** The connection made at start was lost, and its input with it. */
  foundAgain: boolean;
  endedAtMs: number | undefined;
  readonly noticed: Noticed;
}

/** A job of which nothing is known. */
export function newRunState(): RunState {
  return {
    phase: { kind: 'preparing' },
    spec: undefined,
    recorder: undefined,
    observed: undefined,
    record: undefined,
    ran: undefined,
    imageName: '',
    inputDone: false,
    foundAgain: false,
    endedAtMs: undefined,
    noticed: { oomSeen: false, signalled: false, usage: { cpuNanos: 0, memoryPeakBytes: 0 } },
  };
}
