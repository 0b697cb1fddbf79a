// Watches over a running container until it has ended and its output is in: output pump, input, usage, memory kills, and
// stopping it when asked. Ends in one of few ways; an engine that goes away is thrown as `unavailable`.
import { describeError, LonglineError } from '../../core/errors.ts';
import { type OutputRecorder, unseen } from '../../core/output/output-recorder.ts';
import type { JobStep } from './events.ts';
import type { LiveContainer } from './live-container.ts';
import { type PumpEnd, pumpOutput, recordAll } from './output-pump.ts';
import type { ContainerUsage, OutputPiece } from './ports.ts';
import type { RunControl } from './run-control.ts';
import type { JobServices } from './services.ts';
import { stopContainer } from './stop.ts';
import { KILLED } from './verdict.ts';
import { fulfils } from './waits.ts';

/** How the watch over a container ended. */
export type Supervised =
  /** It ended, and its output is recorded as far as it can be had. */
  | { readonly kind: 'ended'; readonly exitCode: number | undefined }
  /** It was warm and its init could not become the job, which therefore never ran. */
  | { readonly kind: 'refused'; readonly why: string }
  /** It was to be stopped and still runs after all that could be done. */
  | { readonly kind: 'stuck' };

/** What was noticed of a job, over all its containers and connections. */
export interface Noticed {
  oomSeen: boolean;
  /** A signal to end was sent. */
  signalled: boolean;
  usage: ContainerUsage;
}

/** One container to watch over. */
export interface SupervisionParts {
  readonly services: JobServices;
  readonly control: RunControl;
  readonly live: LiveContainer;
  readonly recorder: OutputRecorder;
  readonly noticed: Noticed;
  readonly stopGraceMs: number;
  readonly keptLogBytes: number;
  tell(step: JobStep): void;
}

const STALL_MS = 30_000;
const DETACH_MS = 5000;
const OOM_SETTLE_MS = 250;
const LATE_OOM_MS = 500;
const USAGE_EVERY_MS = [200, 800, 1000, 3000, 5000] as const;

/** Watches over a container until it ends. Closes the connections; removes nothing. */
export async function supervise(parts: SupervisionParts): Promise<Supervised> {
  const { services, live, noticed } = parts;
  const running = new AbortController();
  const oom = Promise.withResolvers<void>();
  const unsubscribe = services.watch.onOom(live.id, () => {
    noticed.oomSeen = true;
    oom.resolve();
    // Whether it was the main process shows in a moment: then the container ends.
    services.clock.sleep(OOM_SETTLE_MS, running.signal).then(
      () => parts.tell({ kind: 'out_of_memory', main: false }),
      () => undefined,
    );
  });
  const sampling = sampleUsage(parts, running.signal);
  const pump = live.pump ?? pumpOutput(live.output, parts.recorder);
  try {
    const exit = await untilExit(parts, pump);
    if (exit.kind === 'stuck') return exit;
    running.abort();
    await drain(parts, pump);
    // The news of a memory kill may come after that of the end it brought about.
    const unexplained = exit.kind === 'ended' && exit.exitCode === KILLED && !noticed.signalled && !noticed.oomSeen;
    if (unexplained) await fulfils(oom.promise, LATE_OOM_MS, services.clock);
    const why = live.refusal();
    return why === undefined ? exit : { kind: 'refused', why };
  } finally {
    running.abort();
    unsubscribe();
    live.close();
    await sampling;
    // Nothing is recorded any more when this returns, unless the log hangs.
    await fulfils(pump, DETACH_MS, services.clock);
  }
}

async function untilExit(parts: SupervisionParts, pump: Promise<PumpEnd>): Promise<Supervised> {
  const { control, live, recorder, services } = parts;
  let detached = false;
  let exitCode: number | undefined;
  const exited = live.exit.then((exit) => {
    exitCode = exit.exitCode;
  });
  const broken = pump.then((end) => {
    if (end.kind === 'broken' && !detached) throw connectionLost(end.error);
    return new Promise<never>(() => undefined);
  });
  const over = Promise.race([exited, broken]);
  over.catch(() => undefined);
  recorder.failed.then(() => control.requestStop('host_limit'));
  const stop = await Promise.race([over, control.stopAsked, control.whenGone]);
  if (stop === undefined) return { kind: 'ended', exitCode };
  const outcome = await stopContainer({
    engine: services.engine,
    clock: services.clock,
    containerId: live.id,
    exit: Promise.race([over, control.whenGone]),
    graceMs: parts.stopGraceMs,
    signalling: (signal) => {
      parts.noticed.signalled = true;
      parts.tell({ kind: 'stopping', cause: stop, signal });
    },
    detach: () => {
      detached = true;
      live.close();
    },
  });
  if (outcome === 'stuck') return { kind: 'stuck' };
  return { kind: 'ended', exitCode: exitCode ?? (await services.engine.inspect(live.id))?.exitCode };
}

// After the end, output that is still on its way is waited for as long as it comes. If it doesn't, the engine's own log
// has the rest.
async function drain(parts: SupervisionParts, pump: Promise<PumpEnd>): Promise<void> {
  const { live, recorder, services } = parts;
  const { clock, engine } = services;
  let seen: number;
  do {
    seen = recorder.total;
    if (!(await fulfils(Promise.race([pump, parts.control.whenGone]), STALL_MS, clock))) continue;
    if ((await pump).kind === 'ended' || live.refusal() !== undefined) return;
    break;
  } while (recorder.total !== seen);
  live.close();
  if (!(await fulfils(pump, DETACH_MS, clock))) {
    recorder.abandon(stalled());
    return;
  }
  const { gone, whenGone } = parts.control;
  const kept = unseen(engine.readLogs(live.id, false, gone), recorder, parts.keptLogBytes);
  // Let go of, the job isn't at its end: its log must stay open for the rest.
  await Promise.race([recordKept(kept, recorder, services, gone), whenGone]);
}

/**
 * Records what the engine kept of a container that ended. What the engine can't give is declared lost, and a log that
 * takes nothing any more is given up. Throws `unavailable` if the engine is away, and whatever broke it off once `gone` has
 * aborted: what was not read then is for the next process to read.
 */
export async function recordKept(
  pieces: AsyncIterable<OutputPiece>,
  recorder: OutputRecorder,
  { clock, log }: Pick<JobServices, 'clock' | 'log'>,
  gone: AbortSignal,
): Promise<void> {
  const recording = recordAll(pieces, recorder);
  try {
    for (let seen = -1; seen !== recorder.total; ) {
      seen = recorder.total;
      if (await fulfils(recording, STALL_MS, clock)) return;
    }
  } catch (error) {
    if (gone.aborted || (error instanceof LonglineError && error.reason === 'unavailable')) throw error;
    log.warn('the engine does not give the rest of the output', { detail: describeError(error) });
    await recorder.declareLoss();
    return;
  }
  recording.catch(() => undefined);
  recorder.abandon(stalled());
}

async function sampleUsage(parts: SupervisionParts, signal: AbortSignal): Promise<void> {
  const { services, live, noticed } = parts;
  try {
    for (let round = 0; ; round++) {
      await services.clock.sleep(USAGE_EVERY_MS[round] ?? USAGE_EVERY_MS.at(-1)!, signal);
      const usage = await services.engine.usage(live.id, signal);
      if (usage === undefined) continue;
      noticed.usage = {
        cpuNanos: Math.max(noticed.usage.cpuNanos, usage.cpuNanos),
        memoryPeakBytes: Math.max(noticed.usage.memoryPeakBytes, usage.memoryPeakBytes),
      };
    }
  } catch (error) {
    // Usage is told as far as it is known; whether the engine is gone is seen elsewhere.
    if (!signal.aborted) services.log.debug('usage is not sampled any more', { detail: describeError(error) });
  }
}

function stalled(): LonglineError {
  return new LonglineError('limit', `the log took no output for ${STALL_MS / 1000} s`);
}

function connectionLost(error: unknown): LonglineError {
  if (error instanceof LonglineError && error.reason === 'unavailable') return error;
  return new LonglineError('unavailable', 'the connection to the output of the container broke', { cause: error });
}
