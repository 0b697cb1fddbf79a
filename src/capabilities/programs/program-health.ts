// How the programs of a host are, in a few words. Pure.
import type { CapabilityHealth } from '../../core/capability.ts';
import type { ProgramView } from './status.ts';

const MEND = 'see longline program status; quarantined artifacts are released with longline program release';

/** @param trouble what is wrong with the registry; undefined if nothing is. */
export function programsHealth(views: readonly ProgramView[], trouble: string | undefined): CapabilityHealth {
  const parts = [...views.map(textOf), ...(trouble === undefined ? [] : [`registry: ${trouble}`])];
  return {
    ok: views.every(isWell) && trouble === undefined,
    works: views.every(({ life }) => life.kind !== 'failed'),
    detail: parts.join(', ') || 'no programs',
    mend: MEND,
  };
}

function isWell({ life, problems, quarantined }: ProgramView): boolean {
  return life.kind !== 'failed' && problems.length === 0 && !quarantined;
}

function textOf({ name, life, problems, quarantined }: ProgramView): string {
  const why = problems.slice(0, 1).map(({ field, error }) => `${field}: ${error.message}`);
  if (quarantined) why.push('its artifact is quarantined');
  return why.length === 0 ? `${name} ${life.kind}` : `${name} ${life.kind} (${why.join('; ')})`;
}
