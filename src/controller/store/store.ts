// What the controller remembers, by noun. The store knows nothing of streams, buses or log files: whoever changes it
// publishes the change. Every method is one transaction of its own: it takes effect whole or not at all, and is durable
// when its promise resolves. Nothing here assumes one process, so PostgreSQL can stand behind the same interfaces.
// Failures of storage are LonglineError `unavailable`; no method throws for a record that isn't there.
import type { Progress } from '../../core/progress.ts';
import type { IdentityRepositories } from '../identity/ports.ts';
import type { AgentRepository } from './agent.ts';
import type { AgentEventRepository } from './agent-event.ts';
import type { ArtifactRepository } from './artifact.ts';
import type { AuditCheckpointRepository } from './audit-checkpoint.ts';
import type { CommandRepository } from './command.ts';
import type { DesiredStateRepository } from './desired-state.ts';
import type { FleetCountRepository } from './fleet-counts.ts';
import type { JobRepository } from './job.ts';
import type { MeshRepository } from './mesh.ts';
import type { NetworkRepository } from './network.ts';
import type { ProgramCommandRepository, ProgramRepository, RollbackRepository } from './program.ts';
import type { AssignmentRepository } from './rollout.ts';
import type { SessionRepository } from './session.ts';
import type { TemplateRepository } from './session-template.ts';
import type { StateReportRepository } from './state-report.ts';

/** Whether what is stored gets to the disk. */
export interface StoreWrites {
  readonly progress: Progress;
  /** Why the last write did not; undefined if it did. */
  readonly failure: string | undefined;
}

/** All repositories. Disposing waits for writes under way. */
export interface Store extends IdentityRepositories, AsyncDisposable {
  readonly agents: AgentRepository;
  readonly jobs: JobRepository;
  readonly commands: CommandRepository;
  readonly sessions: SessionRepository;
  readonly templates: TemplateRepository;
  readonly agentEvents: AgentEventRepository;
  readonly auditCheckpoints: AuditCheckpointRepository;
  readonly desiredStates: DesiredStateRepository;
  readonly stateReports: StateReportRepository;
  readonly networks: NetworkRepository;
  readonly meshes: MeshRepository;
  readonly artifacts: ArtifactRepository;
  readonly programs: ProgramRepository;
  readonly programCommands: ProgramCommandRepository;
  readonly rollbacks: RollbackRepository;
  readonly assignments: AssignmentRepository;
  readonly counts: FleetCountRepository;
  readonly writes: StoreWrites;
}
