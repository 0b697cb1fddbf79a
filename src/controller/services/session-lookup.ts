// Finding sessions by the ids that callers have, and showing them with what belongs to them.
import type { Session } from '#gen/longline/v1/session_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import type { AgentRecord } from '../store/agent.ts';
import type { SessionRecord } from '../store/session.ts';
import type { Store } from '../store/store.ts';
import { nameViolations } from './session-request.ts';
import { sessionView } from './session-views.ts';

/** Finds a session; throws `invalid` for what is no id and `not_found`. */
export async function findSession(store: Store, sessionId: string): Promise<SessionRecord> {
  const violations = nameViolations(sessionId, 'session_id');
  if (violations.length > 0) throw invalid(violations);
  const session = await store.sessions.get(sessionId);
  if (session === undefined) throw new LonglineError('not_found', `no session has id ${sessionId}`);
  return session;
}

/** Shows sessions, looking each agent up once. */
export class SessionViewer {
  readonly #store: Store;
  readonly #agents = new Map<string, AgentRecord | undefined>();

  constructor(store: Store) {
    this.#store = store;
  }

  async view(session: SessionRecord): Promise<Session> {
    const { operationId, agentId } = session;
    const operation = operationId === '' ? undefined : await this.#store.commands.get(operationId);
    if (!this.#agents.has(agentId)) this.#agents.set(agentId, await this.#store.agents.get(agentId));
    return sessionView(session, { operation, agent: this.#agents.get(agentId) });
  }
}

/** A session as it stands now. */
export async function currentSession(store: Store, sessionId: string): Promise<Session> {
  return await new SessionViewer(store).view(await findSession(store, sessionId));
}
