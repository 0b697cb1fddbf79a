// Tables of the audit log. The triggers stop slips, not an attacker with the file in hand: against those stands the chain,
// and against an attacker who writes the chain anew stand the checkpoints that the controller holds.
import { AUDIT_FIELDS } from '../../core/audit/audit-record.ts';

const TEXT_COLUMNS = AUDIT_FIELDS.slice(2);

/** Name and SQL of everything in the file's schema, in the order of making. Verification compares them. */
export const AUDIT_SCHEMA: readonly (readonly [string, string])[] = [
  [
    'audit_chain',
    `CREATE TABLE audit_chain (
  only INTEGER PRIMARY KEY CHECK (only = 1), chain_id TEXT NOT NULL, public_key BLOB NOT NULL
) STRICT`,
  ],
  [
    'audit_records',
    `CREATE TABLE audit_records (
  sequence INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL,
  ${TEXT_COLUMNS.map((name) => `${name} TEXT NOT NULL`).join(', ')},
  hash BLOB NOT NULL
) STRICT`,
  ],
  [
    'audit_checkpoints',
    `CREATE TABLE audit_checkpoints (
  sequence INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, head BLOB NOT NULL, payload BLOB NOT NULL,
  signature BLOB NOT NULL, acknowledged INTEGER NOT NULL DEFAULT 0
) STRICT`,
  ],
  ...refusing('audit_chain', ['UPDATE', 'DELETE']),
  ...refusing('audit_records', ['UPDATE', 'DELETE']),
  ...refusing('audit_checkpoints', ['UPDATE OF sequence, time_ms, head, payload, signature', 'DELETE']),
  // INSERT OR REPLACE deletes without firing delete triggers, so that inserting into the past is refused too.
  ...appendOnly('audit_records', 'NEW.sequence <> coalesce((SELECT max(sequence) FROM audit_records), 0) + 1'),
  ...appendOnly('audit_checkpoints', 'NEW.sequence <= coalesce((SELECT max(sequence) FROM audit_checkpoints), 0)'),
  ...appendOnly('audit_chain', 'EXISTS (SELECT 1 FROM audit_chain)'),
];

function refusing(table: string, operations: readonly string[]): (readonly [string, string])[] {
  return operations.map((operation) => {
    const name = `${table}_no_${operation.split(' ')[0]!.toLowerCase()}`;
    return [
      name,
      `CREATE TRIGGER ${name} BEFORE ${operation} ON ${table} BEGIN SELECT RAISE(ABORT, '${table} is append-only'); END`,
    ];
  });
}

function appendOnly(table: string, wrong: string): (readonly [string, string])[] {
  const name = `${table}_in_order`;
  const body = `BEGIN SELECT RAISE(ABORT, '${table} is append-only'); END`;
  return [[name, `CREATE TRIGGER ${name} BEFORE INSERT ON ${table} WHEN ${wrong} ${body}`]];
}

/** Columns of a record, then its hash; the order of `INSERT_RECORD`'s parameters. */
export const RECORD_COLUMNS = [...AUDIT_FIELDS, 'hash'].join(', ');

export const INSERT_RECORD = `INSERT INTO audit_records (${RECORD_COLUMNS}) VALUES (${[...AUDIT_FIELDS, 'hash'].map(() => '?').join(', ')})`;

/**
 * Canonical bytes of a record, made inside SQLite from the bytes as they are stored: reading text into JavaScript would
 * mend invalid UTF-8 on the way and so hide an edit.
 */
export const CANONICAL_SQL = `CAST(${AUDIT_FIELDS.map((name) => `octet_length(${name}) || ':' || ${name} || ','`).join(' || ')} AS BLOB)`;
