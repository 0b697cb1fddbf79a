// Meshes on SQLite.
import type {
  KeyRotationQuery,
  KeyRotationRecord,
  KeyRotationStep,
  MeshChange,
  MeshMemberRecord,
  MeshOutcome,
  MeshRecord,
  MeshRepository,
  MeshRest,
  MeshState,
} from '../mesh.ts';
import type { Page, PageQuery } from '../page.ts';
import { blob, number, optionalNumber, text } from './column.ts';
import type { Database, Row, Sql } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';

export const MESHES_MIGRATION = `
  CREATE TABLE meshes (
    name TEXT PRIMARY KEY,
    spec BLOB NOT NULL,
    revision INTEGER NOT NULL,
    layout INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    removing INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE mesh_members (
    mesh TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    wanted_address TEXT NOT NULL,
    hub INTEGER NOT NULL,
    routes TEXT NOT NULL,
    nat INTEGER NOT NULL,
    address TEXT NOT NULL,
    subnet TEXT NOT NULL,
    home TEXT NOT NULL,
    key_epoch INTEGER NOT NULL,
    last_epoch INTEGER NOT NULL,
    public_key TEXT NOT NULL,
    key_since_ms INTEGER NOT NULL,
    leaving INTEGER NOT NULL,
    PRIMARY KEY (mesh, agent_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX mesh_members_by_agent ON mesh_members (agent_id);

  CREATE TABLE mesh_rests (
    mesh TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    address TEXT NOT NULL,
    subnet TEXT NOT NULL,
    left_at_ms INTEGER NOT NULL,
    PRIMARY KEY (mesh, agent_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE key_rotations (
    id TEXT PRIMARY KEY,
    mesh TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    step TEXT NOT NULL,
    undoing INTEGER NOT NULL,
    old_epoch INTEGER NOT NULL,
    new_epoch INTEGER NOT NULL,
    old_key TEXT NOT NULL,
    new_key TEXT NOT NULL,
    peers TEXT NOT NULL,
    waiting_for TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX key_rotations_by_mesh ON key_rotations (mesh, id);
  CREATE INDEX key_rotations_open ON key_rotations (mesh, id) WHERE ended_at_ms IS NULL;
  CREATE INDEX key_rotations_by_end ON key_rotations (ended_at_ms) WHERE ended_at_ms IS NOT NULL;
`;

const PUT_MEMBER = `INSERT OR REPLACE INTO mesh_members (mesh, agent_id, endpoint, wanted_address, hub, routes, nat, address,
    subnet, home, key_epoch, last_epoch, public_key, key_since_ms, leaving) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;
const PUT_ROTATION = `INSERT OR REPLACE INTO key_rotations (id, mesh, agent_id, step, undoing, old_epoch, new_epoch, old_key,
    new_key, peers, waiting_for, started_at_ms, ended_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

function texts(row: Row, column: string): readonly string[] {
  return JSON.parse(text(row, column)) as string[];
}

function toMesh(row: Row): MeshRecord {
  return {
    name: text(row, 'name'),
    spec: blob(row, 'spec'),
    revision: number(row, 'revision'),
    layout: number(row, 'layout'),
    createdAtMs: number(row, 'created_at_ms'),
    updatedAtMs: number(row, 'updated_at_ms'),
    removing: number(row, 'removing') === 1,
  };
}

function toMember(row: Row): MeshMemberRecord {
  return {
    agentId: text(row, 'agent_id'),
    endpoint: text(row, 'endpoint'),
    wantedAddress: text(row, 'wanted_address'),
    hub: number(row, 'hub') === 1,
    routes: texts(row, 'routes'),
    nat: number(row, 'nat') === 1,
    address: text(row, 'address'),
    subnet: text(row, 'subnet'),
    home: text(row, 'home'),
    keyEpoch: number(row, 'key_epoch'),
    lastEpoch: number(row, 'last_epoch'),
    publicKey: text(row, 'public_key'),
    keySinceMs: number(row, 'key_since_ms'),
    leaving: number(row, 'leaving') === 1,
  };
}

function toRest(row: Row): MeshRest {
  return {
    agentId: text(row, 'agent_id'),
    address: text(row, 'address'),
    subnet: text(row, 'subnet'),
    leftAtMs: number(row, 'left_at_ms'),
  };
}

function toRotation(row: Row): KeyRotationRecord {
  return {
    id: text(row, 'id'),
    mesh: text(row, 'mesh'),
    agentId: text(row, 'agent_id'),
    step: text(row, 'step') as KeyRotationStep,
    undoing: number(row, 'undoing') === 1,
    oldEpoch: number(row, 'old_epoch'),
    newEpoch: number(row, 'new_epoch'),
    oldKey: text(row, 'old_key'),
    newKey: text(row, 'new_key'),
    peers: texts(row, 'peers'),
    waitingFor: texts(row, 'waiting_for'),
    startedAtMs: number(row, 'started_at_ms'),
    endedAtMs: optionalNumber(row, 'ended_at_ms'),
  };
}

function find(sql: Sql, name: string): MeshState | undefined {
  const row = sql.one('SELECT * FROM meshes WHERE name = ?', name);
  if (row === undefined) return undefined;
  return {
    mesh: toMesh(row),
    members: sql.all('SELECT * FROM mesh_members WHERE mesh = ? ORDER BY agent_id', name).map(toMember),
    resting: sql.all('SELECT * FROM mesh_rests WHERE mesh = ? ORDER BY agent_id', name).map(toRest),
    rotations: sql
      .all('SELECT * FROM key_rotations WHERE mesh = ? AND ended_at_ms IS NULL ORDER BY id', name)
      .map(toRotation),
  };
}

function commitUnit(sql: Sql, change: MeshChange): MeshOutcome {
  const { name, baseRevision, nowMs } = change;
  const row = sql.one('SELECT * FROM meshes WHERE name = ?', name);
  const before = row && toMesh(row);
  if ((before?.revision ?? 0) !== baseRevision) return { kind: 'conflict' };
  const revision = baseRevision + 1;
  const spec = change.spec ?? before?.spec;
  if (spec === undefined) throw new RangeError(`mesh ${name} is new and has no spec`);
  sql.run(
    `INSERT OR REPLACE INTO meshes (name, spec, revision, layout, created_at_ms, updated_at_ms, removing)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
    name,
    spec,
    revision,
    change.newLayout ? revision : (before?.layout ?? revision),
    before?.createdAtMs ?? nowMs,
    change.asked ? nowMs : (before?.updatedAtMs ?? nowMs),
    (change.removing ?? before?.removing ?? false) ? 1 : 0,
  );
  writeParts(sql, change);
  return { kind: 'stored', revision };
}

function writeParts(sql: Sql, change: MeshChange): void {
  const { name } = change;
  for (const m of change.putMembers ?? []) {
    const asked = [m.endpoint, m.wantedAddress, m.hub ? 1 : 0, JSON.stringify(m.routes), m.nat ? 1 : 0] as const;
    const key = [m.keyEpoch, m.lastEpoch, m.publicKey, m.keySinceMs] as const;
    sql.run(PUT_MEMBER, name, m.agentId, ...asked, m.address, m.subnet, m.home, ...key, m.leaving ? 1 : 0);
  }
  for (const agentId of change.removedMembers ?? []) {
    sql.run('DELETE FROM mesh_members WHERE mesh = ? AND agent_id = ?', name, agentId);
  }
  for (const agentId of change.removedResting ?? []) {
    sql.run('DELETE FROM mesh_rests WHERE mesh = ? AND agent_id = ?', name, agentId);
  }
  for (const { agentId, address, subnet, leftAtMs } of change.putResting ?? []) {
    sql.run(
      'INSERT OR REPLACE INTO mesh_rests (mesh, agent_id, address, subnet, left_at_ms) VALUES (?, ?, ?, ?, ?)',
      name,
      agentId,
      address,
      subnet,
      leftAtMs,
    );
  }
  for (const r of change.putRotations ?? []) {
    const keys = [r.oldEpoch, r.newEpoch, r.oldKey, r.newKey] as const;
    const lists = [JSON.stringify(r.peers), JSON.stringify(r.waitingFor)] as const;
    const times = [r.startedAtMs, r.endedAtMs ?? null] as const;
    sql.run(PUT_ROTATION, r.id, name, r.agentId, r.step, r.undoing ? 1 : 0, ...keys, ...lists, ...times);
  }
}

function deleteUnit(sql: Sql, name: string, baseRevision: number): boolean {
  const some = sql.one('SELECT 1 FROM mesh_members WHERE mesh = ? LIMIT 1', name);
  if (some !== undefined) return false;
  if (sql.run('DELETE FROM meshes WHERE name = ? AND revision = ?', name, baseRevision) === 0) return false;
  sql.run('DELETE FROM mesh_rests WHERE mesh = ?', name);
  sql.run('DELETE FROM key_rotations WHERE mesh = ?', name);
  return true;
}

/** MeshRepository on one database. */
export class SqliteMeshes implements MeshRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async get(name: string): Promise<MeshState | undefined> {
    return await this.#db.read((sql) => find(sql, name));
  }

  async list(page: PageQuery): Promise<Page<string>> {
    const after = decodePageToken(page.pageToken) ?? '';
    return await this.#db.read((sql) => {
      const rows = sql.all('SELECT name FROM meshes WHERE name > ? ORDER BY name LIMIT ?', after, page.pageSize + 1);
      const name = (row: Row) => text(row, 'name');
      return pageOf(rows, page.pageSize, name, name);
    });
  }

  async ofAgent(agentId: string): Promise<readonly string[]> {
    return await this.#db.read((sql) =>
      sql
        .all('SELECT mesh FROM mesh_members WHERE agent_id = ? ORDER BY mesh', agentId)
        .map((row) => text(row, 'mesh')),
    );
  }

  async commit(change: MeshChange): Promise<MeshOutcome> {
    return await this.#db.write((sql) => commitUnit(sql, change));
  }

  async delete(name: string, baseRevision: number): Promise<boolean> {
    return await this.#db.write((sql) => deleteUnit(sql, name, baseRevision));
  }

  async getRotation(id: string): Promise<KeyRotationRecord | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one('SELECT * FROM key_rotations WHERE id = ?', id);
      return row && toRotation(row);
    });
  }

  async listRotations(query: KeyRotationQuery): Promise<Page<KeyRotationRecord>> {
    const before = decodePageToken(query.pageToken) ?? '\u{10ffff}';
    const conditions = [
      'id < ?',
      ...(query.mesh === '' ? [] : ['mesh = ?']),
      ...(query.active ? ['ended_at_ms IS NULL'] : []),
    ];
    const values = [before, ...(query.mesh === '' ? [] : [query.mesh])];
    return await this.#db.read((sql) => {
      const rows = sql.all(
        `SELECT * FROM key_rotations WHERE ${conditions.join(' AND ')} ORDER BY id DESC LIMIT ?`,
        ...values,
        query.pageSize + 1,
      );
      return pageOf(rows, query.pageSize, toRotation, (row) => text(row, 'id'));
    });
  }

  async deleteEndedRotations(beforeMs: number, limit: number): Promise<number> {
    return await this.#db.write((sql) =>
      sql.run(
        'DELETE FROM key_rotations WHERE id IN (SELECT id FROM key_rotations WHERE ended_at_ms < ? LIMIT ?)',
        beforeMs,
        limit,
      ),
    );
  }
}
