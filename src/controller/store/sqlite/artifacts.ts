// Artifacts on SQLite. Bytes lie in pieces of one size beside the metadata and come and go with it in one transaction, so that no
// crash leaves half an artifact, and a piece is read without the others.
import {
  ARTIFACT_PIECE_BYTES,
  type ArtifactRecord,
  type ArtifactRepository,
  type DeleteArtifactOutcome,
  type PutArtifactOutcome,
} from '../artifact.ts';
import type { Page, PageQuery } from '../page.ts';
import { blob, number, text } from './column.ts';
import type { Database, Row, Sql } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';
import { assignmentWanting } from './rollout-rows.ts';

function toArtifact(row: Row): ArtifactRecord {
  return {
    digest: text(row, 'digest'),
    size: number(row, 'size'),
    name: text(row, 'name'),
    metadata: blob(row, 'metadata'),
    signers: JSON.parse(text(row, 'signers')) as string[],
    createdAtMs: number(row, 'created_at_ms'),
  };
}

function find(sql: Sql, digest: string): ArtifactRecord | undefined {
  const row = sql.one('SELECT * FROM artifacts WHERE digest = ?', digest);
  return row && toArtifact(row);
}

/** True if an artifact is stored; for whoever comes to want it, in the same transaction. */
export function hasArtifact(sql: Sql, digest: string): boolean {
  return sql.one('SELECT 1 FROM artifacts WHERE digest = ?', digest) !== undefined;
}

function* putUnit(
  sql: Sql,
  artifact: ArtifactRecord,
  bytes: Uint8Array,
  mostBytes: number,
): Generator<void, PutArtifactOutcome, void> {
  const known = find(sql, artifact.digest);
  if (known !== undefined) return { kind: 'known', artifact: known };
  const before = number(sql.one('SELECT coalesce(sum(size), 0) AS bytes FROM artifacts')!, 'bytes');
  if (before + bytes.length > mostBytes) return { kind: 'full', bytes: before };
  sql.run(
    'INSERT INTO artifacts (digest, size, name, metadata, signers, created_at_ms) VALUES (?, ?, ?, ?, ?, ?)',
    artifact.digest,
    bytes.length,
    artifact.name,
    artifact.metadata,
    JSON.stringify(artifact.signers),
    artifact.createdAtMs,
  );
  for (let at = 0; at < bytes.length; at += ARTIFACT_PIECE_BYTES) {
    sql.run(
      'INSERT INTO artifact_pieces (digest, piece, data) VALUES (?, ?, ?)',
      artifact.digest,
      at / ARTIFACT_PIECE_BYTES,
      bytes.subarray(at, at + ARTIFACT_PIECE_BYTES),
    );
    yield;
  }
  return { kind: 'stored', artifact: { ...artifact, size: bytes.length } };
}

/** Who wants an artifact, for people; undefined if nobody does. */
function wantedBy(sql: Sql, digest: string): string | undefined {
  const program = sql.one('SELECT agent_id, name FROM programs WHERE artifact = ? AND removing = 0 LIMIT 1', digest);
  if (program === undefined) return assignmentWanting(sql, digest);
  return `program ${text(program, 'name')} of agent ${text(program, 'agent_id')}`;
}

function deleteUnit(sql: Sql, digest: string): DeleteArtifactOutcome {
  const by = wantedBy(sql, digest);
  if (by !== undefined) return { kind: 'wanted', by };
  if (sql.run('DELETE FROM artifacts WHERE digest = ?', digest) === 0) return { kind: 'missing' };
  sql.run('DELETE FROM artifact_pieces WHERE digest = ?', digest);
  return { kind: 'deleted' };
}

/** ArtifactRepository on one database. */
export class SqliteArtifacts implements ArtifactRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async put(artifact: ArtifactRecord, bytes: Uint8Array, mostBytes: number): Promise<PutArtifactOutcome> {
    return await this.#db.write((sql) => putUnit(sql, artifact, bytes, mostBytes));
  }

  async get(digest: string): Promise<ArtifactRecord | undefined> {
    return await this.#db.read((sql) => find(sql, digest));
  }

  async startingWith(prefix: string, limit: number): Promise<readonly ArtifactRecord[]> {
    return await this.#db.read((sql) =>
      sql
        .all(
          'SELECT * FROM artifacts WHERE substr(digest, 1, ?) = ? ORDER BY digest LIMIT ?',
          prefix.length,
          prefix,
          limit,
        )
        .map(toArtifact),
    );
  }

  async list({ name, pageSize, pageToken }: { readonly name: string } & PageQuery): Promise<Page<ArtifactRecord>> {
    const before = Number(decodePageToken(pageToken) ?? Number.MAX_SAFE_INTEGER);
    return await this.#db.read((sql) => {
      const rows = sql.all(
        "SELECT * FROM artifacts WHERE number < ?1 AND (?2 = '' OR name = ?2) ORDER BY number DESC LIMIT ?3",
        Number.isSafeInteger(before) ? before : 0,
        name,
        pageSize + 1,
      );
      return pageOf(rows, pageSize, toArtifact, (row) => String(row['number']));
    });
  }

  async read(digest: string, offset: number): Promise<Uint8Array | undefined> {
    return await this.#db.read((sql) => {
      const row = sql.one(
        'SELECT data FROM artifact_pieces WHERE digest = ? AND piece = ?',
        digest,
        Math.floor(offset / ARTIFACT_PIECE_BYTES),
      );
      if (row !== undefined) return blob(row, 'data').subarray(offset % ARTIFACT_PIECE_BYTES);
      return hasArtifact(sql, digest) ? new Uint8Array() : undefined;
    });
  }

  async delete(digest: string): Promise<DeleteArtifactOutcome> {
    return await this.#db.write((sql) => deleteUnit(sql, digest));
  }
}
