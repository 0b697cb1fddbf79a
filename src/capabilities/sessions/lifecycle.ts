// What happens to a session: started, put to sleep, woken, ended, crashed, found again. Each runs in the session's queue,
// writes down what it is about to do, does it, and writes down what came of it.
import { describeError, LonglineError, toLonglineError } from '../../core/errors.ts';
import { bringUp } from './bring-up.ts';
import type { HealthTally } from './health-check.ts';
import { LetGo, Preempted } from './interruptions.ts';
import { removalPlan, sleepPlan } from './plan.ts';
import type { ContainerState } from './ports.ts';
import { type RunEnd, restartDecision } from './restart-policy.ts';
import type { Session, Tell } from './session.ts';
import { type Cause, isOver, type Tier } from './state.ts';
import { StepFailed } from './step-runner.ts';

/** Why something is done. */
export interface Occasion {
  readonly cause: Cause;
  readonly reason: string;
  readonly tell: Tell;
  readonly signal: AbortSignal;
  readonly resumed?: boolean;
}

/** Depth of tiers: a deeper one frees more. */
const DEPTH: Readonly<Record<Tier, number>> = { pause: 0, stop: 1, checkpoint: 2 };

/** Starts it for the first time. Throws StepFailed after writing down that it failed; nothing of it is left then. */
export async function start(session: Session, occasion: Occasion): Promise<void> {
  const { cause, reason } = occasion;
  const { clock, meter } = session.services;
  const beganMs = clock.monotonic();
  await session.change({ goal: { kind: 'running' }, state: { kind: 'starting' }, cause, reason, error: undefined });
  try {
    await bringUp(session, occasion);
  } catch (error) {
    const failed = failureOf(error);
    if (failed.error instanceof Preempted) throw failed;
    meter.started(clock.monotonic() - beganMs, false);
    await over(session, 'failed', failed.failure, failed.error, occasion);
    throw failed;
  }
  meter.started(clock.monotonic() - beganMs, true);
  awake(session, cause, reason);
}

/** Wakes it. On failure it sleeps on, with the error told. */
export async function wake(session: Session, occasion: Occasion): Promise<void> {
  const { cause, reason } = occasion;
  const { state } = session;
  const tier: Tier = state.kind === 'asleep' ? state.tier : 'stop';
  const { clock, meter } = session.services;
  const beganMs = clock.monotonic();
  session.admit();
  session.found = tier === 'pause' ? 'paused' : undefined;
  await session.change({ goal: { kind: 'running' }, state: { kind: 'waking' }, cause, reason, error: undefined });
  try {
    await bringUp(session, occasion);
  } catch (error) {
    const failed = failureOf(error);
    meter.woken(tier, clock.monotonic() - beganMs, false);
    const slept: Tier = tier === 'checkpoint' ? 'checkpoint' : 'stop';
    await session.endRun();
    await session.change({
      goal: { kind: 'asleep', tier: slept },
      state: { kind: 'asleep', tier: slept },
      cause: failed.failure,
      reason: `could not be woken: ${failed.error.message}`,
      error: plain(failed.error),
    });
    throw failed;
  }
  meter.woken(tier, clock.monotonic() - beganMs, true);
  awake(session, cause, reason);
}

/** Puts it to sleep, or deeper. On failure it stays as it was, with the error told. */
export async function hibernate(session: Session, tier: Tier, occasion: Occasion): Promise<void> {
  const { cause, reason, tell, signal } = occasion;
  const before = session.state;
  const container: ContainerState | undefined =
    before.kind === 'asleep' ? (before.tier === 'pause' ? 'paused' : undefined) : 'running';
  if (before.kind === 'restarting') {
    await session.change({
      goal: { kind: 'asleep', tier: 'stop' },
      state: { kind: 'asleep', tier: 'stop' },
      cause,
      reason,
    });
    return;
  }
  const goal = { kind: 'asleep', tier } as const;
  await session.change({ goal, state: { kind: 'hibernating', tier }, cause, reason });
  try {
    await session.take(sleepPlan(session.names, tier, container), { signal, tell });
  } catch (error) {
    const failed = failureOf(error);
    if (failed.failure === 'cancelled') throw failed;
    const goalBefore =
      before.kind === 'asleep' ? { kind: 'asleep' as const, tier: before.tier } : { kind: 'running' as const };
    const why = `could not hibernate: ${failed.error.message}`;
    await session.change({
      goal: goalBefore,
      state: before,
      cause: failed.failure,
      reason: why,
      error: plain(failed.error),
    });
    throw failed;
  }
  if (tier !== 'pause') await session.endRun();
  await session.change({ state: { kind: 'asleep', tier }, cause, reason, error: undefined });
  session.services.meter.slept(tier, cause);
}

/** True if a session that sleeps in `now` needs nothing done to sleep as deep as `wanted`. */
export function sleepsEnough(now: Tier, wanted: Tier): boolean {
  return DEPTH[now] >= DEPTH[wanted];
}

/** Ends it for good. If the engine is away it stays "stopping", and is tried again when the engine is back. */
export async function remove(session: Session, removeVolumes: boolean, occasion: Occasion): Promise<void> {
  const { cause, reason, tell, signal } = occasion;
  const goal = { kind: 'gone', removeVolumes } as const;
  await session.change({ goal, state: { kind: 'stopping' }, cause, reason });
  try {
    await session.take(removalPlan(session.spec, session.names, 'running', removeVolumes), { signal, tell });
  } catch (error) {
    const failed = failureOf(error);
    await session.change({ error: plain(failed.error), reason: `not ended yet: ${failed.error.message}` });
    throw failed;
  }
  await session.endRun();
  await session.change({
    ...{ state: { kind: 'ended' }, cause, reason, error: undefined },
    endedAtMs: session.services.clock.now(),
  });
}

/** Its main process ended without our doing. */
export async function ended(
  session: Session,
  end: Omit<RunEnd, 'ranMs' | 'restarts'>,
  occasion: Occasion,
): Promise<void> {
  const { clock } = session.services;
  const { startedAtMs = 0, restarts } = session.record;
  await session.endRun();
  const decision = restartDecision({ ...end, ranMs: clock.now() - startedAtMs, restarts }, session.spec.restart);
  const { cause, reason } = causeOfEnd(end);
  session.services.meter.ended(cause);
  const seen = { exitCode: end.exitCode, oomKilled: end.oomKilled };
  session.services.emit({
    type: 'session.ended',
    message: `session ${session.sessionId}: ${reason}`,
    attributes: { session_id: session.sessionId, cause },
  });
  if (decision.kind === 'restart') {
    const state = { kind: 'restarting', dueAtMs: clock.now() + decision.delayMs } as const;
    await session.change({ ...seen, state, cause, reason, restarts: decision.restarts });
    return;
  }
  const failed = decision.kind === 'give_up' || end.exitCode !== 0 || end.oomKilled || end.unhealthy;
  await session.change(seen);
  const told = decision.kind === 'give_up' ? `${reason}, after ${decision.restarts} restarts in a row` : reason;
  const error = failed ? new LonglineError('wrong_state', told) : undefined;
  await over(
    session,
    failed ? 'failed' : 'ended',
    decision.kind === 'give_up' ? 'crash_loop' : cause,
    error,
    occasion,
    told,
  );
}

/** Starts it anew after it ended, or after host or engine did. */
export async function restart(session: Session, occasion: Occasion): Promise<void> {
  const { cause, reason } = occasion;
  await session.change({ goal: { kind: 'running' }, state: { kind: 'starting' }, cause, reason });
  try {
    await bringUp(session, occasion);
  } catch (error) {
    const failed = failureOf(error);
    if (failed.failure === 'cancelled') throw failed;
    await session.endRun();
    const { restarts, spec } = session.record;
    const end = { exitCode: undefined, oomKilled: false, unhealthy: false, ranMs: 0, restarts };
    const decision = restartDecision(end, spec.restart);
    if (decision.kind !== 'restart') {
      await over(session, 'failed', failed.failure, failed.error, occasion);
      throw failed;
    }
    const state = { kind: 'restarting', dueAtMs: session.services.clock.now() + decision.delayMs } as const;
    const told = `could not be started anew: ${failed.error.message}`;
    await session.change({
      state,
      cause: failed.failure,
      reason: told,
      error: plain(failed.error),
      restarts: decision.restarts,
    });
    throw failed;
  }
  awake(session, cause, reason);
}

/** It runs, and is watched from now on. */
export function awake(session: Session, cause: Cause, reason: string): void {
  const nowMs = session.services.clock.now();
  session.settle({
    ...{ state: { kind: 'running' }, cause, reason, error: undefined, activeAtMs: nowMs, checkpoint: undefined },
    firstStartedAtMs: session.record.firstStartedAtMs ?? nowMs,
  });
  session.watchHealth((tally, output) => judged(session, tally, output));
}

/** Its container was found running by a process that did not start it, and is left alone. */
export async function adopted(session: Session): Promise<void> {
  await session.followAgain();
  session.note({ activeAtMs: session.services.clock.now() });
  session.watchHealth((tally, output) => judged(session, tally, output));
}

function judged(session: Session, tally: HealthTally, output: string): void {
  const { kind } = session.state;
  if (kind !== 'running' && kind !== 'unhealthy') return;
  if (tally.verdict === 'restart') {
    session
      .enqueue((signal) => unhealthy(session, output, signal))
      .catch((error: unknown) => logged(session, 'could not restart an unhealthy session', error));
    return;
  }
  const now = tally.verdict === 'unhealthy' ? 'unhealthy' : 'running';
  if (now === kind) session.note();
  else if (now === 'unhealthy') session.note({ state: { kind: now }, cause: 'unhealthy', reason: output });
  else session.note({ state: { kind: now }, cause: 'unspecified', reason: '' });
}

async function unhealthy(session: Session, output: string, signal: AbortSignal): Promise<void> {
  const { kind } = session.state;
  if (kind !== 'running' && kind !== 'unhealthy') return;
  const occasion = { cause: 'unhealthy', reason: output, tell: () => undefined, signal } as const;
  await session.services.engine.stopContainer(session.containerId, session.stopGraceMs, signal);
  await ended(session, { exitCode: undefined, oomKilled: false, unhealthy: true }, occasion);
}

/** It is over: what is left of it but volumes is taken away now, or by the sweep. */
export async function over(
  session: Session,
  kind: 'ended' | 'failed',
  cause: Cause,
  error: LonglineError | undefined,
  { tell, signal }: Pick<Occasion, 'tell' | 'signal'>,
  reason = error?.message ?? '',
): Promise<void> {
  await session.endRun();
  const endedAtMs = session.services.clock.now();
  const shown = error === undefined ? undefined : plain(error);
  await session.change({
    state: { kind },
    goal: { kind: 'gone', removeVolumes: false },
    cause,
    reason,
    error: shown,
    endedAtMs,
  });
  if (signal.aborted) return;
  const plan = removalPlan(session.spec, session.names, undefined, false);
  await session.take(plan, { signal, tell: () => undefined }).catch((left: unknown) => {
    logged(session, 'something of a session is left, and is tried again', left);
  });
  // The steps are the session's own tidying; only the reason is of interest.
  void tell;
}

/** Why a run ended, for people and programs. */
function causeOfEnd(end: Pick<RunEnd, 'exitCode' | 'oomKilled' | 'unhealthy'>): { cause: Cause; reason: string } {
  if (end.unhealthy) return { cause: 'unhealthy', reason: 'its health check failed too often' };
  if (end.oomKilled) return { cause: 'out_of_memory', reason: 'a process of it was killed for memory' };
  const code = end.exitCode === undefined ? 'an unknown exit code' : `exit code ${end.exitCode}`;
  return { cause: 'exited', reason: `its main process ended with ${code}` };
}

/** What a failure means for the session; a stop of the agent goes through unchanged. */
export function failureOf(error: unknown): StepFailed {
  if (error instanceof LetGo) throw error;
  if (error instanceof StepFailed && error.error instanceof LetGo) throw error.error;
  return error instanceof StepFailed ? error : new StepFailed(toLonglineError(error), 'start_failed');
}

/** Whether anything more may happen to it. */
export function mayGoOn(session: Session): boolean {
  return !isOver(session.state);
}

function plain({ reason, message, retryable }: LonglineError) {
  return { reason, message, retryable };
}

function logged(session: Session, message: string, error: unknown): void {
  if (error instanceof LetGo) return;
  session.services.log.warn(message, { sessionId: session.sessionId, err: describeError(error) });
}
