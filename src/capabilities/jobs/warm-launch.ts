// Runs a job in a container that waits for it. This is the path on which milliseconds count: all that is waited for before
// the command is sent are the syncs of record, journal and audit, made side by side, with the log opened beside them.
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { traced } from '../../core/tracer.ts';
import type { LiveContainer } from './live-container.ts';
import type { ContainerSpec, ImageFacts } from './ports.ts';
import type { RunState } from './run-state.ts';
import type { JobServices } from './services.ts';
import { encodeWarmCommand, RefusalScreen } from './warm-init.ts';

/** A job that may run warm. */
export interface WarmLaunchParts {
  readonly services: JobServices;
  readonly state: RunState;
  readonly executionId: string;
  readonly spec: ContainerSpec;
  readonly image: ImageFacts;
  /** Checked before the command is sent. */
  readonly signal: AbortSignal;
  openLog(): Promise<unknown>;
  /** Resolves once the command may take effect. */
  committed(): Promise<void>;
}

/** The running container; undefined if none waits in the job's shape or the job needs a cold one. */
export async function launchWarm(parts: WarmLaunchParts): Promise<LiveContainer | undefined> {
  const { services, state, executionId } = parts;
  const { pool, records, clock, reaper, tracer } = services;
  const { argv, env, workingDir, input, image } = state.spec!;
  // Streamed input can't be given twice, should the init refuse and the job run cold.
  if (input.kind === 'stream' && workingDir !== '') return undefined;
  const command = encodeWarmCommand({ argv, env, workingDir, withInput: input.kind !== 'none' });
  if (command === undefined) return undefined;
  const taken = pool.take(image.text, parts.image, parts.spec);
  if (taken === undefined) return undefined;
  const { id, attachment, exit, token } = taken;
  const startedAtMs = clock.now();
  try {
    const record = { containerId: id, warm: true, atMs: startedAtMs, inputDone: state.inputDone };
    // All are waited for in any case, so that what is undone below is done by then.
    // The record first: its sync goes on while the log's folder is made.
    const steps = [parts.committed(), records.put(executionId, record), parts.openLog()];
    const attributes = { [ATTRIBUTE.containerId]: id, [ATTRIBUTE.warm]: true };
    await traced(tracer, SPAN.start, { attributes }, async () => {
      const outcomes = await Promise.allSettled(steps);
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    });
    parts.signal.throwIfAborted();
  } catch (error) {
    // It got no command: it goes as if it had never been taken.
    attachment.destroy();
    reaper.removeLater(id);
    await records.delete(executionId);
    throw error;
  }
  // Not awaited: a failure shows as the loss of the connection or the end of the container.
  attachment.writeInput(command).catch(() => undefined);
  const screen = new RefusalScreen(token);
  return {
    id,
    startedAtMs,
    warm: true,
    refusal: () => screen.refusal,
    output: screen.screen(attachment.output),
    exit,
    input: input.kind === 'none' ? undefined : attachment,
    close: () => attachment.destroy(),
  };
}
