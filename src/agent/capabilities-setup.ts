// The capabilities of this agent, each with the drivers of this host. Which there are is said here and nowhere else.
import type { JobsCapability } from '../capabilities/jobs/capability.ts';
import type { NetworkCapability } from '../capabilities/network/capability.ts';
import type { SessionsCapability } from '../capabilities/sessions/capability.ts';
import type { SessionMeter } from '../capabilities/sessions/ports.ts';
import type { Capability } from '../core/capability.ts';
import type { Link } from '../link/link.ts';
import type { LinkTarget } from '../link/ports.ts';
import type { Foundation } from './foundation.ts';
import { openJobs } from './jobs-setup.ts';
import { networkReports, openNetworks } from './network-setup.ts';
import { openPrograms, type Programs } from './programs-setup.ts';
import { openSessions } from './sessions-setup.ts';

/** All of them. The registry disposes them; what they run on is the stack's. */
export interface Capabilities {
  readonly jobs: JobsCapability;
  readonly sessions: SessionsCapability;
  readonly networks: NetworkCapability;
  readonly programs: Programs;
  readonly all: readonly Capability[];
}

/** What they know of the agent around them. */
export interface CapabilitySurroundings {
  /** The link, once there is one, which is before any capability is opened. */
  readonly link: () => Link | undefined;
  /** What the link dials with. */
  readonly controller: () => Promise<LinkTarget>;
  /** Hears what becomes of sessions. */
  readonly meter: SessionMeter;
}

/** Makes them; none is opened yet. */
export async function makeCapabilities(
  base: Foundation,
  { link, controller, meter }: CapabilitySurroundings,
  stack: AsyncDisposableStack,
): Promise<Capabilities> {
  const { config, folder, paths, tracer } = base;
  const logs = { open: (executionId: string) => link()!.logs.open(executionId) };
  const sessions = openSessions(config, folder.instanceId, { link, meter, tracer }, stack);
  const { images } = sessions;
  const jobs = openJobs(config, base.jobs, folder.instanceId, { logs, paths, images, tracer }, stack);
  const { dnsmasqPidFile: pidFile, dnsmasqServersFile: serversFile, ...network } = config.network;
  const reports = networkReports(link);
  const networks = openNetworks({ ...base, config: network, reports, dnsmasq: { pidFile, serversFile } });
  const programs = await openPrograms({ ...base, link, controller }, stack);
  return { jobs, sessions, networks, programs, all: [jobs, sessions, networks, programs.capability] };
}
