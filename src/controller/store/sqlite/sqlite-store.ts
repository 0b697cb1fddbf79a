// The store on one SQLite file: what a single controller uses when nothing else is configured. It knows nothing of who
// asks. A file that is locked, read-only, corrupt or newer than this program fails at open with the file and the mend.
import type { Store } from '../store.ts';
import { SqliteAgentEvents } from './agent-events.ts';
import { SqliteAgents } from './agents.ts';
import { SqliteArtifacts } from './artifacts.ts';
import { SqliteAssignments } from './assignments.ts';
import { SqliteCommands } from './commands.ts';
import { Database, type OnTook, type Pace } from './database.ts';
import { SqliteDesiredStates } from './desired-states.ts';
import { SqliteFleetCounts } from './fleet-counts.ts';
import { SqliteAgentIdentities, SqliteApiTokens, SqliteEnrollmentTokens } from './identities.ts';
import { SqliteJobs } from './jobs.ts';
import { SqliteMeshes } from './meshes.ts';
import { SqliteNetworks } from './networks.ts';
import { SqliteProgramCommands } from './program-commands.ts';
import { SqlitePrograms, SqliteRollbacks } from './programs.ts';
import { SqliteAuditCheckpoints, SqliteStateReports } from './reports.ts';
import { MIGRATIONS } from './schema.ts';
import { SqliteTemplates } from './session-templates.ts';
import { SqliteSessions } from './sessions.ts';

/** Opens or creates the store at `path`; `pace` and `onTook` as in Database. Throws LonglineError `unavailable` or `wrong_state` with the mend. */
export function openSqliteStore(path: string, pace?: Pace, onTook?: OnTook): Store {
  const db = Database.open(path, MIGRATIONS, pace, onTook);
  return {
    agents: new SqliteAgents(db),
    jobs: new SqliteJobs(db),
    commands: new SqliteCommands(db),
    sessions: new SqliteSessions(db),
    templates: new SqliteTemplates(db),
    agentEvents: new SqliteAgentEvents(db),
    auditCheckpoints: new SqliteAuditCheckpoints(db),
    desiredStates: new SqliteDesiredStates(db),
    stateReports: new SqliteStateReports(db),
    networks: new SqliteNetworks(db),
    meshes: new SqliteMeshes(db),
    artifacts: new SqliteArtifacts(db),
    programs: new SqlitePrograms(db),
    programCommands: new SqliteProgramCommands(db),
    rollbacks: new SqliteRollbacks(db),
    assignments: new SqliteAssignments(db),
    counts: new SqliteFleetCounts(db),
    enrollmentTokens: new SqliteEnrollmentTokens(db),
    apiTokens: new SqliteApiTokens(db),
    agentIdentities: new SqliteAgentIdentities(db),
    writes: db,
    [Symbol.asyncDispose]: async () => await db[Symbol.asyncDispose](),
  };
}
