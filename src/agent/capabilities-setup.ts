// The capabilities of this agent, each with the drivers of this host. Which there are is said here and nowhere else.
import type { JobsCapability } from '../capabilities/jobs/capability.ts';
import type { NetworkCapability } from '../capabilities/network/capability.ts';
import type { SessionsCapability } from '../capabilities/sessions/capability.ts';
import type { Capability } from '../core/capability.ts';
import type { Link } from '../link/link.ts';
import type { Foundation } from './foundation.ts';
import { openJobs } from './jobs-setup.ts';
import { networkReports, openNetworks } from './network-setup.ts';
import { openSessions } from './sessions-setup.ts';

/** All of them. The registry disposes them; what they run on is the stack's. */
export interface Capabilities {
  readonly jobs: JobsCapability;
  readonly sessions: SessionsCapability;
  readonly networks: NetworkCapability;
  readonly all: readonly Capability[];
}

/** Makes them; none is opened yet. `link` gives the link once there is one, which is before any is. */
export function makeCapabilities(
  base: Foundation,
  link: () => Link | undefined,
  stack: AsyncDisposableStack,
): Capabilities {
  const { config, folder, paths } = base;
  const logs = { open: (executionId: string) => link()!.logs.open(executionId) };
  const sessions = openSessions(config, folder.instanceId, link, stack);
  const { images } = sessions;
  const jobs = openJobs(config, base.jobs, folder.instanceId, { logs, paths, images }, stack);
  const { dnsmasqPidFile: pidFile, dnsmasqServersFile: serversFile, ...network } = config.network;
  const reports = networkReports(link);
  const networks = openNetworks({ ...base, config: network, reports, dnsmasq: { pidFile, serversFile } });
  return { jobs, sessions, networks, all: [jobs, sessions, networks] };
}
