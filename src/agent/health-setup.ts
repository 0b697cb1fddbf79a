// What is checked on this host, with the limits of this agent. Which checks there are is said here and nowhere else.
import type { Capability } from '../core/capability.ts';
import type { Progress } from '../core/progress.ts';
import type { Link } from '../link/link.ts';
import type { AuditLog } from './audit/audit-log.ts';
import type { CapabilityRegistry } from './capability-registry.ts';
import type { Foundation } from './foundation.ts';
import { AgentHealth } from './health/agent-health.ts';
import { capabilityChecks } from './health/capability-checks.ts';
import { electionCheck } from './health/election-check.ts';
import { dataFolderCheck, eventLoopCheck, tasksCheck, writeCheck } from './health/host-checks.ts';
import { certificateCheck, linkCheck } from './health/link-checks.ts';
import type { AgentIdentity } from './identity/agent-identity.ts';

/** What health looks at. */
export interface HealthSetup extends Pick<Foundation, 'config' | 'folder' | 'clock' | 'leadership' | 'pulse'> {
  readonly link: Pick<Link, 'status'>;
  readonly identity: Pick<AgentIdentity, 'certificateLife'>;
  readonly audit: Pick<AuditLog, 'failure'>;
  readonly registry: Pick<CapabilityRegistry, 'availability'>;
  readonly capabilities: readonly Capability[];
  readonly tasks: () => readonly Progress[];
  /** False before the agent takes work, and once it stops. */
  readonly serving: () => boolean;
}

/** The health of this agent. */
export function makeHealth(setup: HealthSetup): AgentHealth {
  const { config, folder, link, identity, audit, registry, capabilities, tasks, serving, clock } = setup;
  const { leadership, pulse } = setup;
  return new AgentHealth({
    clock,
    unready: () => {
      if (!serving()) return 'the agent is starting or stopping';
      return link.status().connects === 0 ? 'the link was not open yet' : undefined;
    },
    checks: [
      eventLoopCheck(pulse),
      tasksCheck(tasks),
      dataFolderCheck(folder.path, config.spool.minFreeBytes),
      // Without these two nothing may be done; without the third output is lost, and declared.
      writeCheck('journal', () => link.status().journalFailure, 'failed'),
      writeCheck('audit', () => audit.failure, 'failed'),
      writeCheck('spool', () => link.status().spoolFailure, 'degraded'),
      linkCheck(() => link.status(), config.health.linkAwayMs),
      certificateCheck(
        () => identity.certificateLife,
        () => clock.now(),
      ),
      ...(leadership.view === undefined ? [] : [electionCheck(leadership.view, config.ha.ttlMs)]),
      ...capabilityChecks(capabilities, () => registry.availability),
    ],
  });
}
