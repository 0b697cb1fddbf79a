// Networks on SQLite.
import type { PutStateOutcome } from '../desired-state.ts';
import type {
  MemberFactsRecord,
  NetworkCommit,
  NetworkConditions,
  NetworkRecord,
  NetworkRepository,
} from '../network.ts';
import type { Page, PageQuery } from '../page.ts';
import { AgentItems } from './agent-items.ts';
import { blob, number, optionalBlob, optionalText, text } from './column.ts';
import type { Database, Row } from './database.ts';
import { NETWORK_KIND, putDesiredState } from './desired-states.ts';

export const NETWORKS_MIGRATION = `
  CREATE TABLE networks (
    agent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    mesh TEXT NOT NULL,
    interface TEXT NOT NULL,
    spec_hash BLOB NOT NULL,
    generation INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    removing INTEGER NOT NULL,
    PRIMARY KEY (agent_id, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX networks_removing ON networks (agent_id) WHERE removing = 1;
  CREATE INDEX networks_by_mesh ON networks (mesh, agent_id) WHERE mesh <> '';
`;

const PUT = `INSERT OR REPLACE INTO networks (agent_id, name, mesh, interface, spec_hash, generation, updated_at_ms, removing)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?)`;

const MEMBER_FACTS = `SELECT m.agent_id AS member_id, a.id AS known_id, a.revoked, a.connection_id, n.*,
    r.generation AS report_generation, r.report, d.refused_generation, d.refused_error
  FROM mesh_members m
  LEFT JOIN agents a ON a.id = m.agent_id
  LEFT JOIN networks n ON n.agent_id = m.agent_id AND n.name = m.mesh AND n.mesh = m.mesh
  LEFT JOIN state_reports r ON r.agent_id = m.agent_id AND r.kind = ?1
  LEFT JOIN desired_states d ON d.agent_id = m.agent_id AND d.kind = ?1
  WHERE m.mesh = ?2 ORDER BY m.agent_id`;

const LEFTOVERS = `SELECT agent_id FROM networks WHERE removing = 1
  UNION SELECT n.agent_id FROM networks n WHERE n.mesh <> '' AND NOT EXISTS
    (SELECT 1 FROM mesh_members m WHERE m.mesh = n.mesh AND m.agent_id = n.agent_id)
  ORDER BY agent_id LIMIT ?`;

function toNetwork(row: Row): NetworkRecord {
  return {
    agentId: text(row, 'agent_id'),
    name: text(row, 'name'),
    mesh: text(row, 'mesh'),
    interface: text(row, 'interface'),
    specHash: blob(row, 'spec_hash'),
    generation: BigInt(number(row, 'generation')),
    updatedAtMs: number(row, 'updated_at_ms'),
    removing: number(row, 'removing') === 1,
  };
}

function toFacts(row: Row): MemberFactsRecord {
  const report = optionalBlob(row, 'report');
  const error = optionalBlob(row, 'refused_error');
  return {
    agentId: text(row, 'member_id'),
    valid: optionalText(row, 'known_id') !== undefined && number(row, 'revoked') === 0,
    online: (optionalText(row, 'connection_id') ?? '') !== '',
    network: optionalText(row, 'name') === undefined ? undefined : toNetwork(row),
    report: report && { generation: BigInt(text(row, 'report_generation')), bytes: report },
    refusal: error && { generation: BigInt(number(row, 'refused_generation')), error },
  };
}

/** NetworkRepository on one database. */
export class SqliteNetworks extends AgentItems<NetworkRecord> implements NetworkRepository {
  constructor(db: Database) {
    super(db, 'networks', toNetwork);
  }

  async list({ agentId, mesh, name, ...page }: NetworkConditions & PageQuery): Promise<Page<NetworkRecord>> {
    return await this.page({ agent_id: agentId, mesh, name }, page);
  }

  async commit({ state, networks }: NetworkCommit): Promise<PutStateOutcome> {
    return await this.db.write((sql) => {
      const outcome = putDesiredState(sql, state);
      if (outcome.kind !== 'stored') return outcome;
      for (const { name, mesh, specHash, removing, ...network } of networks) {
        const change = [outcome.generation, state.nowMs, removing ? 1 : 0] as const;
        sql.run(PUT, state.agentId, name, mesh, network.interface, specHash, ...change);
      }
      return outcome;
    });
  }

  async agentsWithLeftovers(limit: number): Promise<readonly string[]> {
    return await this.db.read((sql) => sql.all(LEFTOVERS, limit).map((row) => text(row, 'agent_id')));
  }

  async memberFacts(mesh: string): Promise<readonly MemberFactsRecord[]> {
    return await this.db.read((sql) => sql.all(MEMBER_FACTS, NETWORK_KIND, mesh).map(toFacts));
  }
}
