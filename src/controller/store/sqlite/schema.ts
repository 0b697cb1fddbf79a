// The schema, as migrations that are applied once each, in order. Never change one that was released: add another.
// Commands are numbered 1 stored, 2 sent, 3 received, 4 ended, 5 rejected; job states are those of longline.v1.JobState.

import { EVENTS_MIGRATION } from './agent-events.ts';
import { ASSIGNMENTS_MIGRATION } from './assignment-schema.ts';
import { DESIRED_STATES_MIGRATION, STATE_TRACES_MIGRATION } from './desired-states.ts';
import { MESHES_MIGRATION } from './meshes.ts';
import { NETWORKS_MIGRATION } from './networks.ts';
import { PROGRAMS_MIGRATION } from './program-schema.ts';
import { SESSIONS_MIGRATION } from './session-schema.ts';

/** All migrations, oldest first. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    enrolled_at_ms INTEGER NOT NULL,
    own_labels TEXT NOT NULL DEFAULT '{}',
    assigned_labels TEXT NOT NULL DEFAULT '{}',
    labels TEXT NOT NULL DEFAULT '{}',
    facts BLOB,
    facts_digest BLOB,
    offers_jobs INTEGER,
    usage BLOB,
    running_jobs INTEGER NOT NULL DEFAULT 0,
    queued_jobs INTEGER NOT NULL DEFAULT 0,
    max_jobs INTEGER NOT NULL DEFAULT 0,
    instance_id TEXT NOT NULL DEFAULT '',
    boot_id TEXT NOT NULL DEFAULT '',
    leader_epoch TEXT NOT NULL DEFAULT '0',
    session_token BLOB,
    connection_id TEXT NOT NULL DEFAULT '',
    replica_id TEXT NOT NULL DEFAULT '',
    connected_at_ms INTEGER,
    seen_at_ms INTEGER,
    round_trip_ms REAL,
    drain_reason TEXT,
    revoked INTEGER NOT NULL DEFAULT 0,
    revoke_reason TEXT NOT NULL DEFAULT '',
    last_command_seq INTEGER NOT NULL DEFAULT 0
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    spec BLOB NOT NULL,
    target BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    creator TEXT NOT NULL,
    request_id TEXT NOT NULL,
    labels TEXT NOT NULL,
    state INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX jobs_by_state ON jobs (state, id);

  CREATE TABLE job_states (
    job_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (job_id, state)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE job_requests (
    request_id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL,
    hash BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX job_requests_by_time ON job_requests (created_at_ms);

  CREATE TABLE statements (
    job_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    statement BLOB NOT NULL,
    PRIMARY KEY (job_id, number)
  ) STRICT;

  CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    statement INTEGER NOT NULL,
    traceparent TEXT NOT NULL,
    tracestate TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    state INTEGER NOT NULL,
    job_state INTEGER NOT NULL,
    received_at_ms INTEGER,
    ended_at_ms INTEGER,
    progress_number INTEGER NOT NULL DEFAULT 0,
    progress BLOB,
    result BLOB,
    guessed INTEGER NOT NULL DEFAULT 0,
    cancel_reason TEXT,
    version INTEGER NOT NULL DEFAULT 1
  ) STRICT;
  CREATE UNIQUE INDEX commands_by_agent ON commands (agent_id, seq);
  CREATE INDEX commands_open ON commands (agent_id, seq) WHERE state <= 3;
  CREATE INDEX commands_by_job ON commands (job_id, id);
  CREATE INDEX commands_by_expiry ON commands (expires_at_ms) WHERE state <= 2;

  CREATE TABLE audit_checkpoints (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT NOT NULL,
    chain_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    head BLOB NOT NULL,
    signed_at_ms INTEGER NOT NULL,
    stored_at_ms INTEGER NOT NULL,
    public_key BLOB NOT NULL,
    payload BLOB NOT NULL,
    signature BLOB NOT NULL,
    UNIQUE (agent_id, chain_id, sequence, head)
  ) STRICT;
  CREATE INDEX audit_checkpoints_by_agent ON audit_checkpoints (agent_id, number);

  CREATE TABLE state_reports (
    agent_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    generation TEXT NOT NULL,
    report BLOB NOT NULL,
    stored_at_ms INTEGER NOT NULL,
    PRIMARY KEY (agent_id, kind)
  ) STRICT;

  CREATE TABLE enrollment_tokens (
    id TEXT PRIMARY KEY,
    secret_hash BLOB NOT NULL UNIQUE,
    uses_total INTEGER NOT NULL,
    uses_left INTEGER NOT NULL,
    labels TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    revoked INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    secret_hash BLOB NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    used_at_ms INTEGER,
    revoked INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE agent_identities (
    agent_id TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL,
    labels TEXT NOT NULL,
    enrolled_at_ms INTEGER NOT NULL,
    enrollment_token_id TEXT NOT NULL,
    public_key_hash BLOB,
    certificates TEXT NOT NULL,
    certificate_expires_at_ms INTEGER,
    api_key_hash BLOB,
    revoked INTEGER NOT NULL,
    version INTEGER NOT NULL
  ) STRICT;
  `,
  SESSIONS_MIGRATION,
  EVENTS_MIGRATION,
  'CREATE TABLE doomed_logs (log_id TEXT PRIMARY KEY) STRICT',
  DESIRED_STATES_MIGRATION,
  NETWORKS_MIGRATION + MESHES_MIGRATION,
  PROGRAMS_MIGRATION,
  ASSIGNMENTS_MIGRATION,
  STATE_TRACES_MIGRATION,
];
