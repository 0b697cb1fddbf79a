// Sessions as they change: what matches a filter now, then each change, until the caller leaves. A session that changes
// faster than its reader reads is told as it is in the end.
import type { Session } from '#gen/longline/v1/session_pb.js';
import { sessionsTopic, sessionTopic } from '../bus/topics.ts';
import type { SessionQuery, SessionRecord } from '../store/session.ts';
import { hasEnded } from '../store/session-state.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { currentSession, SessionViewer } from './session-lookup.ts';
import { isOver } from './session-views.ts';
import { nextWithin } from './waiting.ts';

const WATCH_PAGE = 1000;
const PENDING_CHANGES = 4096;

/** What is asked of a watch; without a page. */
export type SessionConditions = Omit<SessionQuery, 'pageSize' | 'pageToken'>;

/** One change of the watched sessions. */
export type SessionWatchChange =
  | { readonly case: 'session'; readonly value: Session }
  | { readonly case: 'removedSessionId'; readonly value: string }
  | { readonly case: 'synced'; readonly value: Record<string, never> };

/** True if a session meets all conditions. */
export function meets(conditions: SessionConditions, session: SessionRecord): boolean {
  const { agentId, states, matchLabels, owner, template, sessionIds, live } = conditions;
  if (agentId !== '' && agentId !== session.agentId) return false;
  if (owner !== '' && owner !== session.owner) return false;
  if (template !== '' && template !== session.template) return false;
  if (live && hasEnded(session.state)) return false;
  if (states.length > 0 && !states.includes(session.state)) return false;
  if (sessionIds.length > 0 && !sessionIds.includes(session.id)) return false;
  return Object.entries(matchLabels).every(([key, value]) => session.labels[key] === value);
}

/** Gives the sessions that match, then each change. */
export class SessionWatch {
  readonly #needs: ServiceDependencies;
  readonly #conditions: SessionConditions;
  /** Revision told of each; one that is told already is not told again. */
  #known = new Map<string, number>();

  constructor(needs: ServiceDependencies, conditions: SessionConditions) {
    this.#needs = needs;
    this.#conditions = conditions;
  }

  async *changes(signal: AbortSignal): AsyncGenerator<SessionWatchChange, void, undefined> {
    const { bus, clock, options } = this.#needs;
    using events = await bus.subscribe(sessionsTopic, PENDING_CHANGES);
    yield* this.#listing();
    yield { case: 'synced', value: {} };
    while (!signal.aborted) {
      const event = await nextWithin(events, clock, options.recheckMs, signal);
      if (signal.aborted) return;
      // Also without a wake-up, should one have been lost with another replica.
      if (event?.kind === 'message') yield* this.#one(event.message.sessionId);
      else yield* this.#listing();
    }
  }

  async *#listing(): AsyncGenerator<SessionWatchChange, void, undefined> {
    const before = this.#known;
    this.#known = new Map();
    const viewer = new SessionViewer(this.#needs.store);
    for (let pageToken = ''; ; ) {
      const page = await this.#needs.store.sessions.list({ ...this.#conditions, pageSize: WATCH_PAGE, pageToken });
      for (const session of page.items) {
        this.#known.set(session.id, session.revision);
        if (before.get(session.id) === session.revision) continue;
        yield { case: 'session', value: await viewer.view(session) };
      }
      pageToken = page.nextPageToken;
      if (pageToken === '') break;
    }
    for (const id of before.keys()) if (!this.#known.has(id)) yield { case: 'removedSessionId', value: id };
  }

  async *#one(sessionId: string): AsyncGenerator<SessionWatchChange, void, undefined> {
    const session = await this.#needs.store.sessions.get(sessionId);
    if (session !== undefined && meets(this.#conditions, session)) {
      this.#known.set(sessionId, session.revision);
      yield { case: 'session', value: await new SessionViewer(this.#needs.store).view(session) };
    } else if (this.#known.delete(sessionId)) yield { case: 'removedSessionId', value: sessionId };
  }
}

/** A session at each change, until the action it had at first is over or another has taken its place; the last is the end. */
export async function* followOperation(
  { store, bus, clock, options }: ServiceDependencies,
  first: Session,
  signal: AbortSignal,
): AsyncGenerator<Session, void, undefined> {
  using changes = await bus.subscribe(sessionTopic(first.id), 1);
  let told = first.revision;
  while (!signal.aborted) {
    const session = await currentSession(store, first.id);
    if (session.revision !== told) yield session;
    told = session.revision;
    if (isOver(session.operation) || session.operation?.id !== first.operation?.id) return;
    await nextWithin(changes, clock, options.recheckMs, signal);
  }
}
