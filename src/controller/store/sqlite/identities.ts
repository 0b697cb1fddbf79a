// Registration tokens, API tokens and agent identities on SQLite.
import type {
  AgentIdentity,
  AgentIdentityRepository,
  ApiTokenRecord,
  ApiTokenRepository,
  EnrollmentTokenRecord,
  EnrollmentTokenRepository,
  IdentityChange,
  IdentityChangeOutcome,
  IssuedCertificate,
  PageRequest,
  ReplicaRevocation,
  Role,
} from '../../identity/ports.ts';
import { withoutReplica } from '../../identity/replica-certificates.ts';
import { ensureAgent } from './agents.ts';
import { blob, labels, number, optionalBlob, optionalNumber, text } from './column.ts';
import type { Database, Row, Sql } from './database.ts';

/** Sorts after every UUID. */
const NEWEST = '~';

function toEnrollmentToken(row: Row): EnrollmentTokenRecord {
  return {
    id: text(row, 'id'),
    secretHash: blob(row, 'secret_hash'),
    usesTotal: number(row, 'uses_total'),
    usesLeft: number(row, 'uses_left'),
    labels: labels(row, 'labels'),
    agentId: text(row, 'agent_id'),
    createdAtMs: number(row, 'created_at_ms'),
    expiresAtMs: number(row, 'expires_at_ms'),
    revoked: number(row, 'revoked') === 1,
  };
}

/** EnrollmentTokenRepository on one database. */
export class SqliteEnrollmentTokens implements EnrollmentTokenRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async insert(record: EnrollmentTokenRecord): Promise<void> {
    await this.#db.write((sql) =>
      sql.run(
        `INSERT INTO enrollment_tokens (id, secret_hash, uses_total, uses_left, labels, agent_id, created_at_ms,
           expires_at_ms, revoked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        record.id,
        record.secretHash,
        record.usesTotal,
        record.usesLeft,
        JSON.stringify(record.labels),
        record.agentId,
        record.createdAtMs,
        record.expiresAtMs,
        record.revoked ? 1 : 0,
      ),
    );
  }

  async findByHash(secretHash: Uint8Array): Promise<EnrollmentTokenRecord | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one('SELECT * FROM enrollment_tokens WHERE secret_hash = ?', secretHash);
      return row === undefined ? undefined : toEnrollmentToken(row);
    });
  }

  async list({ limit, beforeId }: PageRequest): Promise<readonly EnrollmentTokenRecord[]> {
    return await this.#db.read((sql) =>
      sql
        .all('SELECT * FROM enrollment_tokens WHERE id < ? ORDER BY id DESC LIMIT ?', beforeId ?? NEWEST, limit)
        .map(toEnrollmentToken),
    );
  }

  async revoke(id: string): Promise<boolean> {
    return await this.#db.write((sql) => sql.run('UPDATE enrollment_tokens SET revoked = 1 WHERE id = ?', id) > 0);
  }
}

function toApiToken(row: Row): ApiTokenRecord {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    role: text(row, 'role') as Role,
    secretHash: blob(row, 'secret_hash'),
    createdAtMs: number(row, 'created_at_ms'),
    expiresAtMs: optionalNumber(row, 'expires_at_ms'),
    usedAtMs: optionalNumber(row, 'used_at_ms'),
    revoked: number(row, 'revoked') === 1,
  };
}

/** ApiTokenRepository on one database. */
export class SqliteApiTokens implements ApiTokenRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async insert(record: ApiTokenRecord): Promise<void> {
    await this.#db.write((sql) =>
      sql.run(
        `INSERT INTO api_tokens (id, name, role, secret_hash, created_at_ms, expires_at_ms, used_at_ms, revoked)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
        record.id,
        record.name,
        record.role,
        record.secretHash,
        record.createdAtMs,
        record.expiresAtMs ?? null,
        record.usedAtMs ?? null,
        record.revoked ? 1 : 0,
      ),
    );
  }

  async findByHash(secretHash: Uint8Array): Promise<ApiTokenRecord | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one('SELECT * FROM api_tokens WHERE secret_hash = ?', secretHash);
      return row === undefined ? undefined : toApiToken(row);
    });
  }

  async list({ limit, beforeId }: PageRequest): Promise<readonly ApiTokenRecord[]> {
    return await this.#db.read((sql) =>
      sql
        .all('SELECT * FROM api_tokens WHERE id < ? ORDER BY id DESC LIMIT ?', beforeId ?? NEWEST, limit)
        .map(toApiToken),
    );
  }

  async revoke(id: string): Promise<boolean> {
    return await this.#db.write((sql) => sql.run('UPDATE api_tokens SET revoked = 1 WHERE id = ?', id) > 0);
  }

  async touch(id: string, usedAtMs: number): Promise<void> {
    await this.#db.write((sql) =>
      sql.run('UPDATE api_tokens SET used_at_ms = max(coalesce(used_at_ms, 0), ?) WHERE id = ?', usedAtMs, id),
    );
  }
}

function toIdentity(row: Row): AgentIdentity {
  return {
    agentId: text(row, 'agent_id'),
    instanceId: text(row, 'instance_id'),
    labels: labels(row, 'labels'),
    enrolledAtMs: number(row, 'enrolled_at_ms'),
    enrollmentTokenId: text(row, 'enrollment_token_id'),
    publicKeyHash: optionalBlob(row, 'public_key_hash'),
    certificates: certificatesOf(row),
    apiKeyHash: optionalBlob(row, 'api_key_hash'),
    revoked: number(row, 'revoked') === 1,
    version: number(row, 'version'),
  };
}

/** Those stored before agents had replicas are the one's that enrolled. */
function certificatesOf(row: Row): readonly IssuedCertificate[] {
  const stored = JSON.parse(text(row, 'certificates')) as (Pick<IssuedCertificate, 'serial' | 'expiresAtMs'> &
    Partial<IssuedCertificate>)[];
  const known = { instanceId: text(row, 'instance_id'), tokenId: text(row, 'enrollment_token_id') };
  return stored.map((certificate) => ({ ...known, ...certificate }));
}

function spendToken(sql: Sql, tokenId: string, nowMs: number): boolean {
  return (
    sql.run(
      `UPDATE enrollment_tokens SET uses_left = uses_left - 1
       WHERE id = ? AND uses_left > 0 AND revoked = 0 AND expires_at_ms > ?`,
      tokenId,
      nowMs,
    ) > 0
  );
}

function storeIdentity(sql: Sql, identity: AgentIdentity): void {
  const expiries = identity.certificates.map((certificate) => certificate.expiresAtMs);
  sql.run(
    `INSERT OR REPLACE INTO agent_identities (agent_id, instance_id, labels, enrolled_at_ms, enrollment_token_id,
       public_key_hash, certificates, certificate_expires_at_ms, api_key_hash, revoked, version)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    identity.agentId,
    identity.instanceId,
    JSON.stringify(identity.labels),
    identity.enrolledAtMs,
    identity.enrollmentTokenId,
    identity.publicKeyHash ?? null,
    JSON.stringify(identity.certificates),
    expiries.length === 0 ? null : Math.max(...expiries),
    identity.apiKeyHash ?? null,
    identity.revoked ? 1 : 0,
    identity.version,
  );
}

/** AgentIdentityRepository on one database. */
export class SqliteAgentIdentities implements AgentIdentityRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async find(agentId: string): Promise<AgentIdentity | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one('SELECT * FROM agent_identities WHERE agent_id = ?', agentId);
      return row === undefined ? undefined : toIdentity(row);
    });
  }

  async save({ identity, spendTokenId, nowMs }: IdentityChange): Promise<IdentityChangeOutcome> {
    return await this.#db.write<IdentityChangeOutcome>((sql) => {
      const row = sql.one('SELECT version, labels FROM agent_identities WHERE agent_id = ?', identity.agentId);
      if ((row === undefined ? 0 : number(row, 'version')) !== identity.version - 1) return 'conflict';
      if (spendTokenId !== undefined && !spendToken(sql, spendTokenId, nowMs)) return 'token_spent';
      storeIdentity(sql, identity);
      // Labels changed through the API since must not come back with a renewal.
      const granted =
        row !== undefined && text(row, 'labels') === JSON.stringify(identity.labels) ? {} : identity.labels;
      ensureAgent(sql, identity.agentId, identity.enrolledAtMs, granted);
      return 'saved';
    });
  }

  async revoke(agentId: string): Promise<boolean> {
    return await this.#db.write((sql) => {
      sql.run(
        'UPDATE agent_identities SET revoked = 1, version = version + 1 WHERE agent_id = ? AND revoked = 0',
        agentId,
      );
      sql.run('UPDATE agents SET revoked = 1 WHERE id = ?', agentId);
      return sql.one('SELECT 1 FROM agent_identities WHERE agent_id = ?', agentId) !== undefined;
    });
  }

  async revokeReplica(agentId: string, instanceId: string, nowMs: number): Promise<ReplicaRevocation> {
    return await this.#db.write<ReplicaRevocation>((sql) => {
      const row = sql.one('SELECT * FROM agent_identities WHERE agent_id = ?', agentId);
      const found = row === undefined ? undefined : toIdentity(row);
      const change = found === undefined ? 'missing' : withoutReplica(found, instanceId, nowMs);
      if (typeof change === 'string') return change;
      storeIdentity(sql, change.identity);
      for (const tokenId of change.tokenIds) sql.run('UPDATE enrollment_tokens SET revoked = 1 WHERE id = ?', tokenId);
      return 'revoked';
    });
  }
}
