// Who asks for a command, within which trace, and what it means that an agent takes none.
import type { HandlerContext } from '@connectrpc/connect';
import { LonglineError } from '../../core/errors.ts';
import { callerOf } from '../identity/authorization.ts';

const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;
const TRACESTATE = /^[\x20-\x7e]{1,512}$/;

/** Who asks, and within which trace. */
export interface SubmissionContext {
  readonly creator: string;
  readonly headers: HandlerContext['requestHeader'];
}

/** The context of a call. */
export function contextOf(context: Pick<HandlerContext, 'values' | 'requestHeader'>): SubmissionContext {
  return { creator: callerOf(context).name, headers: context.requestHeader };
}

/** The trace that a command belongs to; empty if there is none, or none that is sound. */
export function traceOf({ headers }: SubmissionContext): { readonly traceparent: string; readonly tracestate: string } {
  const traceparent = headers.get('traceparent') ?? '';
  const tracestate = headers.get('tracestate') ?? '';
  const traced = TRACEPARENT.test(traceparent);
  return {
    traceparent: traced ? traceparent : '',
    tracestate: traced && TRACESTATE.test(tracestate) ? tracestate : '',
  };
}

/** An agent takes no commands. */
export function agentRefusal(outcome: {
  readonly agentId: string;
  readonly why: 'missing' | 'revoked' | 'drained';
}): LonglineError {
  const { agentId, why } = outcome;
  if (why === 'missing') return new LonglineError('not_found', `no agent has id ${agentId}`);
  const mend = why === 'drained' ? 'end its drain or choose another' : 'choose another';
  return new LonglineError('wrong_state', `agent ${agentId} is ${why} and takes no commands; ${mend}`);
}
