// What is checked on this host, with the limits of this agent. Which checks there are is said here and nowhere else.
import type { Capability } from '../core/capability.ts';
import type { Clock } from '../core/clock.ts';
import type { Progress } from '../core/progress.ts';
import type { Link } from '../link/link.ts';
import type { AuditLog } from './audit/audit-log.ts';
import type { CapabilityRegistry } from './capability-registry.ts';
import type { AgentConfig } from './config.ts';
import { AgentHealth } from './health/agent-health.ts';
import { capabilityChecks } from './health/capability-checks.ts';
import { dataFolderCheck, eventLoopCheck, tasksCheck, writeCheck } from './health/host-checks.ts';
import { certificateCheck, linkCheck } from './health/link-checks.ts';
import type { LoopPulse } from './health/loop-pulse.ts';
import type { AgentIdentity } from './identity/agent-identity.ts';

/** What health looks at. */
export interface HealthSetup {
  readonly config: Pick<AgentConfig, 'health' | 'spool'>;
  readonly dataFolder: string;
  readonly link: Pick<Link, 'status' | 'progress'>;
  readonly identity: Pick<AgentIdentity, 'certificateLife'>;
  readonly audit: Pick<AuditLog, 'failure'>;
  readonly registry: Pick<CapabilityRegistry, 'availability'>;
  readonly capabilities: readonly Capability[];
  readonly pulse: LoopPulse;
  /** Tasks of the agent beside those of the link. */
  readonly tasks: readonly Progress[];
  /** False before the agent takes work, and once it stops. */
  readonly serving: () => boolean;
  readonly clock: Clock;
}

/** The health of this agent. */
export function makeHealth(setup: HealthSetup): AgentHealth {
  const { config, dataFolder, link, identity, audit, registry, capabilities, pulse, tasks, serving, clock } = setup;
  return new AgentHealth({
    clock,
    unready: () => {
      if (!serving()) return 'the agent is starting or stopping';
      return link.status().connects === 0 ? 'the link was not open yet' : undefined;
    },
    checks: [
      eventLoopCheck(pulse),
      tasksCheck(() => [...link.progress, ...tasks]),
      dataFolderCheck(dataFolder, config.spool.minFreeBytes),
      // Without these two nothing may be done; without the third output is lost, and declared.
      writeCheck('journal', () => link.status().journalFailure, 'failed'),
      writeCheck('audit', () => audit.failure, 'failed'),
      writeCheck('spool', () => link.status().spoolFailure, 'degraded'),
      linkCheck(() => link.status(), config.health.linkAwayMs),
      certificateCheck(
        () => identity.certificateLife,
        () => clock.now(),
      ),
      ...capabilityChecks(capabilities, () => registry.availability),
    ],
  });
}
