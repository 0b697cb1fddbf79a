// Sessions on SQLite.
import type { SessionState } from '#gen/longline/v1/session_pb.js';
import type { AgentSelector } from '../agent.ts';
import type { Page } from '../page.ts';
import type {
  ForgottenSession,
  SessionAct,
  SessionCandidate,
  SessionOutcome,
  SessionQuery,
  SessionRecord,
  SessionReport,
  SessionRepository,
  SessionStart,
} from '../session.ts';
import { sessionLogId } from '../session.ts';
import { DOZING_STATES, ENDED_STATES, SLEEPING_STATES } from '../session-state.ts';
import { selectorConditions } from './agent-rows.ts';
import { number, optionalNumber, text } from './column.ts';
import { STATE } from './command-transitions.ts';
import type { Database, Row, Sql } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';
import { actUnit, findSession, findSessionRequest, startUnit, toSession } from './session-commands.ts';
import { applyStatus, loseSession } from './session-transitions.ts';

const list = (states: readonly SessionState[]): string => states.join(', ');
const ENDED = list(ENDED_STATES);
const HOLDS_CPU = `state NOT IN (${list([...ENDED_STATES, ...SLEEPING_STATES, ...DOZING_STATES])})`;
const HOLDS_PLACE = `state NOT IN (${list([...ENDED_STATES, ...SLEEPING_STATES])})`;

function* reportUnit(sql: Sql, report: SessionReport): Generator<void, readonly string[], void> {
  const { agentId, statuses, full, nowMs } = report;
  const changed: string[] = [];
  for (const status of statuses) {
    yield;
    if (applyStatus(sql, agentId, status, nowMs)) changed.push(status.sessionId);
  }
  if (!full) return changed;
  const known = new Set(statuses.map(({ sessionId }) => sessionId));
  const live = sql.all(
    `SELECT s.id, s.generation, s.status FROM sessions s WHERE s.agent_id = ? AND s.state NOT IN (${ENDED})
       AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.id = s.start_id AND c.state <= ${STATE.received})`,
    agentId,
  );
  for (const row of live) {
    yield;
    if (known.has(text(row, 'id'))) continue;
    loseSession(sql, row, `agent ${agentId} doesn't know this session: its data was lost`, nowMs);
    changed.push(text(row, 'id'));
  }
  return changed;
}

function toCandidate(row: Row): SessionCandidate {
  const offers = optionalNumber(row, 'offers_sessions');
  return {
    id: text(row, 'id'),
    online: text(row, 'connection_id') !== '',
    drained: row['drain_reason'] !== null,
    revoked: number(row, 'revoked') === 1,
    offersSessions: offers === undefined ? undefined : offers === 1,
    max: {
      sessions: number(row, 'max_sessions'),
      cpus: number(row, 'max_session_cpus'),
      memoryBytes: number(row, 'max_session_memory'),
    },
    held: { sessions: number(row, 'held'), cpus: number(row, 'cpus'), memoryBytes: number(row, 'memory') },
  };
}

interface Filter {
  readonly conditions: string[];
  readonly values: (string | number)[];
}

function filterOf(query: SessionQuery): Filter {
  const filter: Filter = { conditions: ['1 = 1'], values: [] };
  const where = (condition: string, ...operands: (string | number)[]): void => {
    filter.conditions.push(condition);
    filter.values.push(...operands);
  };
  if (query.agentId !== '') where('agent_id = ?', query.agentId);
  if (query.owner !== '') where('owner = ?', query.owner);
  if (query.template !== '') where('template = ?', query.template);
  if (query.live) where(`state NOT IN (${ENDED})`);
  if (query.states.length > 0) where('state IN (SELECT value FROM json_each(?))', JSON.stringify(query.states));
  if (query.sessionIds.length > 0) where('id IN (SELECT value FROM json_each(?))', JSON.stringify(query.sessionIds));
  for (const [key, value] of Object.entries(query.matchLabels)) {
    where('EXISTS (SELECT 1 FROM json_each(sessions.labels) l WHERE l.key = ? AND l.value = ?)', key, value);
  }
  return filter;
}

/** Lives of a session whose logs go with it. */
const MOST_LIVES = 1000;

function* deleteUnit(sql: Sql, beforeMs: number, limit: number): Generator<void, readonly ForgottenSession[], void> {
  const rows = sql.all(
    `SELECT id, generation FROM sessions WHERE state IN (${ENDED}) AND updated_at_ms < ?
       AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.id = operation_id AND c.state <= ${STATE.received}) LIMIT ?`,
    beforeMs,
    limit,
  );
  for (const row of rows) {
    yield;
    const id = text(row, 'id');
    for (const command of sql.all("DELETE FROM commands WHERE session_id = ? AND session_id <> '' RETURNING id", id)) {
      sql.run('DELETE FROM statements WHERE job_id = ?', text(command, 'id'));
    }
    // Of every life it had; the number comes from an agent, which may say anything.
    const last = number(row, 'generation');
    for (let life = Math.max(1, last - MOST_LIVES + 1); life <= last; life++) {
      sql.run('INSERT OR IGNORE INTO doomed_logs (log_id) VALUES (?)', sessionLogId(id, life));
    }
    sql.run('DELETE FROM sessions WHERE id = ?', id);
  }
  return rows.map((row) => ({ id: text(row, 'id'), generation: number(row, 'generation') }));
}

/** SessionRepository on one database. */
export class SqliteSessions implements SessionRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async start(start: SessionStart): Promise<SessionOutcome> {
    return await this.#db.write((sql) => startUnit(sql, start));
  }

  async act(act: SessionAct): Promise<SessionOutcome> {
    return await this.#db.write((sql) => actUnit(sql, act));
  }

  async get(sessionId: string): Promise<SessionRecord | undefined> {
    return await this.#db.read((sql) => findSession(sql, sessionId));
  }

  async list(query: SessionQuery): Promise<Page<SessionRecord>> {
    const before = Number(decodePageToken(query.pageToken) ?? Number.MAX_SAFE_INTEGER);
    const { conditions, values } = filterOf(query);
    return await this.#db.read((sql) => {
      const rows = sql.all(
        `SELECT * FROM sessions WHERE number < ? AND ${conditions.join(' AND ')} ORDER BY number DESC LIMIT ?`,
        Number.isSafeInteger(before) ? before : 0,
        ...values,
        query.pageSize + 1,
      );
      return pageOf(rows, query.pageSize, toSession, (row) => String(row['number']));
    });
  }

  async findRequest(requestId: string) {
    return await this.#db.read((sql) => findSessionRequest(sql, requestId));
  }

  async report(report: SessionReport): Promise<readonly string[]> {
    return await this.#db.write((sql) => reportUnit(sql, report));
  }

  async candidates(selector: AgentSelector): Promise<readonly SessionCandidate[]> {
    const { sql: conditions, values } = selectorConditions(selector);
    return await this.#db.read((sql) =>
      sql
        .all(
          `SELECT a.id, a.connection_id, a.drain_reason, a.revoked, a.offers_sessions, a.max_sessions, a.max_session_cpus,
             a.max_session_memory, coalesce(h.held, 0) AS held, coalesce(h.cpus, 0) AS cpus, coalesce(h.memory, 0) AS memory
           FROM agents a LEFT JOIN (
             SELECT agent_id, count(*) AS held, sum(memory_bytes) AS memory,
               sum(CASE WHEN ${HOLDS_CPU} THEN cpus ELSE 0 END) AS cpus
             FROM sessions WHERE ${HOLDS_PLACE} GROUP BY agent_id
           ) h ON h.agent_id = a.id WHERE ${conditions} ORDER BY a.id`,
          ...values,
        )
        .map(toCandidate),
    );
  }

  async deleteEnded(beforeMs: number, limit: number): Promise<readonly ForgottenSession[]> {
    return await this.#db.write((sql) => deleteUnit(sql, beforeMs, limit));
  }

  async forgetRequests(beforeMs: number): Promise<void> {
    await this.#db.write((sql) => sql.run('DELETE FROM session_requests WHERE created_at_ms < ?', beforeMs));
  }
}
