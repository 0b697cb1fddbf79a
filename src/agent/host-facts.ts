// What the agent tells about its host. Cheap enough to be asked for with every heartbeat.

import { arch, cpus, hostname, loadavg, platform, release, totalmem } from 'node:os';
import { create } from '@bufbuild/protobuf';
import {
  type AgentFacts,
  AgentFactsSchema,
  type CapabilityStatus,
  CapabilityStatusSchema,
} from '#gen/longline/v1/agent_pb.js';
import type { Availability } from '../core/capability.ts';

/** What doesn't change while the process runs. */
export interface StaticFacts {
  readonly version: string;
  readonly region: string;
  readonly labels: Readonly<Record<string, string>>;
  /** "linux/amd64"; overrides what the host says. */
  readonly platform: string | undefined;
}

/** The facts as they go over the wire, capabilities ordered by name. */
export function hostFacts(facts: StaticFacts, capabilities: ReadonlyMap<string, Availability>): AgentFacts {
  return create(AgentFactsSchema, {
    version: facts.version,
    platform: facts.platform ?? `${platform()}/${arch() === 'x64' ? 'amd64' : arch()}`,
    region: facts.region,
    hostname: hostname(),
    labels: { ...facts.labels },
    capabilities: [...capabilities].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, it]) => status(name, it)),
    cpuCount: cpus().length,
    memoryBytes: BigInt(totalmem()),
    kernel: release(),
  });
}

function status(name: string, availability: Availability): CapabilityStatus {
  return availability.available
    ? create(CapabilityStatusSchema, {
        name,
        available: true,
        limits: { ...availability.limits },
        attributes: { ...availability.attributes },
      })
    : create(CapabilityStatusSchema, {
        name,
        available: false,
        reason: availability.reason,
        mend: availability.mend,
      });
}

/** One-minute load average. */
export function loadAverage(): number {
  return loadavg()[0] ?? 0;
}
