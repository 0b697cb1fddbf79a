// Commands that belong to no job: of a session, or about programs. Each owns its statement under its own id.
import type { ProgramCommand } from '../program.ts';
import { number, text } from './column.ts';
import { STATE } from './command-transitions.ts';
import type { Sql } from './database.ts';

/** A command to be stored for one agent. */
export interface OwnCommand extends ProgramCommand {
  /** Empty unless it is one of a session. */
  readonly sessionId: string;
  /** 0 unless it is one of a session. */
  readonly verb: number;
  /** Null unless it is one of a session. */
  readonly contentHash: Uint8Array | null;
  /** Empty unless it is one about programs. */
  readonly capability: '' | 'programs';
}

/** Stores a command as the next of its agent, which is there. */
export function insertOwnCommand(sql: Sql, command: OwnCommand): void {
  const next = sql.one(
    'UPDATE agents SET last_command_seq = last_command_seq + 1 WHERE id = ? RETURNING last_command_seq',
    command.agentId,
  );
  sql.run('INSERT INTO statements (job_id, number, statement) VALUES (?, 0, ?)', command.id, command.statement);
  sql.run(
    `INSERT INTO commands (id, agent_id, seq, job_id, statement, traceparent, tracestate, created_at_ms, expires_at_ms, state,
       job_state, session_id, verb, creator, content_hash, capability)
     VALUES (?1, ?, ?, ?1, 0, ?, ?, ?, ?, ${STATE.stored}, 1, ?, ?, ?, ?, ?)`,
    command.id,
    command.agentId,
    number(next!, 'last_command_seq'),
    command.traceparent,
    command.tracestate,
    command.createdAtMs,
    command.expiresAtMs,
    command.sessionId,
    command.verb,
    command.creator,
    command.contentHash,
    command.capability,
  );
}

/** Forgets ended commands but the latest `keep` of those that a condition picks. */
export function forgetOldCommands(sql: Sql, condition: string, value: string, keep: number): void {
  const old = sql.all(
    `SELECT id FROM commands WHERE ${condition} AND state > ${STATE.received} ORDER BY id DESC LIMIT -1 OFFSET ${keep}`,
    value,
  );
  for (const row of old) {
    sql.run('DELETE FROM statements WHERE job_id = ?', text(row, 'id'));
    sql.run('DELETE FROM commands WHERE id = ?', text(row, 'id'));
  }
}
