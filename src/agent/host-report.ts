// What the link tells the controller about this host.
import { create } from '@bufbuild/protobuf';
import { type AgentUsage, AgentUsageSchema } from '#gen/longline/v1/agent_pb.js';
import type { JobCounts } from '../capabilities/jobs/capability.ts';
import type { SessionsCapability } from '../capabilities/sessions/capability.ts';
import type { HostReport } from '../link/ports.ts';
import type { CapabilityRegistry } from './capability-registry.ts';
import type { AgentConfig } from './config.ts';
import { hostFacts, loadAverage } from './host-facts.ts';
import { sessionCapacity, sessionStatuses } from './sessions-setup.ts';
import { AGENT_VERSION } from './version.ts';

/** What a report looks at. */
export interface ReportParts {
  readonly config: AgentConfig;
  readonly registry: CapabilityRegistry;
  readonly jobs: () => JobCounts;
  readonly sessions: SessionsCapability;
  readonly spoolBytes: () => number;
}

/** Reports on this process and its capabilities, as they are when asked. */
export function hostReport({ config, registry, jobs, sessions, spoolBytes }: ReportParts): HostReport {
  const { region, labels, platform } = config;
  return {
    facts: () => hostFacts({ version: AGENT_VERSION, region, labels, platform }, registry.availability),
    usage: async (): Promise<AgentUsage> => {
      const { running, queued, max } = jobs();
      return create(AgentUsageSchema, {
        runningJobs: running,
        queuedJobs: queued,
        maxJobs: max,
        agentRssBytes: BigInt(process.memoryUsage.rss()),
        load1m: loadAverage(),
        spoolBytes: BigInt(spoolBytes()),
        sessions: sessions.counts().known,
        ...(registry.availability.get('sessions')?.available && { sessionCapacity: sessionCapacity(sessions) }),
      });
    },
    sessions: () => sessionStatuses(sessions),
  };
}
