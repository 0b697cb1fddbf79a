// Counting on SQLite. Each query is a turn of its own, so that none of a large fleet holds the others up.
import type { FleetCountRepository, FleetCounts } from '../fleet-counts.ts';
import { STATE_SQL } from './agent-rows.ts';
import { number, optionalNumber, text } from './column.ts';
import type { Database, Row } from './database.ts';

/** Numbers of command states as the schema has them. */
const COMMAND_STATES = ['', 'stored', 'sent', 'received'];
/** The last of longline.v1.JobState that is under way. */
const LAST_OPEN_JOB_STATE = 5;

/** FleetCountRepository on one database. */
export class SqliteFleetCounts implements FleetCountRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async count(): Promise<FleetCounts> {
    const commands = await this.#by(
      'SELECT state AS name, count(*) AS count FROM commands WHERE state <= 3 GROUP BY 1',
    );
    return {
      agents: await this.#by(`SELECT ${STATE_SQL} AS name, count(*) AS count FROM agents a GROUP BY 1`),
      commands: Object.fromEntries(
        Object.entries(commands).map(([state, count]) => [COMMAND_STATES[Number(state)]!, count]),
      ),
      jobs: await this.#by(
        `SELECT state AS name, count(*) AS count FROM jobs WHERE state <= ${LAST_OPEN_JOB_STATE} GROUP BY 1`,
      ),
      sessions: await this.#by('SELECT state AS name, count(*) AS count FROM sessions GROUP BY 1'),
      states: (await this.#all(STANDINGS)).map((row) => ({
        kind: number(row, 'kind'),
        wanted: number(row, 'wanted'),
        pending: number(row, 'pending'),
        refused: number(row, 'refused'),
      })),
      programs: await this.#one('SELECT count(*) AS count FROM programs'),
      assignments: await this.#one('SELECT count(*) AS count FROM assignments'),
      rollouts: (await this.#all('SELECT phase, paused, count(*) AS count FROM rollouts GROUP BY 1, 2')).map((row) => ({
        phase: text(row, 'phase'),
        paused: number(row, 'paused') === 1,
        count: number(row, 'count'),
      })),
      meshes: await this.#one('SELECT count(*) AS count FROM meshes'),
      members: await this.#one('SELECT count(*) AS count FROM mesh_members'),
      rotations: await this.#by(
        'SELECT step AS name, count(*) AS count FROM key_rotations WHERE ended_at_ms IS NULL GROUP BY 1',
      ),
      oldestRotationAtMs: await this.#oldest(
        'SELECT min(started_at_ms) AS at_ms FROM key_rotations WHERE ended_at_ms IS NULL',
      ),
      oldestUnsentAtMs: await this.#oldest(
        `SELECT min(c.created_at_ms) AS at_ms FROM commands c JOIN agents a ON a.id = c.agent_id
         WHERE c.state <= 3 AND c.state = 1 AND a.connection_id <> ''`,
      ),
    };
  }

  async #all(query: string): Promise<readonly Row[]> {
    return await this.#db.read((sql) => sql.all(query));
  }

  async #by(query: string): Promise<Record<string, number>> {
    return Object.fromEntries((await this.#all(query)).map((row) => [String(row['name']), number(row, 'count')]));
  }

  async #one(query: string): Promise<number> {
    return number((await this.#all(query))[0]!, 'count');
  }

  async #oldest(query: string): Promise<number | undefined> {
    return optionalNumber((await this.#all(query))[0]!, 'at_ms');
  }
}

const STANDINGS = `
  SELECT d.kind, count(*) AS wanted,
    sum(d.generation > CAST(coalesce(r.generation, '0') AS INTEGER)) AS pending,
    sum(d.refused_generation = d.generation) AS refused
  FROM desired_states d LEFT JOIN state_reports r ON r.agent_id = d.agent_id AND r.kind = d.kind
  GROUP BY d.kind`;
