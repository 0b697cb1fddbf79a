// Signing what is done to a session on the operator's side, so that not even the controller's key can change it.
import { createHash } from 'node:crypto';
import { create, type MessageInitShape, toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import type { Selector } from '#gen/longline/v1/agent_pb.js';
import { SelectorSchema } from '#gen/longline/v1/agent_pb.js';
import {
  type Session,
  type SessionActionSchema,
  type SessionSpec,
  SessionSpecSchema,
  SessionState,
  type SessionTarget,
} from '#gen/longline/v1/session_pb.js';
import { ActionSchema, type SignedPayload } from '#gen/longline/v1/signature_pb.js';
import { LonglineError } from '../../core/errors.ts';
import type { Fleet } from '../fleet-connection.ts';
import { readSigningKey, signAction } from '../job/signing.ts';
import { fromWire } from '../wire-errors.ts';

const TTL_MS = 600_000;
const HASH_BYTES = 16;

/** Options of whoever signs. */
export interface SigningOptions {
  readonly signKey?: string;
  readonly controllerId?: string;
}

/** Adds the options. */
export function addSigningOptions(command: Command): Command {
  return command
    .option('--sign-key <path>', 'sign with this private key instead of leaving it to the controller')
    .option('--controller-id <id>', "controller in whose name it is signed; the context's if left out");
}

type ActionInit = NonNullable<MessageInitShape<typeof SessionActionSchema>['action']>;

async function sign(
  fleet: Fleet,
  options: SigningOptions & { readonly signKey: string },
  audience: Selector,
  action: ActionInit,
): Promise<SignedPayload> {
  const controllerId = options.controllerId ?? fleet.context.controllerId;
  if (controllerId === '') {
    throw new LonglineError('invalid', '--controller-id is needed: the context names no controller to sign for');
  }
  const whole = create(ActionSchema, { action: { case: 'session', value: { action } } });
  const key = await readSigningKey(options.signKey);
  return signAction(whole, { controllerId, ttlMs: TTL_MS, audience }, key, Date.now());
}

/** A hash that is the same for the same spec, in whatever order its maps came. */
function specHash(spec: SessionSpec): Uint8Array {
  const text = JSON.stringify(toJson(SessionSpecSchema, spec), (_key, value: unknown) => {
    const isMap = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isMap ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value;
  });
  return createHash('sha256').update(text).digest().subarray(0, HASH_BYTES);
}

/** The generation that a start of this id begins, or the one that lives. */
async function generationOf(fleet: Fleet, sessionId: string): Promise<bigint> {
  try {
    const { session } = await fleet.sessions.getSession({ sessionId });
    const state = session?.status?.state ?? SessionState.UNSPECIFIED;
    const over = state === SessionState.ENDED || state === SessionState.FAILED;
    return (session?.generation ?? 0n) + (over ? 1n : 0n);
  } catch (error) {
    const known = fromWire(error, fleet.context.url);
    if (known instanceof LonglineError && known.reason === 'not_found') return 1n;
    throw error;
  }
}

/** A signed start. */
export async function signStart(
  fleet: Fleet,
  options: SigningOptions & { readonly signKey: string },
  start: { readonly sessionId: string; readonly target: SessionTarget; readonly spec: SessionSpec },
): Promise<SignedPayload> {
  const { sessionId, spec } = start;
  const { target } = start.target;
  const audience =
    target.case === 'agentId'
      ? create(SelectorSchema, { agentIds: [target.value] })
      : create(SelectorSchema, target.value);
  const generation = await generationOf(fleet, sessionId);
  const value = { sessionId, spec, specHash: specHash(spec), generation };
  return await sign(fleet, options, audience, { case: 'start', value });
}

/** A signed action on a session that is there, for the agent that holds it; undefined without a key. */
export async function signedAction(
  fleet: Fleet,
  options: SigningOptions,
  sessionId: string,
  action: (session: Session) => ActionInit,
): Promise<{ signed?: SignedPayload }> {
  const { signKey } = options;
  if (signKey === undefined) return {};
  const { session } = await fleet.sessions.getSession({ sessionId });
  const audience = create(SelectorSchema, { agentIds: [session!.agentId] });
  return { signed: await sign(fleet, { ...options, signKey }, audience, action(session!)) };
}
