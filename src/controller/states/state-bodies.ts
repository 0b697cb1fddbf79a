// The kinds of desired state that this controller sends.
import { NETWORK_STATE } from './network-state-body.ts';
import { PROGRAM_STATE } from './program-state-body.ts';
import type { StateBody } from './state-body.ts';

/** Adds the types up: whoever looks a kind up knows no more of its bodies than this. */
type AnyBody = StateBody<unknown>;

/** By number of longline.link.v1.DesiredStateKind. */
export const STATE_BODIES: ReadonlyMap<number, AnyBody> = new Map([
  [NETWORK_STATE.kind, NETWORK_STATE as AnyBody],
  [PROGRAM_STATE.kind, PROGRAM_STATE as AnyBody],
]);
