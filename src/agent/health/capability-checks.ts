// Checks of the capabilities. One that this host never had is degraded, for the host may not be meant for it; one that is there and
// doesn't work has failed.
import type { Availability, Capability, HealthChecked } from '../../core/capability.ts';
import { type Check, type Finding, fine } from './check.ts';

/** One check for each, under its name. */
export function capabilityChecks(
  capabilities: readonly Capability[],
  availability: () => ReadonlyMap<string, Availability>,
): readonly Check[] {
  return capabilities.map((capability) => ({
    name: capability.name,
    look: () => look(capability, availability().get(capability.name)),
  }));
}

async function look(capability: Capability, availability: Availability | undefined): Promise<Finding> {
  if (availability === undefined)
    return { state: 'degraded', reason: 'not opened yet', mend: 'wait for the agent to start' };
  if (!availability.available) {
    const { reason, mend } = availability;
    return { state: 'degraded', reason: `unavailable: ${reason}`, mend };
  }
  if (!isHealthChecked(capability)) return fine('available');
  const { ok, detail, works = false, mend = 'see the log of the agent' } = await capability.health();
  return ok ? fine(detail) : { state: works ? 'degraded' : 'failed', reason: detail, mend };
}

function isHealthChecked(capability: Capability): capability is Capability & HealthChecked {
  return 'health' in capability;
}
