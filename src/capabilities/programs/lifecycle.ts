// The life of a program on one host as a machine of states. Pure: it says what may follow on what, and nothing of how. Whatever
// happens to a program happens through `advance`, which refuses what makes no sense, so that no state is ever skipped.
//
//   discovered → fetched → verified → loaded → attached → probation → active
//                                                 ↑           ↓↑         ↓↑
//                                             detached     updating, rolling_back → … → expired, detached → unloaded
//   failed: from anywhere before it runs, and again to discovered after a while
import { LonglineError } from '../../core/errors.ts';

/** Where a program is in its life. */
export type Life =
  /** It is wanted, and its artifact is not here yet. */
  | { readonly kind: 'discovered' }
  /** Its artifact is here, whole. */
  | { readonly kind: 'fetched' }
  /** Its signature is good, and all that was asked for fits. */
  | { readonly kind: 'verified' }
  /** The kernel has taken it, and it is attached nowhere yet. */
  | { readonly kind: 'loaded' }
  /** It runs, everywhere where it is to. */
  | { readonly kind: 'attached' }
  /** It runs, and is watched: what goes wrong now is taken for its own fault. */
  | { readonly kind: 'probation' }
  /** It runs, and counts as good. */
  | { readonly kind: 'active' }
  /** A next revision, or other places, are on their way; what was there before runs. `from` is what it was before. */
  | { readonly kind: 'updating'; readonly from: Running }
  /** It goes back to the revision before, or is unloaded for want of one. */
  | { readonly kind: 'rolling_back' }
  /** Its time is over; `gone` once nothing of it is loaded any more. */
  | { readonly kind: 'expired'; readonly gone: boolean }
  /** It runs nowhere, and is still loaded: it is on its way out, or where it ran is gone. */
  | { readonly kind: 'detached' }
  /** It is gone, and comes back only if something else is asked for. */
  | { readonly kind: 'unloaded' }
  /** It could not be brought about, and nothing of it runs. */
  | { readonly kind: 'failed' };

export type LifeKind = Life['kind'];

/** States in which a revision runs undisturbed. */
export type Running = 'attached' | 'probation' | 'active';

/** What happens to a program. */
export type LifeEvent =
  /** Its artifact came. */
  | 'fetched'
  /** Signature and spec are good. */
  | 'verified'
  /** The kernel took it. */
  | 'loaded'
  /** All its places run it. */
  | 'attached'
  /** It is watched from here on. */
  | 'watched'
  /** It did well for long enough, or had done so before. */
  | 'passed'
  /** Something else is to run in its place, or elsewhere. */
  | 'update'
  /** That did not come about; what ran before runs. */
  | 'gave_up'
  /** It is to go back. */
  | 'roll_back'
  /** The revision before runs again. */
  | 'rolled_back'
  /** There was none to go back to: nothing is left. */
  | 'rolled_out'
  /** Its time is over. */
  | 'expire'
  /** Nothing of it is loaded any more, and that is as it should be. */
  | 'gone'
  /** Its places are gone, or were taken from it. */
  | 'detached'
  /** What was loaded isn't there any more, as after a boot of the host. */
  | 'lost'
  /** It could not be brought about. */
  | 'failed'
  /** It is tried again, or asked for anew. */
  | 'begin';

type Row = Partial<Readonly<Record<LifeEvent, (life: Life) => Life>>>;

const to = (kind: Exclude<LifeKind, 'updating' | 'expired'>) => (): Life => ({ kind });
const updating = (life: Life): Life => ({ kind: 'updating', from: life.kind as Running });
const expired = (): Life => ({ kind: 'expired', gone: false });

/** What is true of everything that runs. */
const RUNS: Row = {
  update: updating,
  roll_back: to('rolling_back'),
  expire: expired,
  detached: to('detached'),
  lost: to('discovered'),
};

/** What is true of everything that is still on its way. */
const COMES: Row = {
  failed: to('failed'),
  expire: expired,
  gone: to('unloaded'),
  lost: to('discovered'),
};

/** The whole machine. An event that a state has no entry for can't happen in it. */
export const TRANSITIONS: Readonly<Record<LifeKind, Row>> = {
  discovered: { ...COMES, fetched: to('fetched') },
  fetched: { ...COMES, verified: to('verified') },
  verified: { ...COMES, loaded: to('loaded') },
  loaded: { ...COMES, attached: to('attached'), detached: to('detached'), roll_back: to('rolling_back') },
  attached: { ...RUNS, watched: to('probation'), passed: to('active') },
  probation: { ...RUNS, passed: to('active') },
  active: RUNS,
  updating: {
    attached: to('attached'),
    gave_up: (life) => ({ kind: life.kind === 'updating' ? life.from : 'attached' }),
    roll_back: to('rolling_back'),
    expire: expired,
    detached: to('detached'),
    lost: to('discovered'),
  },
  rolling_back: {
    rolled_back: to('attached'),
    rolled_out: to('failed'),
    expire: expired,
    detached: to('detached'),
    lost: to('discovered'),
  },
  expired: { gone: () => ({ kind: 'expired', gone: true }), begin: to('discovered') },
  detached: {
    ...COMES,
    attached: to('attached'),
    roll_back: to('rolling_back'),
    update: () => ({ kind: 'updating', from: 'attached' }),
  },
  unloaded: { begin: to('discovered') },
  failed: { begin: to('discovered'), expire: expired, gone: to('unloaded') },
};

/** Where every life begins. */
export const BORN: Life = { kind: 'discovered' };

/** What follows. Throws `internal` for what can't happen. */
export function advance(life: Life, event: LifeEvent): Life {
  const next = TRANSITIONS[life.kind][event];
  if (next === undefined) {
    const can = Object.keys(TRANSITIONS[life.kind]).join(', ');
    throw new LonglineError(
      'internal',
      `a program that is ${life.kind} can't be "${event}"; what can happen is: ${can}`,
    );
  }
  return next(life);
}

const WAY_UP: readonly LifeKind[] = ['discovered', 'fetched', 'verified', 'loaded', 'attached'];

/** A life that has come at least that far up from where it is, as it has when more is found than was noted before a crash. */
export function ascend(life: Life, target: 'fetched' | 'verified' | 'loaded' | 'attached'): Life {
  if (target === 'attached' && canHappen(life, 'attached')) return advance(life, 'attached');
  let now = life;
  for (let at = WAY_UP.indexOf(now.kind); at >= 0 && at < WAY_UP.indexOf(target); at++) {
    now = advance(now, WAY_UP[at + 1] as LifeEvent);
  }
  return now;
}

/** True if that can happen now. */
export function canHappen(life: Life, event: LifeEvent): boolean {
  return TRANSITIONS[life.kind][event] !== undefined;
}

/** True while a revision runs, disturbed or not. */
export function isRunning({ kind }: Life): boolean {
  return ['attached', 'probation', 'active', 'updating', 'rolling_back'].includes(kind);
}

/** True if nothing is done any more until something else is asked for. */
export function isOver(life: Life): boolean {
  return life.kind === 'unloaded' || (life.kind === 'expired' && life.gone);
}
