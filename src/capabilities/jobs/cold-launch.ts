// Runs a job in a container made for it.

import { LonglineError } from '../../core/errors.ts';
import type { OutputRecorder } from '../../core/output/output-recorder.ts';
import { type LiveContainer, launch } from './live-container.ts';
import type { ContainerSpec } from './ports.ts';
import { early } from './preparation.ts';
import type { RunState } from './run-state.ts';
import type { JobServices } from './services.ts';
import { unstarted } from './verdict.ts';

/** A job to run cold. */
export interface ColdLaunchParts {
  readonly services: JobServices;
  readonly state: RunState;
  readonly executionId: string;
  readonly spec: ContainerSpec;
  /** Checked before start. */
  readonly signal: AbortSignal;
  openLog(): Promise<OutputRecorder>;
}

/** The running container. Throws an EarlyEnd, or `unavailable` or `already_exists` for whoever looks what is there. */
export async function launchCold(parts: ColdLaunchParts): Promise<LiveContainer> {
  const { services, state, executionId, spec, signal } = parts;
  const { engine, records, clock, log, tracer } = services;
  const recorder = parts.openLog();
  recorder.catch(() => undefined);
  try {
    const { inputDone } = state;
    return await launch({ engine, records, clock, log, tracer, spec, recorder, executionId, inputDone, signal });
  } catch (error) {
    if (error instanceof LonglineError && (error.reason === 'unavailable' || error.reason === 'already_exists'))
      throw error;
    throw early(error, (cause) => unstarted('failed', cause.reason === 'limit' ? 'host_limit' : 'start_failed', cause));
  }
}
