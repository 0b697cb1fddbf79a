// From a request to a stored start: fills the template in, picks the agent, makes or takes the statement, stores session
// and command at once and wakes whoever holds the agent's stream. The same again gives what is there.
import { clone, create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { SessionRequest } from '#gen/longline/fleet/v1/session_service_pb.js';
import {
  type Session,
  type SessionSpec,
  SessionSpecSchema,
  SessionState,
  SessionVerb,
} from '#gen/longline/v1/session_pb.js';
import { ActionSchema, SignedPayloadSchema } from '#gen/longline/v1/signature_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { noTracer, traced } from '../../core/tracer.ts';
import { agentTopic } from '../bus/topics.ts';
import { publishSession } from '../dispatch/sweeper.ts';
import type { SessionNeeds, SessionOutcome, SessionRecord, SessionStart } from '../store/session.ts';
import { hasEnded } from '../store/session-state.ts';
import { contentHash } from './content-hash.ts';
import { selectorOf } from './selector.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { currentSession } from './session-lookup.ts';
import { checkNamed, DEFAULT_NEEDS, roomiest } from './session-placement.ts';
import { type CheckedStart, checkStart } from './session-request.ts';
import { mergedSpec } from './session-spec-merge.ts';
import { sessionSpecViolations } from './session-spec-shape.ts';
import { withoutSecrets } from './session-views.ts';
import { agentRefusal, type SubmissionContext, traceOf } from './submission-context.ts';

const ATTEMPTS = 5;

/** What is to be started, with its template filled in. */
interface ResolvedStart {
  readonly spec: SessionSpec;
  readonly specHash: Uint8Array;
  readonly template: string;
  readonly templateVersion: number;
  readonly needs: SessionNeeds;
}

function needsOf({ resources }: SessionSpec): SessionNeeds {
  return {
    cpus: resources?.cpus ?? DEFAULT_NEEDS.cpus,
    memoryBytes: Number(resources?.memoryBytes ?? DEFAULT_NEEDS.memoryBytes),
  };
}

async function resolve({ store }: ServiceDependencies, request: CheckedStart): Promise<ResolvedStart> {
  if (request.foreign !== undefined) {
    const { spec, specHash } = request.foreign.start;
    return { spec, specHash, template: '', templateVersion: 0, needs: needsOf(spec) };
  }
  const { template: ref } = request;
  const template = ref === undefined ? undefined : await store.templates.get(ref.name, ref.version);
  if (ref !== undefined && template === undefined) {
    const version = ref.version === 0 ? '' : ` with version ${ref.version}`;
    throw new LonglineError('not_found', `no template has name ${ref.name}${version}`);
  }
  const merged =
    template === undefined
      ? clone(SessionSpecSchema, request.spec!)
      : mergedSpec(fromBinary(SessionSpecSchema, template.spec), request.spec);
  // It is for answers only.
  if (merged.vnc !== undefined) merged.vnc.passwordSet = false;
  const violations = template === undefined ? [] : sessionSpecViolations(merged, 'session.spec');
  if (violations.length > 0) throw invalid(violations);
  return {
    spec: merged,
    specHash: contentHash(SessionSpecSchema, merged).subarray(0, 16),
    template: template?.name ?? '',
    templateVersion: template?.version ?? 0,
    needs: needsOf(merged),
  };
}

async function place({ store }: ServiceDependencies, request: CheckedStart, needs: SessionNeeds): Promise<string> {
  const { target, foreign } = request;
  const covered =
    foreign === undefined
      ? undefined
      : new Set((await store.agents.candidates(selectorOf(foreign.audience))).map(({ id }) => id));
  if (target.case === 'agentId') {
    const [candidate] = await store.sessions.candidates({ ...selectorOf(undefined), agentIds: [target.value] });
    checkNamed(target.value, candidate, needs);
    if (covered?.has(target.value) === false) {
      const description = `doesn't cover ${target.value}: sign for it too, or name another`;
      throw invalid([{ field: 'session.signed.payload.audience', description }]);
    }
    return target.value;
  }
  const candidates = await store.sessions.candidates(selectorOf(target.value));
  return roomiest(covered === undefined ? candidates : candidates.filter(({ id }) => covered.has(id)), needs);
}

/** Same spec on an agent that was asked for: the session is what is wanted. */
function isSame(session: SessionRecord, resolved: ResolvedStart, request: CheckedStart): boolean {
  const { target } = request;
  const elsewhere = target.case === 'agentId' && target.value !== session.agentId;
  return !elsewhere && Buffer.compare(session.specHash, resolved.specHash) === 0;
}

function differs(session: SessionRecord, request: CheckedStart): LonglineError {
  const { target } = request;
  const where = `on agent ${session.agentId}, ${SessionState[session.state].toLowerCase()}`;
  const why =
    target.case === 'agentId' && target.value !== session.agentId
      ? `agent ${target.value} was asked for`
      : 'its spec is another one';
  return new LonglineError(
    'already_exists',
    `session ${session.id} exists (${where}) and ${why}: stop it first, or give another id`,
  );
}

function statementOf(
  needs: ServiceDependencies,
  request: CheckedStart,
  resolved: ResolvedStart,
  { id, generation, agentId }: SessionStart['session'],
  nowMs: number,
): Uint8Array {
  const { foreign, expiresAtMs } = request;
  if (foreign !== undefined) {
    const signedFor = Number(foreign.start.generation);
    if (signedFor === generation) return toBinary(SignedPayloadSchema, foreign.signed);
    const field = 'session.signed.payload.action.session.start.generation';
    throw invalid([{ field, description: `is ${signedFor}; the next life of session ${id} is ${generation}` }]);
  }
  const { spec, specHash } = resolved;
  const start = { sessionId: id, spec, specHash, generation: BigInt(generation) };
  const action = create(ActionSchema, {
    action: { case: 'session', value: { action: { case: 'start', value: start } } },
  });
  return needs.signer.sign({ action, agentIds: [agentId], issuedAtMs: nowMs, expiresAtMs });
}

async function prepare(
  needs: ServiceDependencies,
  request: CheckedStart,
  resolved: ResolvedStart,
  context: SubmissionContext,
): Promise<SessionStart> {
  const nowMs = needs.clock.now();
  const known = request.sessionId === '' ? undefined : await needs.store.sessions.get(request.sessionId);
  const session = {
    id: request.sessionId === '' ? newId(nowMs) : request.sessionId,
    generation: (known?.generation ?? 0) + 1,
    agentId: await place(needs, request, resolved.needs),
    spec: toBinary(SessionSpecSchema, withoutSecrets(resolved.spec)),
    specHash: resolved.specHash,
    template: resolved.template,
    templateVersion: resolved.templateVersion,
    owner: resolved.spec.owner,
    labels: resolved.spec.labels,
  };
  return {
    session,
    command: {
      id: newId(nowMs),
      verb: SessionVerb.START,
      statement: statementOf(needs, request, resolved, session, nowMs),
      createdAtMs: nowMs,
      expiresAtMs: request.expiresAtMs,
      creator: context.creator,
      requestId: request.requestId,
      contentHash: request.hash,
      ...traceOf(context),
    },
    ...resolved.needs,
  };
}

/** A request id that was used gives what it gave; with another content it is refused. */
export async function repeatedSession(
  needs: ServiceDependencies,
  known: { readonly sessionId: string; readonly sameContent: boolean },
  requestId: string,
): Promise<Session> {
  if (known.sameContent) return await currentSession(needs.store, known.sessionId);
  throw new LonglineError(
    'already_exists',
    `request_id '${requestId}' was used for session ${known.sessionId} with another content; use a new one`,
  );
}

function unstorable(outcome: SessionOutcome, id: string): LonglineError {
  if (outcome.kind === 'refused') return agentRefusal(outcome);
  if (outcome.kind === 'busy') {
    const verb = SessionVerb[outcome.verb].toLowerCase();
    const message = `session ${id}: the ${verb} before isn't over; start it again when it is`;
    return new LonglineError('stale', message, { retryable: true });
  }
  return new LonglineError('stale', `session ${id} changes faster than it can be started; try again`, {
    retryable: true,
  });
}

/** Stores a start for delivery and gives the session as stored. */
export async function submitSession(
  needs: ServiceDependencies,
  raw: SessionRequest | undefined,
  context: SubmissionContext,
): Promise<Session> {
  const { store, bus, clock, tracer = noTracer } = needs;
  const request = checkStart(raw, clock.now());
  const used = await store.sessions.findRequest(request.requestId);
  if (used !== undefined) {
    const sameContent = Buffer.compare(used.hash, request.hash) === 0;
    return await repeatedSession(needs, { sessionId: used.sessionId, sameContent }, request.requestId);
  }
  const resolved = await resolve(needs, request);
  let outcome: SessionOutcome | undefined;
  let id = request.sessionId;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const alive = request.sessionId === '' ? undefined : await store.sessions.get(request.sessionId);
    if (alive !== undefined && !hasEnded(alive.state)) {
      if (!isSame(alive, resolved, request)) throw differs(alive, request);
      return await currentSession(store, alive.id);
    }
    const start = await prepare(needs, request, resolved, context);
    id = start.session.id;
    const attributes = { [ATTRIBUTE.sessionId]: id };
    outcome = await traced(tracer, SPAN.store, { attributes }, () => store.sessions.start(start));
    if (outcome.kind === 'repeated') return await repeatedSession(needs, outcome, request.requestId);
    if (outcome.kind === 'stored') {
      bus.publish(agentTopic(start.session.agentId), { kind: 'commands' });
      publishSession(bus, id);
      return await currentSession(store, id);
    }
    // Somebody was quicker: look again at what is there now.
    if (outcome.kind !== 'moved' && outcome.kind !== 'alive') break;
  }
  throw unstorable(outcome!, id);
}
