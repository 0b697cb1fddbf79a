// Leader election as a pure machine: what a replica may believe after each thing that it heard, and until when. It knows no
// lock, no clock and no agent. It fails safe: whatever is late, out of order or older than what was seen makes a standby.

/** Nobody's turn is ours: another leads, or nobody that we know of. */
export interface Standby {
  readonly kind: 'standby';
  /** Who leads, as far as it was told. */
  readonly leader: string | undefined;
  /** Highest epoch ever heard of. No term of ours may have it or a lower one. */
  readonly highest: bigint;
}

/** This replica leads, until `untilMs` and not a moment longer. */
export interface Leading {
  readonly kind: 'leading';
  readonly epoch: bigint;
  readonly highest: bigint;
  /** On the clock of the events. Infinity for a lock that doesn't lapse. */
  readonly untilMs: number;
}

export type ElectionState = Standby | Leading;

/** What a replica hears. Times are of one clock that never goes back and doesn't stand still while the host sleeps. */
export type ElectionEvent =
  /** The lock is ours; it was asked for at `askedAtMs`, and the answer read at `nowMs`. */
  | { readonly kind: 'acquired'; readonly epoch: bigint; readonly askedAtMs: number; readonly nowMs: number }
  /** The lock is another's, or nobody's that it may be ours. */
  | { readonly kind: 'taken'; readonly holder: string | undefined; readonly epoch: bigint | undefined }
  /** The lock is ours for another period. */
  | { readonly kind: 'renewed'; readonly epoch: bigint; readonly askedAtMs: number; readonly nowMs: number }
  /** It is not ours any more, or we let go of it. */
  | { readonly kind: 'lost' }
  | { readonly kind: 'time'; readonly nowMs: number };

/** How a replica starts: with the highest epoch that it remembers. */
export function firstState(highest: bigint): Standby {
  return { kind: 'standby', leader: undefined, highest };
}

/**
 * The state after an event. A lock that was asked for at t and lapses after `periodMs` is believed in until t + periodMs, of
 * which the caller took off what clocks may run differently. A term that is over never comes back: only `acquired` begins one.
 */
export function nextState(before: ElectionState, event: ElectionEvent, periodMs: number): ElectionState {
  // Whatever is heard is heard at some time, and the term may be over by then.
  const over = before.kind === 'leading' && 'nowMs' in event && event.nowMs >= before.untilMs;
  const state = over ? standby(before) : before;
  switch (event.kind) {
    case 'acquired': {
      const untilMs = event.askedAtMs + periodMs;
      if (event.epoch <= state.highest || event.nowMs >= untilMs) return standby(state, event.epoch);
      return { kind: 'leading', epoch: event.epoch, highest: event.epoch, untilMs };
    }
    case 'renewed': {
      if (state.kind !== 'leading' || event.epoch !== state.epoch) return state;
      return { ...state, untilMs: Math.max(state.untilMs, event.askedAtMs + periodMs) };
    }
    case 'taken':
      return { ...standby(state, event.epoch), leader: event.holder };
    case 'lost':
      return standby(state);
    case 'time':
      return state;
  }
}

function standby({ highest }: ElectionState, heard = 0n): Standby {
  return { kind: 'standby', leader: undefined, highest: heard > highest ? heard : highest };
}
