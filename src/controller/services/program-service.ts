// ProgramService for Connect: artifacts, programs of agents, going back, assignments and their rollouts. It checks, stores and reads;
// the rollout driver and agents bring about what is stored.
import type { ServiceImpl } from '@connectrpc/connect';
import type { ProgramService } from '#gen/longline/fleet/v1/program_service_pb.js';
import type { ArtifactIntake } from '../programs/artifact-intake.ts';
import type { PolledPrograms } from '../programs/polled-programs.ts';
import { ProgramChanges } from '../programs/program-changes.ts';
import { artifactMethods } from './artifact-methods.ts';
import { assignmentMethods } from './assignment-methods.ts';
import type { ProgramFiguresCache } from './program-figures.ts';
import { programMethods } from './program-methods.ts';
import { rollbackMethods } from './rollback-methods.ts';
import { rolloutMethods } from './rollout-methods.ts';
import type { ServiceDependencies } from './service-dependencies.ts';

/** What the service needs beyond what all do. */
export interface ProgramServiceParts {
  readonly figures: ProgramFiguresCache;
  readonly intake: ArtifactIntake;
  readonly polled: PolledPrograms;
}

/** ProgramService over store, bus and recent figures. */
export function createProgramMethods(
  needs: ServiceDependencies,
  parts: ProgramServiceParts,
): ServiceImpl<typeof ProgramService> {
  const all = { ...needs, ...parts, changes: new ProgramChanges(needs) };
  return {
    ...artifactMethods(all),
    ...programMethods(all),
    ...rollbackMethods(needs),
    ...assignmentMethods(needs),
    ...rolloutMethods(needs),
  };
}
