// Storing what a session is to do: a start with its session, or an action, each with its command, in one unit.
import type { SessionVerb } from '#gen/longline/v1/session_pb.js';
import { SessionState, SessionVerb as Verb } from '#gen/longline/v1/session_pb.js';
import type { SessionAct, SessionCommand, SessionOutcome, SessionRecord, SessionStart } from '../session.ts';
import { hasEnded } from '../session-state.ts';
import { blob, labels, number, optionalBlob, sameBytes, text } from './column.ts';
import { endLocally, MOVE_COLUMNS, STATE } from './command-transitions.ts';
import type { Row, Sql } from './database.ts';
import { refusal } from './jobs.ts';
import { forgetOldCommands, insertOwnCommand } from './own-commands.ts';

/** Ended commands of a session that are kept for reading: it may live for years. */
const KEPT_COMMANDS = 16;

/** In the words of the index of commands by session. */
const OF_SESSION = "session_id = ? AND session_id <> ''";

/** A session from a row. */
export function toSession(row: Row): SessionRecord {
  return {
    id: text(row, 'id'),
    generation: number(row, 'generation'),
    agentId: text(row, 'agent_id'),
    spec: blob(row, 'spec'),
    specHash: blob(row, 'spec_hash'),
    template: text(row, 'template'),
    templateVersion: number(row, 'template_version'),
    owner: text(row, 'owner'),
    labels: labels(row, 'labels'),
    creator: text(row, 'creator'),
    requestId: text(row, 'request_id'),
    createdAtMs: number(row, 'created_at_ms'),
    updatedAtMs: number(row, 'updated_at_ms'),
    state: number(row, 'state'),
    status: optionalBlob(row, 'status'),
    operationId: text(row, 'operation_id'),
    revision: number(row, 'revision'),
  };
}

/** A session by id. */
export function findSession(sql: Sql, sessionId: string): SessionRecord | undefined {
  const row = sql.one('SELECT * FROM sessions WHERE id = ?', sessionId);
  return row === undefined ? undefined : toSession(row);
}

/** What a request id was used for. */
export function findSessionRequest(sql: Sql, requestId: string) {
  if (requestId === '') return undefined;
  const row = sql.one('SELECT session_id, hash FROM session_requests WHERE request_id = ?', requestId);
  return row === undefined ? undefined : { sessionId: text(row, 'session_id'), hash: blob(row, 'hash') };
}

function repetition(sql: Sql, command: SessionCommand): SessionOutcome | undefined {
  const known = findSessionRequest(sql, command.requestId);
  if (known === undefined) return undefined;
  return { kind: 'repeated', sessionId: known.sessionId, sameContent: sameBytes(known.hash, command.contentHash) };
}

/** The command under way; undefined if there is none. */
function openCommand(sql: Sql, session: SessionRecord): Row | undefined {
  const columns = `${MOVE_COLUMNS}, content_hash, cancel_reason`;
  return sql.one(`SELECT ${columns} FROM commands WHERE id = ? AND state <= ${STATE.received}`, session.operationId);
}

function insertCommand(sql: Sql, sessionId: string, agentId: string, command: SessionCommand): void {
  insertOwnCommand(sql, { ...command, agentId, sessionId, capability: '' });
  if (command.requestId === '') return;
  sql.run(
    'INSERT INTO session_requests (request_id, session_id, hash, created_at_ms) VALUES (?, ?, ?, ?)',
    command.requestId,
    sessionId,
    command.contentHash,
    command.createdAtMs,
  );
}

function insertSession(sql: Sql, { session, command, cpus, memoryBytes }: SessionStart): void {
  sql.run('DELETE FROM sessions WHERE id = ?', session.id);
  sql.run(
    `INSERT INTO sessions (id, number, generation, agent_id, spec, spec_hash, template, template_version, owner, labels, cpus,
       memory_bytes, creator, request_id, created_at_ms, updated_at_ms, state, start_id, operation_id)
     VALUES (?, (SELECT coalesce(max(number), 0) + 1 FROM sessions), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    session.id,
    session.generation,
    session.agentId,
    session.spec,
    session.specHash,
    session.template,
    session.templateVersion,
    session.owner,
    JSON.stringify(session.labels),
    cpus,
    memoryBytes,
    command.creator,
    command.requestId,
    command.createdAtMs,
    command.createdAtMs,
    SessionState.PENDING,
    command.id,
    command.id,
  );
}

/** Stores a start, or says why not. */
export function startUnit(sql: Sql, start: SessionStart): SessionOutcome {
  const { session, command } = start;
  const repeated = repetition(sql, command);
  if (repeated !== undefined) return repeated;
  const known = findSession(sql, session.id);
  if (known !== undefined && !hasEnded(known.state)) return { kind: 'alive', session: known };
  if (session.generation !== (known?.generation ?? 0) + 1) return { kind: 'moved', session: known };
  // A stop that still runs, for example to remove volumes, must not meet the new life.
  const open = known === undefined ? undefined : openCommand(sql, known);
  if (known !== undefined && open !== undefined) return { kind: 'busy', session: known, verb: number(open, 'verb') };
  const refused = refusal(sql, session.agentId);
  if (refused !== undefined) return refused;
  insertSession(sql, start);
  insertCommand(sql, session.id, session.agentId, command);
  forgetOldCommands(sql, OF_SESSION, session.id, KEPT_COMMANDS);
  return { kind: 'stored' };
}

/** What stands in the way of an action while another is under way; undefined if nothing does. */
function conflict(session: SessionRecord, open: Row | undefined, command: SessionCommand): SessionOutcome | undefined {
  if (open === undefined) return undefined;
  const verb = number(open, 'verb') as SessionVerb;
  const hash = optionalBlob(open, 'content_hash');
  if (verb === command.verb && hash !== undefined && sameBytes(hash, command.contentHash)) return { kind: 'unchanged' };
  return command.verb === Verb.STOP && verb !== Verb.STOP ? undefined : { kind: 'busy', session, verb };
}

/** A stop goes before what is under way: that is cancelled. */
function supersede(sql: Sql, open: Row, nowMs: number): void {
  const id = text(open, 'id');
  sql.run(
    "UPDATE commands SET cancel_reason = coalesce(cancel_reason, 'the session is being stopped'), version = version + 1 WHERE id = ?",
    id,
  );
  if (number(open, 'state') === STATE.stored) endLocally(sql, open, 'cancelled', nowMs);
}

/** Stores an action, or says why not. */
export function actUnit(sql: Sql, { sessionId, generation, command, afterEnd }: SessionAct): SessionOutcome {
  const repeated = repetition(sql, command);
  if (repeated !== undefined) return repeated;
  let session = findSession(sql, sessionId);
  if (session === undefined || session.generation !== generation) return { kind: 'moved', session };
  const open = openCommand(sql, session);
  const obstacle = conflict(session, open, command);
  if (obstacle !== undefined) return obstacle;
  if (open !== undefined) {
    supersede(sql, open, command.createdAtMs);
    session = findSession(sql, sessionId)!;
  }
  if (hasEnded(session.state) && !afterEnd) {
    return command.verb === Verb.STOP ? { kind: 'unchanged' } : { kind: 'ended', session };
  }
  const refused = refusal(sql, session.agentId, command.verb !== Verb.START);
  if (refused !== undefined) return refused;
  insertCommand(sql, sessionId, session.agentId, command);
  sql.run(
    'UPDATE sessions SET operation_id = ?, updated_at_ms = ?, revision = revision + 1 WHERE id = ?',
    command.id,
    command.createdAtMs,
    sessionId,
  );
  forgetOldCommands(sql, OF_SESSION, sessionId, KEPT_COMMANDS);
  return { kind: 'stored' };
}
