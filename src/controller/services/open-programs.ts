// Programs of a controller put together: ProgramService's methods, the registry, and what goes on by itself.
import type { ServiceImpl } from '@connectrpc/connect';
import type { ProgramService } from '#gen/longline/fleet/v1/program_service_pb.js';
import { Progress } from '../../core/progress.ts';
import type { RequestHandler } from '../front/http-handlers.ts';
import { ArtifactIntake } from '../programs/artifact-intake.ts';
import type { PolledPrograms } from '../programs/polled-programs.ts';
import { runProgramUpkeep } from '../programs/program-upkeep.ts';
import { REGISTRY_PATH, registryHandler } from '../registry/registry.ts';
import type { RegistryIdentities } from '../registry/registry-access.ts';
import type { ProgramFiguresCache } from './program-figures.ts';
import { createProgramMethods } from './program-service.ts';
import type { ServiceDependencies } from './service-dependencies.ts';

/** What it is made from. */
export interface ProgramsParts extends ServiceDependencies, RegistryIdentities {
  readonly figures: ProgramFiguresCache;
  readonly polled: PolledPrograms;
}

/** The ways in, and the upkeep. */
export interface Programs {
  readonly methods: ServiceImpl<typeof ProgramService>;
  /** Answers agents that speak HTTP/1.1. */
  readonly registry: RequestHandler;
  /** Answers the registry's paths, and leaves the others to `rest`. */
  before(rest: RequestHandler): RequestHandler;
  /** Whether the upkeep gets on. */
  readonly progress: Progress;
  /** Goes on until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

/** Puts them together. */
export function openPrograms(parts: ProgramsParts): Programs {
  const intake = new ArtifactIntake(parts);
  const registry = registryHandler({ ...parts, intake });
  const progress = new Progress('programs', parts.clock);
  return {
    methods: createProgramMethods(parts, { ...parts, intake }),
    registry,
    before: (rest) => (request, response) => {
      const isOurs = (request.url ?? '').startsWith(REGISTRY_PATH);
      (isOurs ? registry : rest)(request, response);
    },
    progress,
    run: async (signal) => await runProgramUpkeep({ ...parts, progress, recheckMs: parts.options.recheckMs }, signal),
  };
}
