// Jobs on SQLite. A submission of many commands is one transaction, made in slices so that the event loop goes on.
import { JobState } from '#gen/longline/v1/job_pb.js';
import type { JobQuery, JobRecord, JobRepository, JobSubmission, StoredRequest, SubmitOutcome } from '../job.ts';
import { isEnded } from '../job-state.ts';
import type { Page } from '../page.ts';
import { blob, labels, number, sameBytes, text } from './column.ts';
import { countNewCommands, STATE } from './command-transitions.ts';
import type { Database, Row, Sql } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';

const ENDED_STATES = Object.values(JobState).filter((state) => typeof state === 'number' && isEnded(state));

function toRecord(row: Row): JobRecord {
  return {
    id: text(row, 'id'),
    spec: blob(row, 'spec'),
    target: blob(row, 'target'),
    createdAtMs: number(row, 'created_at_ms'),
    expiresAtMs: number(row, 'expires_at_ms'),
    creator: text(row, 'creator'),
    requestId: text(row, 'request_id'),
    labels: labels(row, 'labels'),
    state: number(row, 'state'),
  };
}

function findStoredRequest(sql: Sql, requestId: string): StoredRequest | undefined {
  if (requestId === '') return undefined;
  const row = sql.one('SELECT job_id, hash FROM job_requests WHERE request_id = ?', requestId);
  return row === undefined ? undefined : { jobId: text(row, 'job_id'), hash: blob(row, 'hash') };
}

function insertJob(sql: Sql, { job, requestHash, statements }: JobSubmission): void {
  sql.run(
    `INSERT INTO jobs (id, spec, target, created_at_ms, expires_at_ms, creator, request_id, labels, state)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    job.id,
    job.spec,
    job.target,
    job.createdAtMs,
    job.expiresAtMs,
    job.creator,
    job.requestId,
    JSON.stringify(job.labels),
    JobState.PENDING,
  );
  if (job.requestId !== '') {
    sql.run(
      'INSERT INTO job_requests (request_id, job_id, hash, created_at_ms) VALUES (?, ?, ?, ?)',
      job.requestId,
      job.id,
      requestHash,
      job.createdAtMs,
    );
  }
  for (const [index, statement] of statements.entries()) {
    sql.run('INSERT INTO statements (job_id, number, statement) VALUES (?, ?, ?)', job.id, index, statement);
  }
}

/** Undefined if the agent takes commands; a drained one takes those for what it has already. */
export function refusal(
  sql: Sql,
  agentId: string,
  forExisting = false,
): Extract<SubmitOutcome, { kind: 'refused' }> | undefined {
  const row = sql.one('SELECT revoked, drain_reason FROM agents WHERE id = ?', agentId);
  if (row === undefined) return { kind: 'refused', agentId, why: 'missing' };
  if (row['revoked'] === 1) return { kind: 'refused', agentId, why: 'revoked' };
  return row['drain_reason'] === null || forExisting ? undefined : { kind: 'refused', agentId, why: 'drained' };
}

function* submitUnit(sql: Sql, submission: JobSubmission): Generator<void, SubmitOutcome, void> {
  const { job, commands, traceparent, tracestate } = submission;
  const repeated = findStoredRequest(sql, job.requestId);
  if (repeated !== undefined) {
    return { kind: 'repeated', jobId: repeated.jobId, sameContent: sameBytes(repeated.hash, submission.requestHash) };
  }
  for (const command of commands) {
    const refused = refusal(sql, command.agentId);
    if (refused !== undefined) return refused;
  }
  insertJob(sql, submission);
  countNewCommands(sql, job.id, commands.length);
  for (const command of commands) {
    yield;
    const next = sql.one(
      'UPDATE agents SET last_command_seq = last_command_seq + 1 WHERE id = ? RETURNING last_command_seq',
      command.agentId,
    );
    sql.run(
      `INSERT INTO commands (id, agent_id, seq, job_id, statement, traceparent, tracestate, created_at_ms, expires_at_ms,
         state, job_state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ${STATE.stored}, ${JobState.PENDING})`,
      command.id,
      command.agentId,
      number(next!, 'last_command_seq'),
      job.id,
      command.statement,
      traceparent,
      tracestate,
      job.createdAtMs,
      job.expiresAtMs,
    );
  }
  return { kind: 'stored' };
}

function* deleteJobs(sql: Sql, jobs: readonly Row[]): Generator<void, number, void> {
  for (const job of jobs) {
    yield;
    const jobId = text(job, 'id');
    sql.run('INSERT OR IGNORE INTO doomed_logs (log_id) SELECT id FROM commands WHERE job_id = ?', jobId);
    sql.run('DELETE FROM commands WHERE job_id = ?', jobId);
    // Its request id stays until its time is over: repeated, it must not run a second time.
    for (const table of ['statements', 'job_states']) sql.run(`DELETE FROM ${table} WHERE job_id = ?`, jobId);
    sql.run('DELETE FROM jobs WHERE id = ?', jobId);
  }
  return jobs.length;
}

/** JobRepository on one database. */
export class SqliteJobs implements JobRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async submit(submission: JobSubmission): Promise<SubmitOutcome> {
    return await this.#db.write((sql) => submitUnit(sql, submission));
  }

  async get(jobId: string): Promise<JobRecord | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one('SELECT * FROM jobs WHERE id = ?', jobId);
      return row === undefined ? undefined : toRecord(row);
    });
  }

  async list(query: JobQuery): Promise<Page<JobRecord>> {
    const before = decodePageToken(query.pageToken);
    const conditions = ['1 = 1'];
    const values: (string | number)[] = [];
    const where = (condition: string, ...operands: (string | number)[]): void => {
      conditions.push(condition);
      values.push(...operands);
    };
    if (before !== undefined) where('id < ?', before);
    if (query.sinceMs !== undefined) where('created_at_ms >= ?', query.sinceMs);
    if (query.states.length > 0) where('state IN (SELECT value FROM json_each(?))', JSON.stringify(query.states));
    if (query.agentId !== '') where('id IN (SELECT job_id FROM commands WHERE agent_id = ?)', query.agentId);
    for (const [key, value] of Object.entries(query.matchLabels)) {
      where('EXISTS (SELECT 1 FROM json_each(jobs.labels) l WHERE l.key = ? AND l.value = ?)', key, value);
    }
    return await this.#db.read((sql) => {
      const rows = sql.all(
        `SELECT * FROM jobs WHERE ${conditions.join(' AND ')} ORDER BY id DESC LIMIT ?`,
        ...values,
        query.pageSize + 1,
      );
      return pageOf(rows, query.pageSize, toRecord, (row) => text(row, 'id'));
    });
  }

  async findRequest(requestId: string): Promise<StoredRequest | undefined> {
    return await this.#db.read((sql) => findStoredRequest(sql, requestId));
  }

  async deleteEnded(beforeMs: number, limit: number): Promise<number> {
    return await this.#db.write((sql) =>
      deleteJobs(
        sql,
        sql.all(
          'SELECT id FROM jobs WHERE created_at_ms < ? AND state IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?',
          beforeMs,
          JSON.stringify(ENDED_STATES),
          limit,
        ),
      ),
    );
  }

  async deleteBeyond(most: number, limit: number): Promise<number> {
    const excess = (sql: Sql) => number(sql.one('SELECT count(*) AS count FROM jobs')!, 'count') - most;
    // Nearly always there is none: that needs no place among the writes.
    if ((await this.#db.read(excess)) <= 0) return 0;
    return await this.#db.write((sql) =>
      deleteJobs(
        sql,
        sql.all(
          'SELECT id FROM jobs WHERE state IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?',
          JSON.stringify(ENDED_STATES),
          Math.max(0, Math.min(limit, excess(sql))),
        ),
      ),
    );
  }

  async doomedLogs(limit: number): Promise<readonly string[]> {
    return await this.#db.read((sql) =>
      sql.all('SELECT log_id FROM doomed_logs LIMIT ?', limit).map((row) => text(row, 'log_id')),
    );
  }

  async logsGone(logIds: readonly string[]): Promise<void> {
    await this.#db.write((sql) =>
      sql.run('DELETE FROM doomed_logs WHERE log_id IN (SELECT value FROM json_each(?))', JSON.stringify(logIds)),
    );
  }

  async forgetRequests(beforeMs: number): Promise<void> {
    await this.#db.write((sql) => sql.run('DELETE FROM job_requests WHERE created_at_ms < ?', beforeMs));
  }
}
