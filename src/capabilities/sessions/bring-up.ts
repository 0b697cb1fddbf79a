// Brings a session's container up: for a start, a wake, a restart or a recovery. Looks at what is there, takes the steps
// that are missing, and goes on waiting for an engine that is away for as long as the start may take.
import { Backoff } from '../../core/backoff.ts';
import { LonglineError } from '../../core/errors.ts';
import { bringUpPlan, LABEL, type Standing, specDigest, standingOf } from './plan.ts';
import type { Session, Tell } from './session.ts';
import { StepFailed } from './step-runner.ts';

const ENGINE_RETRY = { baseMs: 250, capMs: 5000 } as const;

/** How a container is brought up. */
export interface BringUpOptions {
  readonly signal: AbortSignal;
  readonly tell: Tell;
  readonly resumed?: boolean;
}

/** Brings it up. Throws StepFailed with what was made taken away again, LetGo if the agent stops. */
export async function bringUp(session: Session, { signal, tell, resumed = false }: BringUpOptions): Promise<void> {
  const { clock } = session.services;
  const deadlineMs = clock.monotonic() + session.spec.startTimeoutMs;
  const backoff = new Backoff(ENGINE_RETRY);
  for (;;) {
    try {
      await attempt(session, { signal, tell, resumed, deadlineMs });
      return;
    } catch (error) {
      const away = error instanceof StepFailed && error.failure === 'engine_lost';
      if (!away || clock.monotonic() > deadlineMs) throw error;
      await clock.sleep(backoff.next(50), signal).catch(() => undefined);
    }
  }
}

async function attempt(session: Session, options: BringUpOptions & { readonly deadlineMs: number }): Promise<void> {
  // A paused one that this process paused needs nothing looked up: it wakes in milliseconds.
  if (session.state.kind === 'waking' && session.found === 'paused' && session.live !== undefined) {
    try {
      await session.take([{ step: 'start', subject: session.names.container }], options);
      return;
    } catch (error) {
      if (!(error instanceof StepFailed) || error.failure !== 'start_failed') throw error;
      // Somebody else stopped or removed it: then all of it is looked at.
      await session.endRun();
    }
  }
  const standing = await look(session, options.signal);
  if (standing.kind === 'foreign') {
    const message = `the name ${session.names.container} is taken by a container that is not this agent's`;
    throw new StepFailed(new LonglineError('already_exists', message), 'start_failed');
  }
  session.found = standing.kind === 'ours' ? standing.state : undefined;
  if (standing.kind === 'ours' && standing.containerId !== session.record.containerId) {
    await session.containerMade(standing.containerId);
  }
  await session.take(bringUpPlan(session.spec, session.names, standing), options);
  await session.followAgain();
}

async function look(session: Session, signal: AbortSignal): Promise<Standing> {
  const { engine, instanceId } = session.services;
  const wanted = {
    [LABEL.instance]: instanceId,
    [LABEL.session]: session.sessionId,
    [LABEL.generation]: String(session.generation),
    [LABEL.spec]: specDigest(session.spec),
  };
  try {
    return standingOf(await engine.inspectContainer(session.names.container, signal), wanted);
  } catch (error) {
    if (!(error instanceof LonglineError)) throw error;
    throw new StepFailed(error, error.reason === 'unavailable' ? 'engine_lost' : 'start_failed');
  }
}
