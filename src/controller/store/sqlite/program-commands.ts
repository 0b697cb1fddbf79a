// Storing commands about programs.
import type { ProgramCommand, ProgramCommandOutcome, ProgramCommandRepository } from '../program.ts';
import { text } from './column.ts';
import type { Database, Sql } from './database.ts';
import { refusal } from './jobs.ts';
import { forgetOldCommands, insertOwnCommand } from './own-commands.ts';

/** Ended commands of an agent that are kept for reading. */
const KEPT_COMMANDS = 64;

function submitUnit(sql: Sql, command: ProgramCommand): ProgramCommandOutcome {
  // What is there already may be acted on though the agent is drained.
  const refused = refusal(sql, command.agentId, true);
  if (refused !== undefined) return refused;
  insertOwnCommand(sql, { ...command, sessionId: '', verb: 0, contentHash: null, capability: 'programs' });
  forgetOldCommands(sql, "agent_id = ? AND capability <> ''", command.agentId, KEPT_COMMANDS);
  return { kind: 'stored' };
}

/** Forgets all commands about programs of an agent; part of the transaction that forgets the agent. */
export function deleteProgramCommands(sql: Sql, agentId: string): void {
  for (const row of sql.all("DELETE FROM commands WHERE agent_id = ? AND capability <> '' RETURNING id", agentId)) {
    sql.run('DELETE FROM statements WHERE job_id = ?', text(row, 'id'));
  }
}

/** ProgramCommandRepository on one database. */
export class SqliteProgramCommands implements ProgramCommandRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async submit(command: ProgramCommand): Promise<ProgramCommandOutcome> {
    return await this.#db.write((sql) => submitUnit(sql, command));
  }
}
