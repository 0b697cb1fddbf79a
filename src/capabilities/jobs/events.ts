// What a job says while it runs and when it ends, in our own words. wire.ts gives them their wire form.
import type { LonglineError } from '../../core/errors.ts';
import type { PullProgress } from './ports.ts';

/** Why a job is stopped before its own end. */
export type StopCause =
  /** Somebody asked for it. */
  | 'cancelled'
  /** Its timeout passed. */
  | 'timeout'
  /** Its output can't be kept: the host's disk or spool is full or broken. */
  | 'host_limit';

/** A step of a job, as it happens. */
export type JobStep =
  /** It waits for a place; 1 is next. */
  | { readonly kind: 'queued'; readonly position: number }
  /** Its image is fetched. */
  | ({ readonly kind: 'pulling'; readonly image: string; readonly attempt: number } & PullProgress)
  /** Its container is made. */
  | { readonly kind: 'creating'; readonly image: string }
  /** Its main process runs. */
  | { readonly kind: 'started'; readonly containerId: string; readonly atMs: number; readonly warm: boolean }
  /** It was sent a signal to end. */
  | { readonly kind: 'stopping'; readonly cause: StopCause; readonly signal: string }
  /** The kernel killed one of its processes for memory. */
  | { readonly kind: 'out_of_memory'; readonly main: boolean }
  /** It was found again, with this much output safe already. */
  | {
      readonly kind: 'adopted';
      readonly containerId: string;
      readonly stdoutOffset: number;
      readonly stderrOffset: number;
    };

/** Final states of a job; the names are those of longline.v1.JobState. */
export type JobEndState = 'succeeded' | 'failed' | 'cancelled' | 'timed_out' | 'rejected' | 'indeterminate';

/** Why a job ended; the names are those of longline.v1.JobReason. */
export type JobEndReason =
  | 'exited'
  | 'signaled'
  | 'out_of_memory'
  | 'timeout'
  | 'cancelled'
  | 'image_unavailable'
  | 'start_failed'
  | 'engine_lost'
  | 'rejected'
  | 'interrupted'
  | 'host_limit';

/** How and why a job ended. */
export interface Verdict {
  readonly state: JobEndState;
  readonly reason: JobEndReason;
  readonly exitCode?: number;
  /** "SIGKILL"; empty if it wasn't ended by a signal. */
  readonly signal: string;
  readonly oomKilled: boolean;
  readonly error?: LonglineError;
}

/** Everything that is known of a job that ended. */
export interface JobEnding extends Verdict {
  readonly startedAtMs?: number;
  readonly endedAtMs: number;
  /** Written by the job, kept or not. */
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  readonly truncated: boolean;
  readonly cpuNanos: number;
  /** 0 if it isn't known. */
  readonly memoryPeakBytes: number;
  readonly image: string;
  readonly containerId: string;
  readonly warm: boolean;
  readonly queueMs: number;
}
