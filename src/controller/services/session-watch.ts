// Sessions as they change: what matches a filter now, then each change, until the caller leaves. A session that changes
// faster than its reader reads is told as it is in the end.
import type { Session } from '#gen/longline/v1/session_pb.js';
import type { Clock } from '../../core/clock.ts';
import type { BusEvent, BusMessage, Subscription } from '../bus/bus.ts';
import { fleetTopic, sessionsTopic, sessionTopic } from '../bus/topics.ts';
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

/** What was told of a session. */
interface Told {
  readonly revision: number;
  readonly agentId: string;
}

/** Gives the sessions that match, then each change; also that an agent went away or came back with its sessions. */
export class SessionWatch {
  readonly #needs: ServiceDependencies;
  readonly #conditions: SessionConditions;
  /** What is told already is not told again. */
  #known = new Map<string, Told>();
  /** Whether the agents of what was told were connected. */
  readonly #connected = new Map<string, boolean>();

  constructor(needs: ServiceDependencies, conditions: SessionConditions) {
    this.#needs = needs;
    this.#conditions = conditions;
  }

  async *changes(signal: AbortSignal): AsyncGenerator<SessionWatchChange, void, undefined> {
    const { bus, clock, options } = this.#needs;
    using sessions = await bus.subscribe(sessionsTopic, PENDING_CHANGES);
    using agents = await bus.subscribe(fleetTopic, PENDING_CHANGES);
    yield* this.#listing();
    yield { case: 'synced', value: {} };
    while (!signal.aborted) {
      const [session, agent] = await firstOf(sessions, agents, clock, options.recheckMs, signal);
      if (signal.aborted) return;
      // Also without a wake-up, should one have been lost with another replica.
      const lost = session?.kind === 'lagged' || agent?.kind === 'lagged';
      if (lost || (session ?? agent) === undefined) yield* this.#listing();
      if (session?.kind === 'message') yield* this.#one(session.message.sessionId);
      if (agent?.kind === 'message') yield* this.#agent(agent.message.agentId);
    }
  }

  async *#listing(): AsyncGenerator<SessionWatchChange, void, undefined> {
    const before = this.#known;
    this.#known = new Map();
    const viewer = new SessionViewer(this.#needs.store);
    for (const agentId of [...this.#connected.keys()]) yield* this.#agent(agentId, before);
    for (let pageToken = ''; ; ) {
      const page = await this.#needs.store.sessions.list({ ...this.#conditions, pageSize: WATCH_PAGE, pageToken });
      for (const session of page.items) {
        if (before.get(session.id)?.revision === session.revision) this.#known.set(session.id, before.get(session.id)!);
        else yield await this.#tell(session, viewer);
      }
      pageToken = page.nextPageToken;
      if (pageToken === '') break;
    }
    for (const id of before.keys()) if (!this.#known.has(id)) yield { case: 'removedSessionId', value: id };
  }

  async *#one(sessionId: string): AsyncGenerator<SessionWatchChange, void, undefined> {
    const { sessionIds } = this.#conditions;
    if (sessionIds.length > 0 && !sessionIds.includes(sessionId)) return;
    const session = await this.#needs.store.sessions.get(sessionId);
    if (session !== undefined && meets(this.#conditions, session)) {
      yield await this.#tell(session, new SessionViewer(this.#needs.store));
    } else if (this.#known.delete(sessionId)) yield { case: 'removedSessionId', value: sessionId };
  }

  /** Tells the sessions of an agent again if its connection came or went since they were told. */
  async *#agent(agentId: string, told = this.#known): AsyncGenerator<SessionWatchChange, void, undefined> {
    const before = this.#connected.get(agentId);
    if (before === undefined) return;
    const agent = await this.#needs.store.agents.get(agentId);
    if (((agent?.connectionId ?? '') !== '') === before) return;
    this.#connected.delete(agentId);
    for (const [id, known] of told) if (known.agentId === agentId) yield* this.#one(id);
  }

  async #tell(session: SessionRecord, viewer: SessionViewer): Promise<SessionWatchChange> {
    const value = await viewer.view(session);
    this.#known.set(session.id, { revision: session.revision, agentId: session.agentId });
    // Of what has ended it isn't told.
    if (!hasEnded(session.state)) this.#connected.set(session.agentId, value.unknownSince === undefined);
    return { case: 'session', value };
  }
}

/** What comes first of two subscriptions, and of the other what came with it. */
async function firstOf<A extends BusMessage, B extends BusMessage>(
  one: Subscription<A>,
  other: Subscription<B>,
  clock: Clock,
  limitMs: number,
  signal: AbortSignal,
): Promise<[BusEvent<A> | undefined, BusEvent<B> | undefined]> {
  const over = new AbortController();
  const waits = [
    nextWithin(one, clock, limitMs, signal, over.signal),
    nextWithin(other, clock, limitMs, signal, over.signal),
  ] as const;
  await Promise.race(waits);
  over.abort();
  return await Promise.all(waits);
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
