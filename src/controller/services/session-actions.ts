// Stop, hibernate and wake: checks the request, makes or takes the statement and stores the command. One action at a time
// per session: what comes in between is refused as ABORTED with what is under way, but for a stop, which goes before.
import { create, toBinary } from '@bufbuild/protobuf';
import { type Duration, durationMs } from '@bufbuild/protobuf/wkt';
import {
  HibernationTier,
  type Session,
  type SessionAction,
  SessionActionSchema,
  SessionState,
  SessionVerb,
} from '#gen/longline/v1/session_pb.js';
import { ActionSchema, type SignedPayload, SignedPayloadSchema } from '#gen/longline/v1/signature_pb.js';
import { type FieldViolation, invalid, LonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { noTracer, traced } from '../../core/tracer.ts';
import { agentTopic, sessionTopic } from '../bus/topics.ts';
import { publishSession } from '../dispatch/sweeper.ts';
import type { SessionAct, SessionOutcome, SessionRecord } from '../store/session.ts';
import { contentHash } from './content-hash.ts';
import { readForeign } from './foreign-statement.ts';
import { selectorOf } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { currentSession, findSession } from './session-lookup.ts';
import { requestIdViolations } from './session-request.ts';
import { repeatedSession } from './session-submission.ts';
import { isOver } from './session-views.ts';
import { agentRefusal, type SubmissionContext, traceOf } from './submission-context.ts';
import { nextWithin } from './waiting.ts';

const MAX_REASON = 1024;
const MAX_WAIT_MS = 600_000;
const ATTEMPTS = 5;
const MAX_TTL_MS = 30 * 86_400_000;
/** What only makes sense now is not delivered later; a session that is to end may wait for its host a while. */
const DEFAULT_TTL_MS = { stop: 3_600_000, hibernate: 600_000, wake: 600_000 } as const;

const VERBS = {
  stop: SessionVerb.STOP,
  hibernate: SessionVerb.HIBERNATE,
  wake: SessionVerb.WAKE,
} as const;

/** An action as it is asked for. */
export interface ActionRequest {
  readonly sessionId: string;
  readonly verb: keyof typeof VERBS;
  /** The action for a generation; unused with `signed`. */
  readonly action: (generation: bigint) => SessionAction;
  readonly reason: string;
  readonly wait: Duration | undefined;
  readonly ttl: Duration | undefined;
  readonly signed: SignedPayload | undefined;
  readonly requestId: string;
  /** True to send it even if the session has ended. */
  readonly afterEnd: boolean;
}

function check({ reason, requestId, wait, ttl }: ActionRequest): void {
  const violations: FieldViolation[] = [...requestIdViolations(requestId, 'request_id')];
  if (reason.length > MAX_REASON) {
    const description = `has ${reason.length} characters; at most ${MAX_REASON} are allowed`;
    violations.push({ field: 'reason', description });
  }
  const waitMs = wait === undefined ? 0 : durationMs(wait);
  if (!(waitMs >= 0 && waitMs <= MAX_WAIT_MS)) {
    violations.push({ field: 'wait', description: `is ${waitMs} ms; must be 0 to 10 min` });
  }
  const ttlMs = ttl === undefined ? 1 : durationMs(ttl);
  if (!(ttlMs > 0 && ttlMs <= MAX_TTL_MS)) {
    violations.push({ field: 'ttl', description: `is ${ttlMs} ms; must be 1 ms to 30 days` });
  }
  if (violations.length > 0) throw invalid(violations);
}

interface Statement {
  readonly bytes: Uint8Array;
  readonly expiresAtMs: number;
}

async function foreign(
  { store }: ServiceDependencies,
  { verb, signed }: ActionRequest,
  session: SessionRecord,
  nowMs: number,
): Promise<Statement> {
  const { violations, action, audience, expiresAtMs } = readForeign(signed!, 'signed', nowMs);
  const found = [...violations];
  const said = action?.action.case === 'session' ? action.action.value.action : undefined;
  const path = 'signed.payload.action';
  if (said?.case !== verb) found.push({ field: path, description: `must be to ${verb} a session` });
  else {
    const { sessionId, generation } = said.value;
    if (sessionId !== session.id) {
      const description = `'${sessionId.slice(0, 80)}' must be ${session.id}`;
      found.push({ field: `${path}.session.${verb}.session_id`, description });
    }
    if (generation !== 0n && Number(generation) !== session.generation) {
      const description = `is ${generation}; the session's is ${session.generation}`;
      found.push({ field: `${path}.session.${verb}.generation`, description });
    }
  }
  const covered = await store.agents.candidates(selectorOf(audience));
  if (audience !== undefined && !covered.some(({ id }) => id === session.agentId)) {
    found.push({ field: 'signed.payload.audience', description: `doesn't cover ${session.agentId}` });
  }
  if (found.length > 0) throw invalid(found);
  return { bytes: toBinary(SignedPayloadSchema, signed!), expiresAtMs };
}

function own(needs: ServiceDependencies, request: ActionRequest, session: SessionRecord, nowMs: number): Statement {
  const action = create(ActionSchema, {
    action: { case: 'session', value: request.action(BigInt(session.generation)) },
  });
  const expiresAtMs = nowMs + (request.ttl === undefined ? DEFAULT_TTL_MS[request.verb] : durationMs(request.ttl));
  return {
    bytes: needs.signer.sign({ action, agentIds: [session.agentId], issuedAtMs: nowMs, expiresAtMs }),
    expiresAtMs,
  };
}

async function prepare(
  needs: ServiceDependencies,
  request: ActionRequest,
  context: SubmissionContext,
): Promise<SessionAct> {
  const { store, clock } = needs;
  const session = await findSession(store, request.sessionId);
  const nowMs = clock.now();
  const statement =
    request.signed === undefined ? own(needs, request, session, nowMs) : await foreign(needs, request, session, nowMs);
  return {
    sessionId: session.id,
    generation: session.generation,
    command: {
      id: newId(nowMs),
      verb: VERBS[request.verb],
      statement: statement.bytes,
      createdAtMs: nowMs,
      expiresAtMs: statement.expiresAtMs,
      creator: context.creator,
      requestId: request.requestId,
      contentHash: contentHash(SessionActionSchema, request.action(BigInt(session.generation))),
      ...traceOf(context),
    },
    afterEnd: request.afterEnd,
  };
}

function unstorable(outcome: SessionOutcome, { sessionId, verb }: ActionRequest): LonglineError {
  switch (outcome.kind) {
    case 'refused':
      return agentRefusal(outcome);
    case 'ended': {
      const state = SessionState[outcome.session.state].toLowerCase();
      return new LonglineError('wrong_state', `session ${sessionId} has ${state}: start it again instead of ${verb}`);
    }
    case 'busy': {
      const under = SessionVerb[outcome.verb].toLowerCase();
      const state = SessionState[outcome.session.state].toLowerCase();
      const message = `session ${sessionId} is ${state} and a ${under} is under way: ${verb} it when that is over`;
      return new LonglineError('stale', message, { retryable: true });
    }
    default:
      return new LonglineError('stale', `session ${sessionId} changes faster than it can be acted on; try again`, {
        retryable: true,
      });
  }
}

async function waitForEnd(
  { store, bus, clock, options }: ServiceDependencies,
  sessionId: string,
  waitMs: number,
  signal: AbortSignal,
): Promise<Session> {
  using changes = await bus.subscribe(sessionTopic(sessionId), 1);
  const deadline = clock.monotonic() + waitMs;
  let session = await currentSession(store, sessionId);
  while (!isOver(session.operation) && !signal.aborted && clock.monotonic() < deadline) {
    await nextWithin(changes, clock, Math.min(options.recheckMs, deadline - clock.monotonic()), signal);
    session = await currentSession(store, sessionId);
  }
  return session;
}

/** Stores an action for delivery, and waits for its end if that is asked for. */
export async function actOnSession(
  needs: ServiceDependencies,
  request: ActionRequest,
  context: SubmissionContext,
  signal: AbortSignal,
): Promise<Session> {
  check(request);
  const { tracer = noTracer } = needs;
  const waitMs = request.wait === undefined ? 0 : durationMs(request.wait);
  let outcome: SessionOutcome | undefined;
  for (let attempt = 0; attempt < ATTEMPTS && (outcome === undefined || outcome.kind === 'moved'); attempt++) {
    const act = await prepare(needs, request, context);
    const attributes = { [ATTRIBUTE.sessionId]: act.sessionId };
    outcome = await traced(tracer, SPAN.store, { attributes }, () => needs.store.sessions.act(act));
    if (outcome.kind === 'repeated') return await repeatedSession(needs, outcome, request.requestId);
    if (outcome.kind === 'stored') {
      const { agentId } = await findSession(needs.store, act.sessionId);
      // A stop cancels what it comes in the way of.
      needs.bus.publish(agentTopic(agentId), { kind: 'cancels' });
      publishSession(needs.bus, act.sessionId);
    }
  }
  if (outcome?.kind !== 'stored' && outcome?.kind !== 'unchanged') throw unstorable(outcome!, request);
  return await waitForEnd(needs, request.sessionId, waitMs, signal);
}

/** Checks a tier; not set is STOP. */
export function checkedTier(tier: HibernationTier): HibernationTier {
  if (tier in HibernationTier) return tier || HibernationTier.STOP;
  throw invalid([{ field: 'tier', description: `${tier} is unknown` }]);
}
