// Session templates on SQLite.
import type { Page, PageQuery } from '../page.ts';
import type { TemplateChange, TemplateOutcome, TemplateRecord, TemplateRepository } from '../session-template.ts';
import { blob, number, sameBytes, text } from './column.ts';
import type { Database, Row, Sql } from './database.ts';
import { decodePageToken, pageOf } from './page-token.ts';

const LATEST = 'SELECT max(version) FROM session_templates v WHERE v.name = t.name';

function toTemplate(row: Row): TemplateRecord {
  return {
    name: text(row, 'name'),
    version: number(row, 'version'),
    spec: blob(row, 'spec'),
    description: text(row, 'description'),
    createdAtMs: number(row, 'created_at_ms'),
    creator: text(row, 'creator'),
  };
}

function find(sql: Sql, name: string, version: number): Row | undefined {
  const condition = version === 0 ? `t.version = (${LATEST})` : 't.version = ?';
  const values = version === 0 ? [name] : [name, version];
  return sql.one(`SELECT * FROM session_templates t WHERE t.name = ? AND ${condition}`, ...values);
}

function putUnit(sql: Sql, change: TemplateChange): TemplateOutcome {
  const { name, baseVersion } = change;
  const latest = find(sql, name, 0);
  const latestVersion = latest === undefined ? 0 : number(latest, 'version');
  if (latest !== undefined && sameBytes(blob(latest, 'content_hash'), change.contentHash)) {
    return { kind: 'unchanged', template: toTemplate(latest) };
  }
  if (baseVersion !== undefined && baseVersion !== latestVersion) return { kind: 'conflict', latest: latestVersion };
  const counted = sql.one(
    `INSERT INTO session_template_names (name, last_version) VALUES (?, 1)
     ON CONFLICT DO UPDATE SET last_version = last_version + 1 RETURNING last_version`,
    name,
  );
  const version = number(counted!, 'last_version');
  sql.run(
    `INSERT INTO session_templates (name, version, spec, description, content_hash, created_at_ms, creator)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
    name,
    version,
    change.spec,
    change.description,
    change.contentHash,
    change.createdAtMs,
    change.creator,
  );
  return { kind: 'stored', template: toTemplate(find(sql, name, version)!) };
}

/** TemplateRepository on one database. */
export class SqliteTemplates implements TemplateRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async put(change: TemplateChange): Promise<TemplateOutcome> {
    return await this.#db.write((sql) => putUnit(sql, change));
  }

  async get(name: string, version: number): Promise<TemplateRecord | undefined> {
    return await this.#db.read((sql) => {
      const row = find(sql, name, version);
      return row === undefined ? undefined : toTemplate(row);
    });
  }

  async list(page: PageQuery): Promise<Page<TemplateRecord>> {
    const after = decodePageToken(page.pageToken) ?? '';
    return await this.#db.read((sql) => {
      const rows = sql.all(
        `SELECT * FROM session_templates t WHERE t.name > ? AND t.version = (${LATEST}) ORDER BY t.name LIMIT ?`,
        after,
        page.pageSize + 1,
      );
      return pageOf(rows, page.pageSize, toTemplate, (row) => text(row, 'name'));
    });
  }

  async versions(name: string, page: PageQuery): Promise<Page<TemplateRecord>> {
    const before = Number(decodePageToken(page.pageToken) ?? Number.MAX_SAFE_INTEGER);
    return await this.#db.read((sql) => {
      const rows = sql.all(
        'SELECT * FROM session_templates WHERE name = ? AND version < ? ORDER BY version DESC LIMIT ?',
        name,
        Number.isSafeInteger(before) ? before : 0,
        page.pageSize + 1,
      );
      return pageOf(rows, page.pageSize, toTemplate, (row) => String(row['version']));
    });
  }

  async delete(name: string): Promise<boolean> {
    return await this.#db.write((sql) => sql.run('DELETE FROM session_templates WHERE name = ?', name) > 0);
  }
}
