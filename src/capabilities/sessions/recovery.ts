// What is done about a session when its container is seen again: after a restart of the agent, the engine or the host, or
// when an event was missed. Pure: from the record and what is there to the thing to do.
import type { ContainerState } from './ports.ts';
import type { SessionRecord } from './record.ts';

/** What to do. */
export type Recovery =
  /** It is as it should be. */
  | { readonly kind: 'nothing' }
  /** It runs: follow it again, leaving it alone. */
  | { readonly kind: 'adopt' }
  /** It is to run and doesn't, through no doing of its own: bring it up. */
  | { readonly kind: 'bring_up'; readonly reason: string }
  /** It ended: look how, and let its restart policy decide. */
  | { readonly kind: 'ended' }
  /** It sleeps, but less deep than it did: its memory is gone. */
  | { readonly kind: 'memory_lost' }
  /** It sleeps as it should. */
  | { readonly kind: 'settle' }
  /** It is to sleep and doesn't yet. */
  | { readonly kind: 'hibernate' }
  /** It is to be gone and isn't yet. */
  | { readonly kind: 'remove' };

/** What is known beside the record. */
export interface Surroundings {
  /** Undefined if there is no container. */
  readonly container: ContainerState | undefined;
  /** Host or engine were started anew since: what ended then did not end by itself. */
  readonly disturbed: boolean;
}

/** Decides for a session that no operation is working on. */
export function recoveryOf(record: SessionRecord, { container, disturbed }: Surroundings): Recovery {
  const { goal, state } = record;
  if (state.kind === 'ended' || state.kind === 'failed') return { kind: 'nothing' };
  const runs = container === 'running' || container === 'restarting';
  switch (goal.kind) {
    case 'gone':
      return { kind: 'remove' };
    case 'asleep': {
      const asleep = state.kind === 'asleep';
      if (runs || (container === 'paused' && goal.tier !== 'pause')) return { kind: 'hibernate' };
      if (container === 'paused' || goal.tier !== 'pause') return asleep ? { kind: 'nothing' } : { kind: 'settle' };
      return { kind: 'memory_lost' };
    }
    case 'running': {
      const underWay = state.kind === 'starting' || state.kind === 'waking';
      if (underWay) return { kind: 'bring_up', reason: 'the agent was started anew while the session was brought up' };
      if (state.kind === 'restarting') return { kind: 'nothing' };
      if (runs) return { kind: 'adopt' };
      if (container === 'paused') return { kind: 'bring_up', reason: 'its container was found paused' };
      if (container === undefined) return { kind: 'bring_up', reason: 'its container was gone' };
      return disturbed ? { kind: 'bring_up', reason: 'host or engine were started anew' } : { kind: 'ended' };
    }
  }
}
