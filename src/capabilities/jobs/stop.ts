// Ends a running container: TERM, grace, KILL, connection destroyed, KILL again, and a look whether it worked.
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import type { ContainerEngine } from './ports.ts';
import { fulfils } from './waits.ts';

/** What is to be ended. */
export interface StopTarget {
  readonly engine: ContainerEngine;
  readonly clock: Clock;
  readonly containerId: string;
  /** Fulfils when the container ends; rejects if the engine is lost. */
  readonly exit: Promise<unknown>;
  readonly graceMs: number;
  /** Called with each signal before it is sent. */
  signalling(signalName: string): void;
  /** Destroys the connection to its streams: an engine can't kill a container that waits on an unread one. */
  detach(): void;
}

const KILL_WAIT_MS = 5000;

/** Whether a container could be ended. */
export type StopOutcome =
  /** It ended, or the engine has it no more. */
  | 'ended'
  /** It still runs after all that can be done from here. */
  | 'stuck';

/** Ends a container. Takes at most the grace and 10 s, beside the limits of the engine's own calls. */
export async function stopContainer(target: StopTarget): Promise<StopOutcome> {
  const { engine, containerId } = target;
  if (target.graceMs > 0 && (await signalAndWait(target, 'SIGTERM', target.graceMs))) return 'ended';
  if (await signalAndWait(target, 'SIGKILL', KILL_WAIT_MS)) return 'ended';
  target.detach();
  if (await signalAndWait(target, 'SIGKILL', KILL_WAIT_MS)) return 'ended';
  const facts = await engine.inspect(containerId);
  return facts === undefined || facts.state === 'exited' || facts.state === 'dead' ? 'ended' : 'stuck';
}

async function signalAndWait(target: StopTarget, signalName: string, waitMs: number): Promise<boolean> {
  target.signalling(signalName);
  // Beside the wait, not before it: the call itself may hang on a container whose output isn't read.
  let lost: unknown;
  const sent = target.engine.kill(target.containerId, signalName).catch((error: unknown) => {
    if (error instanceof LonglineError && error.reason === 'unavailable') lost = error;
  });
  const ended = await fulfils(target.exit, waitMs, target.clock);
  if (ended) return true;
  await fulfils(sent, 0, target.clock);
  if (lost !== undefined) throw lost;
  return false;
}
