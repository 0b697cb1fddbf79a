// What tunnels need to know of sessions, looked up in the store.
import { fromBinary } from '@bufbuild/protobuf';
import { AgentState } from '#gen/longline/v1/agent_pb.js';
import {
  SessionPortProtocol,
  type SessionSpec,
  SessionSpecSchema,
  SessionState,
  SessionStatusSchema,
} from '#gen/longline/v1/session_pb.js';
import { invalid, LonglineError } from '../../core/errors.ts';
import type { SessionRecord } from '../store/session.ts';
import type { Store } from '../store/store.ts';

const SESSION_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
const DEFAULT_VNC_PORT = 5900;

/** A session that tunnels may reach. */
export interface ReachableSession {
  readonly id: string;
  readonly agentId: string;
  /** True if it runs, as far as is known here: opening takes no wake. */
  readonly awake: boolean;
  /** Ports it offers, as far as is known here. */
  readonly ports: readonly number[];
  /** Port of its screen; undefined if it has none. */
  readonly screenPort: number | undefined;
}

/** Finds a session. Throws `not_found`, `wrong_state` for one that has ended, `unavailable` if its agent is away. */
export async function findReachable(store: Store, sessionId: string): Promise<ReachableSession> {
  if (!SESSION_ID.test(sessionId)) {
    const description = `${JSON.stringify(sessionId.slice(0, 80))} is no session id; [a-z0-9][a-z0-9-]*, at most 63 characters, is`;
    throw invalid([{ field: 'session_id', description }]);
  }
  const session = await store.sessions.get(sessionId);
  if (session === undefined) throw new LonglineError('not_found', `there is no session ${sessionId}`);
  if (session.state === SessionState.ENDED || session.state === SessionState.FAILED) {
    const state = SessionState[session.state].toLowerCase();
    throw new LonglineError('wrong_state', `session ${sessionId} has ${state}; start it again to reach into it`);
  }
  const agent = await store.agents.get(session.agentId);
  if (agent?.state !== AgentState.ONLINE) {
    throw new LonglineError('unavailable', `agent ${session.agentId}, which holds session ${sessionId}, is away`);
  }
  return reachable(session);
}

function reachable(session: SessionRecord): ReachableSession {
  const { id, agentId, state } = session;
  const spec = fromBinary(SessionSpecSchema, session.spec);
  const status = session.status === undefined ? undefined : fromBinary(SessionStatusSchema, session.status);
  const ports = new Set([...spec.ports, ...(status?.ports ?? [])].map(({ number }) => number));
  const screenPort = screenPortOf(spec);
  if (screenPort !== undefined) ports.add(screenPort);
  const awake = state === SessionState.RUNNING || state === SessionState.UNHEALTHY;
  return { id, agentId, awake, ports: [...ports], screenPort };
}

function screenPortOf({ vnc, ports }: SessionSpec): number | undefined {
  const declared = ports.find(({ name, protocol }) => name === 'vnc' || protocol === SessionPortProtocol.VNC);
  if (vnc !== undefined && vnc.port !== 0) return vnc.port;
  return declared?.number ?? (vnc === undefined ? undefined : DEFAULT_VNC_PORT);
}

/** Throws `policy` for a port that the session is known not to offer. */
export function checkOffered({ id, ports }: ReachableSession, port: number): void {
  if (ports.length === 0 || ports.includes(port)) return;
  const message = `session ${id} does not offer port ${port}; it offers ${ports.join(', ')}`;
  throw new LonglineError('policy', message, { rule: 'session ports' });
}
