// Tables of assignments, their rollouts, and what agents were told. Never change a migration that was released: add another.

/** Assignments, rollouts with their agents, deliveries. */
export const ASSIGNMENTS_MIGRATION = `
  CREATE TABLE assignments (
    name TEXT PRIMARY KEY,
    asked BLOB NOT NULL,
    asked_artifact TEXT NOT NULL,
    settled BLOB,
    settled_artifact TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    removing INTEGER NOT NULL,
    rollout_id TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX assignments_by_asked ON assignments (asked_artifact);
  CREATE INDEX assignments_by_settled ON assignments (settled_artifact);

  CREATE TABLE rollouts (
    id TEXT PRIMARY KEY,
    assignment TEXT NOT NULL,
    asked BLOB NOT NULL,
    before BLOB,
    phase TEXT NOT NULL,
    paused INTEGER NOT NULL,
    reason TEXT NOT NULL,
    wave INTEGER NOT NULL,
    waves INTEGER NOT NULL,
    phase_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX rollouts_by_assignment ON rollouts (assignment, id);
  CREATE INDEX rollouts_by_end ON rollouts (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

  CREATE TABLE rollout_agents (
    rollout_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    wave INTEGER NOT NULL,
    step TEXT NOT NULL,
    reason TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    rollback_id TEXT NOT NULL,
    PRIMARY KEY (rollout_id, agent_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE assignment_deliveries (
    assignment TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    spec BLOB,
    artifact TEXT NOT NULL,
    delivery TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (assignment, agent_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX assignment_deliveries_by_agent ON assignment_deliveries (agent_id, assignment);
  CREATE INDEX assignment_deliveries_by_artifact ON assignment_deliveries (artifact) WHERE artifact <> '';
`;
