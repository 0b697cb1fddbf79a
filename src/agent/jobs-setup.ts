// The jobs capability as the agent's configuration wants it.
import { JobsCapability } from '../capabilities/jobs/capability.ts';
import { type JobsConfig, parseJobsConfig } from '../capabilities/jobs/config.ts';
import type { HostPaths, OutputLogs } from '../capabilities/jobs/ports.ts';
import type { ImageLedger } from '../core/images/image-puller.ts';
import type { Tracer } from '../core/tracer.ts';
import { DockerEngine } from '../platform/docker/docker-engine.ts';
import { parseEngineAddress } from '../platform/docker/engine-address.ts';
import type { AgentConfig } from './config.ts';
import { RegistryCredentialFile } from './registry-credentials.ts';

/** The bounds of jobs on this host. Throws `invalid` with every setting that is out of range. */
export function jobsConfigOf({ jobs: { credentialsFile: _, ...settings } }: AgentConfig): JobsConfig {
  return parseJobsConfig(settings);
}

/** What jobs use of the agent around them. */
export interface JobsSurroundings {
  readonly logs: OutputLogs;
  readonly paths: HostPaths;
  readonly images: ImageLedger;
  readonly tracer: Tracer;
}

/** The capability on the configured engine. The engine is the stack's to dispose, after the capability. */
export function openJobs(
  config: AgentConfig,
  jobs: JobsConfig,
  instanceId: string,
  { logs, paths, images, tracer }: JobsSurroundings,
  stack: AsyncDisposableStack,
): JobsCapability {
  const engine = stack.use(new DockerEngine(parseEngineAddress(config.dockerHost)));
  const credentials = new RegistryCredentialFile(config.jobs.credentialsFile);
  return new JobsCapability({ engine, logs, credentials, paths, images, instanceId, config: jobs, tracer });
}
