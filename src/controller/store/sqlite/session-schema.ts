// Tables of sessions and their templates. Never change a migration that was released: add another.

/** Sessions with their commands beside those of jobs, what agents can hold, templates. */
export const SESSIONS_MIGRATION = `
  ALTER TABLE agents ADD COLUMN offers_sessions INTEGER;
  ALTER TABLE agents ADD COLUMN max_sessions INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE agents ADD COLUMN max_session_cpus REAL NOT NULL DEFAULT 0;
  ALTER TABLE agents ADD COLUMN max_session_memory INTEGER NOT NULL DEFAULT 0;

  -- A command of a session names it, and owns its statement under its own id in place of a job's.
  ALTER TABLE commands ADD COLUMN session_id TEXT NOT NULL DEFAULT '';
  ALTER TABLE commands ADD COLUMN verb INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE commands ADD COLUMN creator TEXT NOT NULL DEFAULT '';
  ALTER TABLE commands ADD COLUMN content_hash BLOB;
  CREATE INDEX commands_by_session ON commands (session_id, id) WHERE session_id <> '';

  CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    agent_id TEXT NOT NULL,
    spec BLOB NOT NULL,
    spec_hash BLOB NOT NULL,
    template TEXT NOT NULL,
    template_version INTEGER NOT NULL,
    owner TEXT NOT NULL,
    labels TEXT NOT NULL,
    cpus REAL NOT NULL,
    memory_bytes INTEGER NOT NULL,
    creator TEXT NOT NULL,
    request_id TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    state INTEGER NOT NULL,
    status BLOB,
    status_revision INTEGER NOT NULL DEFAULT 0,
    start_id TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT 1
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX sessions_by_agent ON sessions (agent_id, state);
  CREATE INDEX sessions_by_state ON sessions (state, updated_at_ms);

  CREATE TABLE session_requests (
    request_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    hash BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX session_requests_by_time ON session_requests (created_at_ms);

  CREATE TABLE session_templates (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    spec BLOB NOT NULL,
    description TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    creator TEXT NOT NULL,
    PRIMARY KEY (name, version)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE session_template_names (
    name TEXT PRIMARY KEY,
    last_version INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
`;
