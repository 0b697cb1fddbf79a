// Commands on SQLite.
import type {
  AgentResume,
  CancelOutcome,
  ClaimedCommand,
  ClaimQuery,
  CommandChange,
  CommandRecord,
  CommandRepository,
  CommandState,
  PendingCancel,
  ProgressUpdate,
  ResultUpdate,
  ResumeOutcome,
} from '../command.ts';
import type { Page, PageQuery } from '../page.ts';
import { blob, number, optionalBlob, optionalNumber, optionalText, text } from './column.ts';
import {
  changeOf,
  endCommand,
  endLocally,
  isOfPrograms,
  isOfSession,
  MOVE_COLUMNS,
  markReceived,
  moveJobState,
  STATE,
} from './command-transitions.ts';
import type { Database, Row, Sql } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';
import { touchSession } from './session-transitions.ts';

const STATE_NAMES: readonly CommandState[] = ['stored', 'stored', 'sent', 'received', 'ended', 'rejected'];

/** Most ids of a Hello that are looked at; an agent can't have more commands under way. */
const MAX_RESUME_IDS = 100_000;

function toRecord(row: Row): CommandRecord {
  return {
    id: text(row, 'id'),
    agentId: text(row, 'agent_id'),
    seq: number(row, 'seq'),
    jobId: text(row, 'job_id'),
    sessionId: text(row, 'session_id'),
    verb: number(row, 'verb'),
    creator: text(row, 'creator'),
    state: STATE_NAMES[number(row, 'state')]!,
    jobState: number(row, 'job_state'),
    createdAtMs: number(row, 'created_at_ms'),
    expiresAtMs: number(row, 'expires_at_ms'),
    receivedAtMs: optionalNumber(row, 'received_at_ms'),
    endedAtMs: optionalNumber(row, 'ended_at_ms'),
    progress: optionalBlob(row, 'progress'),
    result: optionalBlob(row, 'result'),
    cancelReason: optionalText(row, 'cancel_reason'),
    version: number(row, 'version'),
  };
}

function toClaimed(row: Row): ClaimedCommand {
  return {
    id: text(row, 'id'),
    seq: number(row, 'seq'),
    statement: blob(row, 'payload'),
    createdAtMs: number(row, 'created_at_ms'),
    expiresAtMs: number(row, 'expires_at_ms'),
    traceparent: text(row, 'traceparent'),
    tracestate: text(row, 'tracestate'),
  };
}

function findMove(sql: Sql, commandId: string): Row | undefined {
  return sql.one(`SELECT ${MOVE_COLUMNS}, progress_number, cancel_reason FROM commands WHERE id = ?`, commandId);
}

function resultFor(row: Row, update: ResultUpdate): Uint8Array {
  if (isOfPrograms(row)) return update.programResult;
  return isOfSession(row) ? update.sessionResult : update.result;
}

/** Commands that an agent confirmed once and doesn't name any more. */
function missing(sql: Sql, resume: AgentResume, known: readonly string[]): readonly string[] {
  const said = new Set(known);
  const open = sql.all(
    `SELECT id, seq FROM commands WHERE agent_id = ? AND state <= 3 AND state = ${STATE.received}`,
    resume.agentId,
  );
  // A running process may have received more since it wrote its Hello; then only what lies below can be missing.
  const covered = open.filter((row) => !resume.sameBoot || number(row, 'seq') <= resume.lastCommandSeq);
  return covered.map((row) => text(row, 'id')).filter((id) => !said.has(id));
}

/** CommandRepository on one database. */
export class SqliteCommands implements CommandRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async get(commandId: string): Promise<CommandRecord | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one('SELECT * FROM commands WHERE id = ?', commandId);
      return row === undefined ? undefined : toRecord(row);
    });
  }

  async listByJob(jobId: string, page: PageQuery): Promise<Page<CommandRecord>> {
    const after = decodePageToken(page.pageToken) ?? '';
    return await this.#db.read((sql) => {
      const rows = sql.all(
        'SELECT * FROM commands WHERE job_id = ? AND id > ? ORDER BY id LIMIT ?',
        jobId,
        after,
        page.pageSize + 1,
      );
      return pageOf(rows, page.pageSize, toRecord, (row) => text(row, 'id'));
    });
  }

  async countByJob(jobId: string): Promise<number> {
    return await this.#db.read((sql) =>
      number(sql.one('SELECT count(*) AS count FROM commands WHERE job_id = ?', jobId)!, 'count'),
    );
  }

  async versions(jobId: string): Promise<ReadonlyMap<string, number>> {
    return await this.#db.read((sql) => {
      const rows = sql.all('SELECT id, version FROM commands WHERE job_id = ? ORDER BY id', jobId);
      return new Map(rows.map((row) => [text(row, 'id'), number(row, 'version')]));
    });
  }

  async claim(query: ClaimQuery): Promise<readonly ClaimedCommand[]> {
    const { agentId, afterSeq, limit, nowMs } = query;
    return await this.#db.write((sql) => {
      const rows = sql.all(
        `SELECT c.id, c.seq, c.state, s.statement AS payload, c.created_at_ms, c.expires_at_ms, c.traceparent, c.tracestate
         FROM commands c JOIN statements s ON s.job_id = c.job_id AND s.number = c.statement
         WHERE c.agent_id = ? AND c.seq > ? AND c.state <= 3 AND c.state < 3 AND c.expires_at_ms > ? ORDER BY c.seq LIMIT ?`,
        agentId,
        afterSeq,
        nowMs,
        limit,
      );
      for (const row of rows) {
        if (number(row, 'state') !== STATE.stored) continue;
        sql.run(`UPDATE commands SET state = ${STATE.sent}, version = version + 1 WHERE id = ?`, text(row, 'id'));
      }
      return rows.map(toClaimed);
    });
  }

  async resume(resume: AgentResume): Promise<ResumeOutcome> {
    const { agentId, nowMs } = resume;
    const pending = new Set(resume.pendingResultIds.slice(0, MAX_RESUME_IDS));
    const known = [...resume.inFlightIds.slice(0, MAX_RESUME_IDS), ...pending];
    // Most agents name nothing: then there is nothing to write, and after a restart they come by the thousand.
    if (known.length === 0) {
      return { changes: [], missingIds: await this.#db.read((sql) => missing(sql, resume, known)) };
    }
    return await this.#db.write(function* (sql) {
      const changes: CommandChange[] = [];
      for (const id of known) {
        yield;
        const row = findMove(sql, id);
        if (row === undefined || row['agent_id'] !== agentId) continue;
        const guessed = number(row, 'guessed') === 1 && !pending.has(id);
        if (number(row, 'state') > STATE.sent && !guessed) continue;
        markReceived(sql, row, nowMs);
        changes.push(changeOf(row));
      }
      return { changes, missingIds: missing(sql, resume, known) };
    });
  }

  async lose(commandIds: readonly string[], agentId: string, nowMs: number): Promise<readonly CommandChange[]> {
    return await this.#db.write(function* (sql) {
      const changes: CommandChange[] = [];
      for (const id of commandIds) {
        yield;
        const row = findMove(sql, id);
        if (row === undefined || row['agent_id'] !== agentId || number(row, 'state') !== STATE.received) continue;
        endLocally(sql, row, 'lost', nowMs);
        changes.push(changeOf(row));
      }
      return changes;
    });
  }

  async received(commandId: string, agentId: string, nowMs: number): Promise<CommandChange | undefined> {
    return await this.#db.writeSoon((sql) => {
      const row = findMove(sql, commandId);
      if (row === undefined || row['agent_id'] !== agentId) return undefined;
      if (number(row, 'state') > STATE.sent && number(row, 'guessed') === 0) return undefined;
      markReceived(sql, row, nowMs);
      return changeOf(row);
    });
  }

  async progress(update: ProgressUpdate): Promise<CommandChange | undefined> {
    return await this.#db.writeSoon((sql) => {
      const row = findMove(sql, update.commandId);
      if (row === undefined || row['agent_id'] !== update.agentId) return undefined;
      if (number(row, 'state') > STATE.received || number(row, 'progress_number') >= update.number) return undefined;
      const from = number(row, 'job_state');
      const to = update.jobState ?? from;
      sql.run(
        'UPDATE commands SET progress = ?, progress_number = ?, job_state = ?, version = version + 1 WHERE id = ?',
        update.progress,
        update.number,
        to,
        update.commandId,
      );
      if (!isOfSession(row)) moveJobState(sql, row, to);
      else touchSession(sql, text(row, 'session_id'), 0);
      return changeOf(row);
    });
  }

  async result(update: ResultUpdate): Promise<CommandChange | undefined> {
    return await this.#db.write((sql) => {
      const row = findMove(sql, update.commandId);
      if (row === undefined || row['agent_id'] !== update.agentId) return undefined;
      if (number(row, 'state') > STATE.received && number(row, 'guessed') === 0) return undefined;
      endCommand(sql, row, { ...update, result: resultFor(row, update), guessed: false });
      return changeOf(row);
    });
  }

  async requestCancel(commandId: string, reason: string, nowMs: number): Promise<CancelOutcome> {
    return await this.#db.write<CancelOutcome>((sql) => {
      const row = findMove(sql, commandId);
      if (row === undefined || number(row, 'state') > STATE.received) return { kind: 'unchanged' };
      if (number(row, 'state') === STATE.stored) {
        sql.run('UPDATE commands SET cancel_reason = ? WHERE id = ?', reason, commandId);
        endLocally(sql, row, 'cancelled', nowMs);
        return { kind: 'cancelled', change: changeOf(row) };
      }
      if (row['cancel_reason'] !== null) return { kind: 'unchanged' };
      sql.run('UPDATE commands SET cancel_reason = ?, version = version + 1 WHERE id = ?', reason, commandId);
      return { kind: 'requested', change: changeOf(row) };
    });
  }

  async pendingCancels(agentId: string): Promise<readonly PendingCancel[]> {
    return await this.#db.read((sql) =>
      sql
        .all(
          `SELECT id, seq, state, cancel_reason FROM commands
           WHERE agent_id = ? AND state <= 3 AND state >= 2 AND cancel_reason IS NOT NULL ORDER BY seq`,
          agentId,
        )
        .map((row) => ({
          commandId: text(row, 'id'),
          seq: number(row, 'seq'),
          received: number(row, 'state') === STATE.received,
          reason: text(row, 'cancel_reason'),
        })),
    );
  }

  async expire(nowMs: number, graceMs: number, limit: number): Promise<readonly CommandChange[]> {
    return await this.#db.write(function* (sql) {
      const rows = sql.all(
        `SELECT ${MOVE_COLUMNS} FROM commands
         WHERE state <= 2 AND expires_at_ms <= ?1 AND (state = ${STATE.stored} OR expires_at_ms <= ?1 - ?2)
         ORDER BY expires_at_ms LIMIT ?3`,
        nowMs,
        graceMs,
        limit,
      );
      for (const row of rows) {
        endLocally(sql, row, 'expired', nowMs);
        yield;
      }
      return rows.map(changeOf);
    });
  }
}
