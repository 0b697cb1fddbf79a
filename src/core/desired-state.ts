// Desired states as a capability sees them: what is to be brought about and kept, one generation at a time, also while there
// is no controller. The agent owns wire, admission and order; a capability that is a Reconciler owns its state and its effects.
import { LonglineError } from './errors.ts';

/** Kinds of desired state that capabilities keep: those of longline.link.v1.DesiredStateKind, in lower case. */
export type StateKind = 'network' | 'programs' | 'workloads';

/** A desired state by generation and digest. */
export interface StateRef {
  readonly generation: bigint;
  /** First 16 bytes of the SHA-256 of the full state in the canonical form that its kind defines. */
  readonly digest: Uint8Array;
}

/** One generation as it came: admitted, newer than what is held or the same, and if it is a delta then on what is held. */
export interface StateChange {
  /** From 1. */
  readonly generation: bigint;
  /** 0 if `body` is the full state; else the generation held, which `body` is a delta to. */
  readonly baseGeneration: bigint;
  /** Serialised body of the kind, for example longline.v1.NetworkDesiredState, as it was received. */
  readonly body: Uint8Array;
}

/** How a change is being applied. */
export interface StateContext {
  /** Aborts when the agent stops. A change that isn't durable by then may be left out: it comes again. */
  readonly signal: AbortSignal;
}

/** An item that could not be brought about. */
export interface StateItemError {
  /** Name within the kind: a peer's key, a program, a service. */
  readonly item: string;
  readonly error: LonglineError;
}

/** What became of the state that is held, after a pass over all of it. */
export interface StateObservation extends StateRef {
  /** At most the first 500 are told to the controller. */
  readonly items: readonly StateItemError[];
  /** Serialised detail of the kind, for example longline.v1.NetworkStateDetail. */
  readonly detail: Uint8Array;
}

/** Hears of states as they are observed. */
export type StateObserver = (observation: StateObservation) => void;

/** A capability that keeps a desired state. */
export interface Reconciler {
  readonly desiredStateKind: StateKind;
  /**
   * Takes one generation. Resolves once the full state that results is durable: from then on it is what `held` gives, and it is
   * brought about and kept, also by later processes. Throws a LonglineError to refuse it whole, with nothing changed: `invalid`
   * for a body that makes no sense, `stale` if the controller should send the full state. A full state of the generation that
   * is held already is no change if it has the same digest, else `stale`. Calls never overlap.
   */
  applyState(change: StateChange, context: StateContext): Promise<void>;
  /** What is durable; undefined for none. Known from the first `open` on, whether that found the capability available or not. */
  held(): StateRef | undefined;
  /**
   * Called once, before `open`. The observer is told of each generation once the first pass over all of it is over, and again
   * whenever items or detail differ from what was told last; never of figures, which go as telemetry. After `open` of a later
   * process a pass over what is held is told likewise. It is quick and doesn't throw.
   */
  observeState(observer: StateObserver): void;
}

/** Throws `stale` for a generation that is older than what is held, and for a delta to anything else than what is held. */
export function checkSequence(held: StateRef | undefined, generation: bigint, baseGeneration: bigint): void {
  const has = held === undefined ? 'none is held' : `generation ${held.generation} is held`;
  if (held !== undefined && generation < held.generation) {
    throw new LonglineError('stale', `generation ${generation} is older than what is held: ${has}`);
  }
  if (baseGeneration === 0n || baseGeneration === held?.generation || generation === held?.generation) return;
  throw new LonglineError(
    'stale',
    `generation ${generation} is a delta to generation ${baseGeneration}, and ${has}; send the full state`,
  );
}
