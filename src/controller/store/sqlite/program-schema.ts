// Tables of artifacts, programs and their rollbacks. Never change a migration that was released: add another.

/** Artifacts with their bytes, programs beside the desired states, what agents told, commands about programs. */
export const PROGRAMS_MIGRATION = `
  CREATE TABLE artifacts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    name TEXT NOT NULL,
    metadata BLOB NOT NULL,
    signers TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE artifact_pieces (
    digest TEXT NOT NULL,
    piece INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (digest, piece)
  ) STRICT;

  CREATE TABLE programs (
    agent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    assignment TEXT NOT NULL,
    artifact TEXT NOT NULL,
    spec_hash BLOB NOT NULL,
    generation INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    removing INTEGER NOT NULL,
    PRIMARY KEY (agent_id, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX programs_removing ON programs (agent_id) WHERE removing = 1;
  CREATE INDEX programs_by_assignment ON programs (assignment, agent_id) WHERE assignment <> '';
  CREATE INDEX programs_by_artifact ON programs (artifact) WHERE removing = 0;

  CREATE TABLE program_rollbacks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT NOT NULL,
    id TEXT NOT NULL,
    program TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    rollback BLOB NOT NULL,
    UNIQUE (agent_id, id)
  ) STRICT;
  CREATE INDEX program_rollbacks_by_time ON program_rollbacks (at_ms, number);
  CREATE INDEX program_rollbacks_by_agent ON program_rollbacks (agent_id, at_ms, number);

  -- A command about programs names the capability, and owns its statement under its own id in place of a job's.
  ALTER TABLE commands ADD COLUMN capability TEXT NOT NULL DEFAULT '';
  CREATE INDEX commands_of_programs ON commands (agent_id, id) WHERE capability <> '';
`;
