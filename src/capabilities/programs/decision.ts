// What is to be done next about a program whose goal is reached: from what is kept of it, what is wanted, and what time it is. Pure.
import { isOver } from './lifecycle.ts';
import { leftMs, type Moment } from './lifetime.ts';
import type { ProgramOrder } from './order.ts';
import type { ProgramRecord } from './record.ts';
import type { RollbackCause } from './rollback.ts';

/** All that counts. */
export interface Situation {
  readonly record: ProgramRecord;
  /** Undefined if it is to go. */
  readonly order: ProgramOrder | undefined;
  readonly now: Moment;
  /** Monotonic; for what follows. */
  readonly nowMs: number;
  /** True if what is wanted is quarantined. */
  readonly blocked: boolean;
  /** When what is wanted may be tried again, by the monotonic clock. */
  readonly retryAtMs: number;
  /** Time that it may be loaded for; 0 for ever. */
  readonly ttlMs: number;
  readonly probationMs: number;
  /** Program that takes its place. */
  readonly replacedBy: string | undefined;
  /** A rollback that was asked for. */
  readonly rollback: RollbackCause | undefined;
}

/** What is to be done. */
export type Move =
  /** Nothing is left of it, and nothing is wanted. */
  | { readonly kind: 'end' }
  | { readonly kind: 'stop'; readonly why: 'removed' | 'expired' | 'replaced' }
  /** It begins anew after it was over, or failed. */
  | { readonly kind: 'begin' }
  /** Its time begins anew, and what was given up for it is tried again. */
  | { readonly kind: 'renew' }
  /** Only what is noted changes: thresholds, time, who asked. */
  | { readonly kind: 'note' }
  /** What is wanted is fetched and verified, and then takes the place of what is there. */
  | { readonly kind: 'prepare' }
  | { readonly kind: 'roll_back'; readonly cause: RollbackCause }
  /** It is watched from now on. */
  | { readonly kind: 'watch' }
  /** It counts as good. */
  | { readonly kind: 'pass' }
  /** Nothing, for so long at most. */
  | { readonly kind: 'rest'; readonly forMs: number };

/** The next move. Moves that change nothing but what is kept come first, so that each can be followed by the next at once. */
export function decide(situation: Situation): Move {
  const { record, order, replacedBy, rollback, now, ttlMs } = situation;
  const { life, goal, over, lifetime, current } = record;
  if (order === undefined) {
    return goal.kind === 'stop' && goal.why === 'removed' ? { kind: 'end' } : { kind: 'stop', why: 'removed' };
  }
  if (isOver(life)) {
    return over?.spec === order.whole ? { kind: 'rest', forMs: Number.POSITIVE_INFINITY } : { kind: 'begin' };
  }
  if (record.renewal !== String(order.spec.renewal)) return { kind: 'renew' };
  if (replacedBy !== undefined) return { kind: 'stop', why: 'replaced' };
  if (lifetime !== undefined && leftMs(lifetime, ttlMs, now) <= 0) return { kind: 'stop', why: 'expired' };
  if (rollback !== undefined && current !== undefined) return { kind: 'roll_back', cause: rollback };
  return current === undefined ? bringAbout(situation) : goOn(situation, order);
}

function bringAbout({ record, blocked, retryAtMs, nowMs }: Situation): Move {
  const { kind } = record.life;
  if (blocked) return { kind: 'rest', forMs: Number.POSITIVE_INFINITY };
  if (retryAtMs > nowMs) return { kind: 'rest', forMs: retryAtMs - nowMs };
  return kind === 'failed' ? { kind: 'begin' } : { kind: 'prepare' };
}

function goOn(situation: Situation, order: ProgramOrder): Move {
  const { record, blocked, retryAtMs, nowMs, now, ttlMs, probationMs } = situation;
  const current = record.current!;
  const isAsWanted =
    current.artifact === order.spec.artifact && current.settings === order.settings && current.layout === order.layout;
  if (record.source !== order.source || (isAsWanted && current.whole !== order.whole)) return { kind: 'note' };
  if (!isAsWanted && !blocked && retryAtMs <= nowMs) return { kind: 'prepare' };
  if (record.life.kind === 'attached') return { kind: current.activeAtMs === undefined ? 'watch' : 'pass' };
  const probation = current.probation === undefined ? probationMs : leftMs(current.probation, probationMs, now);
  const onProbation = record.life.kind === 'probation';
  if (onProbation && (probation <= 0 || probationMs === 0)) return { kind: 'pass' };
  const waits = [
    record.lifetime === undefined ? Number.POSITIVE_INFINITY : leftMs(record.lifetime, ttlMs, now),
    onProbation ? probation : Number.POSITIVE_INFINITY,
    isAsWanted || blocked ? Number.POSITIVE_INFINITY : retryAtMs - nowMs,
  ];
  return { kind: 'rest', forMs: Math.min(...waits) };
}
