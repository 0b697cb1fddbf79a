// Agents on SQLite.
import type {
  AgentCandidate,
  AgentConnection,
  AgentFactsUpdate,
  AgentQuery,
  AgentRecord,
  AgentRepository,
  AgentSelector,
  AgentSighting,
  ConnectOutcome,
  DeleteOutcome,
  Labels,
} from '../agent.ts';
import type { Page } from '../page.ts';
import { ENDED_STATES } from '../session-state.ts';
import { deleteItems } from './agent-items.ts';
import { SELECT_AGENT, STATE_SQL, selectorConditions, toAgent, toCandidate } from './agent-rows.ts';
import { labels, number, optionalBlob, sameBytes, text } from './column.ts';
import { endLocally, isOfSession, MOVE_COLUMNS, STATE } from './command-transitions.ts';
import type { Database, Sql } from './database.ts';
import { deleteDesiredStates } from './desired-states.ts';
import { decodePageToken, pageOf } from './page-token.ts';
import { deleteProgramCommands } from './program-commands.ts';
import { loseSession } from './session-transitions.ts';

function find(sql: Sql, agentId: string): AgentRecord | undefined {
  const row = sql.one(`${SELECT_AGENT} WHERE a.id = ?`, agentId);
  return row === undefined ? undefined : toAgent(row);
}

/** Makes an agent's record if there is none, and overlays labels that its registration token gave. */
export function ensureAgent(sql: Sql, agentId: string, enrolledAtMs: number, granted: Labels): void {
  sql.run('INSERT INTO agents (id, enrolled_at_ms) VALUES (?, ?) ON CONFLICT DO NOTHING', agentId, enrolledAtMs);
  if (Object.keys(granted).length > 0) storeLabels(sql, agentId, { assigned: granted, removed: [] });
}

interface LabelChange {
  readonly own?: Labels;
  readonly assigned?: Labels;
  readonly removed?: readonly string[];
}

function storeLabels(sql: Sql, agentId: string, change: LabelChange): void {
  const row = sql.one('SELECT own_labels, assigned_labels FROM agents WHERE id = ?', agentId);
  if (row === undefined) return;
  const own = change.own ?? labels(row, 'own_labels');
  const assigned: Record<string, string> = { ...labels(row, 'assigned_labels'), ...change.assigned };
  for (const key of change.removed ?? []) delete assigned[key];
  sql.run(
    'UPDATE agents SET own_labels = ?, assigned_labels = ?, labels = ? WHERE id = ?',
    JSON.stringify(own),
    JSON.stringify(assigned),
    JSON.stringify({ ...own, ...assigned }),
    agentId,
  );
}

function connectUnit(sql: Sql, connection: AgentConnection): ConnectOutcome {
  const { agentId, leaderEpoch, instanceId } = connection;
  const found = sql.one(`${SELECT_AGENT} WHERE a.id = ?`, agentId);
  const previous = found === undefined ? undefined : toAgent(found);
  if (previous?.revoked) return { kind: 'revoked' };
  if (previous !== undefined && previous.leaderEpoch > leaderEpoch) {
    return { kind: 'fenced', newestEpoch: previous.leaderEpoch };
  }
  const held =
    previous !== undefined &&
    previous.connectionId !== '' &&
    (previous.instanceId !== instanceId || previous.bootId !== connection.bootId) &&
    previous.leaderEpoch === leaderEpoch &&
    (previous.seenAtMs ?? 0) >= connection.aliveSinceMs;
  if (held) return { kind: 'occupied', instanceId: previous.instanceId };
  // An epoch is one replica's. Another that comes with it lost count.
  if (leaderEpoch > 0n && previous?.leaderEpoch === leaderEpoch && previous.instanceId !== instanceId) {
    return { kind: 'fenced', newestEpoch: leaderEpoch };
  }
  if (previous === undefined) ensureAgent(sql, agentId, connection.nowMs, {});
  sql.run(
    `UPDATE agents SET connection_id = ?, replica_id = ?, instance_id = ?, boot_id = ?, leader_epoch = ?,
       session_token = ?, connected_at_ms = ?, seen_at_ms = ?, round_trip_ms = NULL WHERE id = ?`,
    connection.connectionId,
    connection.replicaId,
    instanceId,
    connection.bootId,
    leaderEpoch.toString(),
    connection.sessionToken,
    connection.nowMs,
    connection.nowMs,
    agentId,
  );
  const token = found === undefined ? undefined : optionalBlob(found, 'session_token');
  return { kind: 'connected', resumed: token !== undefined && sameBytes(token, connection.presentedToken), previous };
}

const SIGHT = `UPDATE agents SET seen_at_ms = ?, round_trip_ms = coalesce(?, round_trip_ms)
  WHERE id = ? AND connection_id = ?`;
const SIGHT_USAGE = `UPDATE agents SET seen_at_ms = ?, round_trip_ms = coalesce(?, round_trip_ms), usage = ?,
  running_jobs = ?, queued_jobs = ?, max_jobs = CASE WHEN ?6 > 0 THEN ?6 ELSE max_jobs END,
  max_sessions = coalesce(?7, max_sessions), max_session_cpus = coalesce(?8, max_session_cpus),
  max_session_memory = coalesce(?9, max_session_memory)
  WHERE id = ? AND connection_id = ?`;

function sight(sql: Sql, sighting: AgentSighting): void {
  const { agentId, connectionId, seenAtMs, usage } = sighting;
  const roundTripMs = sighting.roundTripMs ?? null;
  if (usage === undefined) {
    sql.run(SIGHT, seenAtMs, roundTripMs, agentId, connectionId);
    return;
  }
  const { runningJobs, queuedJobs, maxJobs, sessions } = usage.load;
  const room = [sessions?.maxSessions ?? null, sessions?.maxCpus ?? null, sessions?.maxMemoryBytes ?? null];
  const load = [runningJobs, queuedJobs, maxJobs, ...room];
  sql.run(SIGHT_USAGE, seenAtMs, roundTripMs, usage.bytes, ...load, agentId, connectionId);
}

function* deleteUnit(sql: Sql, agentId: string, atMs: number): Generator<void, DeleteOutcome, void> {
  const row = sql.one('SELECT connection_id FROM agents WHERE id = ?', agentId);
  if (row === undefined) return { kind: 'missing' };
  if (text(row, 'connection_id') !== '') return { kind: 'online' };
  const jobIds = new Set<string>();
  for (const command of sql.all(`SELECT ${MOVE_COLUMNS} FROM commands WHERE agent_id = ? AND state <= 3`, agentId)) {
    endLocally(sql, command, number(command, 'state') === STATE.stored ? 'cancelled' : 'lost', atMs);
    if (!isOfSession(command)) jobIds.add(text(command, 'job_id'));
    yield;
  }
  const sessionIds: string[] = [];
  const sessions = `SELECT id, generation, status FROM sessions WHERE agent_id = ? AND state NOT IN (${ENDED_STATES.join()})`;
  for (const session of sql.all(sessions, agentId)) {
    loseSession(sql, session, `agent ${agentId} was deleted`, atMs);
    sessionIds.push(text(session, 'id'));
    yield;
  }
  deleteProgramCommands(sql, agentId);
  deleteDesiredStates(sql, agentId);
  for (const table of ['networks', 'programs', 'program_rollbacks', 'assignment_deliveries'] as const)
    deleteItems(sql, table, agentId);
  sql.run('DELETE FROM state_reports WHERE agent_id = ?', agentId);
  sql.run('DELETE FROM agent_events WHERE agent_id = ?', agentId);
  sql.run('DELETE FROM agent_identities WHERE agent_id = ?', agentId);
  sql.run('DELETE FROM agents WHERE id = ?', agentId);
  return { kind: 'deleted', jobIds: [...jobIds], sessionIds };
}

/** AgentRepository on one database. */
export class SqliteAgents implements AgentRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async get(agentId: string): Promise<AgentRecord | undefined> {
    return await this.#db.read((sql) => find(sql, agentId));
  }

  async list(query: AgentQuery): Promise<Page<AgentRecord>> {
    const after = decodePageToken(query.pageToken) ?? '';
    const { sql: conditions, values } = selectorConditions(query.selector);
    const states = query.states.length === 0 ? '1 = 1' : `${STATE_SQL} IN (SELECT value FROM json_each(?))`;
    const stateValues = query.states.length === 0 ? [] : [JSON.stringify(query.states)];
    return await this.#db.read((sql) => {
      const rows = sql.all(
        `${SELECT_AGENT} WHERE a.id > ? AND ${conditions} AND ${states} ORDER BY a.id LIMIT ?`,
        after,
        ...values,
        ...stateValues,
        query.pageSize + 1,
      );
      return pageOf(rows, query.pageSize, toAgent, (row) => text(row, 'id'));
    });
  }

  async candidates(selector: AgentSelector): Promise<readonly AgentCandidate[]> {
    const { sql: conditions, values } = selectorConditions(selector);
    return await this.#db.read((sql) =>
      sql
        .all(
          `SELECT a.id, a.connection_id, a.drain_reason, a.revoked, a.offers_jobs, a.running_jobs, a.queued_jobs, a.max_jobs,
             (SELECT count(*) FROM commands c WHERE c.agent_id = a.id AND c.state <= 3) AS open_commands
           FROM agents a WHERE ${conditions} ORDER BY a.id`,
          ...values,
        )
        .map(toCandidate),
    );
  }

  async connect(connection: AgentConnection): Promise<ConnectOutcome> {
    return await this.#db.write((sql) => connectUnit(sql, connection));
  }

  async disconnect(agentId: string, connectionId: string, atMs: number): Promise<boolean> {
    return await this.#db.write(
      (sql) =>
        sql.run(
          "UPDATE agents SET connection_id = '', replica_id = '', seen_at_ms = max(seen_at_ms, ?) WHERE id = ? AND connection_id = ?",
          atMs,
          agentId,
          connectionId,
        ) > 0,
    );
  }

  async releaseReplica(replicaId: string, atMs: number): Promise<readonly string[]> {
    return await this.#db.write((sql) =>
      sql
        .all(
          `UPDATE agents SET connection_id = '', replica_id = '', seen_at_ms = coalesce(seen_at_ms, ?)
           WHERE replica_id = ? AND connection_id <> '' RETURNING id`,
          atMs,
          replicaId,
        )
        .map((row) => text(row, 'id')),
    );
  }

  async sight(sightings: readonly AgentSighting[]): Promise<void> {
    await this.#db.write(function* (sql) {
      for (const sighting of sightings) {
        sight(sql, sighting);
        yield;
      }
    });
  }

  async putFacts(update: AgentFactsUpdate): Promise<void> {
    await this.#db.write((sql) => {
      sql.run(
        `UPDATE agents SET facts = ?, facts_digest = ?, offers_jobs = ?,
           max_jobs = CASE WHEN ?4 > 0 THEN ?4 ELSE max_jobs END, offers_sessions = ?, max_sessions = ?,
           max_session_cpus = ?, max_session_memory = ? WHERE id = ?`,
        update.facts,
        update.digest,
        update.offersJobs ? 1 : 0,
        update.maxJobs,
        update.offersSessions ? 1 : 0,
        update.sessions.maxSessions,
        update.sessions.maxCpus,
        update.sessions.maxMemoryBytes,
        update.agentId,
      );
      storeLabels(sql, update.agentId, { own: update.labels });
    });
  }

  async assignLabels(agentId: string, set: Labels, remove: readonly string[]): Promise<AgentRecord | undefined> {
    return await this.#db.write((sql) => {
      storeLabels(sql, agentId, { assigned: set, removed: remove });
      return find(sql, agentId);
    });
  }

  async setDrain(agentId: string, reason: string | undefined): Promise<AgentRecord | undefined> {
    return await this.#db.write((sql) => {
      sql.run('UPDATE agents SET drain_reason = ? WHERE id = ?', reason ?? null, agentId);
      return find(sql, agentId);
    });
  }

  async revoke(agentId: string, reason: string): Promise<AgentRecord | undefined> {
    return await this.#db.write((sql) => {
      sql.run('UPDATE agents SET revoked = 1, revoke_reason = ? WHERE id = ? AND revoked = 0', reason, agentId);
      sql.run(
        'UPDATE agent_identities SET revoked = 1, version = version + 1 WHERE agent_id = ? AND revoked = 0',
        agentId,
      );
      return find(sql, agentId);
    });
  }

  async delete(agentId: string, atMs: number): Promise<DeleteOutcome> {
    return await this.#db.write((sql) => deleteUnit(sql, agentId, atMs));
  }
}
