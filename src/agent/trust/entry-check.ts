// Whether a trusted key may do what is asked in its name, on this agent, now.
import { type AgentNameplate, unmetCondition } from '../../core/agent-selector.ts';
import type { LonglineError } from '../../core/errors.ts';
import { nameMatches } from '../../core/glob.ts';
import { iso, refuse, shown } from './refusal.ts';
import type { TrustEntry } from './trust-file.ts';

/** What a key is wanted for. */
export interface KeyUse {
  readonly controllerId: string;
  readonly capability: string;
  readonly requiredScopes: readonly string[];
}

/** The first reason against it: `identity` where the key isn't trusted at all here, `policy` where it lacks a right. */
export function entryRefusal(
  entry: TrustEntry,
  use: KeyUse,
  agent: AgentNameplate,
  nowMs: number,
): LonglineError | undefined {
  const key = `key ${entry.keyId}`;
  const rule = (check: string) => `trust.${entry.keyId}.${check}`;
  if (entry.notAfterMs !== undefined && nowMs >= entry.notAfterMs) {
    const until = `${key} was trusted until ${iso(entry.notAfterMs)}`;
    return refuse('identity', rule('not_after'), `${until}; it is ${iso(nowMs)}`);
  }
  if (!entry.controllers.some((pattern) => nameMatches(pattern, use.controllerId))) {
    const may = entry.controllers.join(', ') || 'none';
    const who = `${key} may not speak for controller ${shown(use.controllerId)}`;
    return refuse('identity', rule('controllers'), `${who}; it may for: ${may}`);
  }
  const unmet = entry.selectors.map((selector) => unmetCondition(selector, agent));
  if (unmet.length > 0 && unmet.every((condition) => condition !== undefined)) {
    return refuse('identity', rule('selectors'), `${key} is not trusted on this agent: ${unmet[0]}`);
  }
  if (!entry.capabilities.includes(use.capability)) {
    const may = entry.capabilities.join(', ') || 'none';
    return refuse('policy', rule('capabilities'), `${key} may not use ${use.capability}; it may use: ${may}`);
  }
  const missing = use.requiredScopes.filter((scope) => !entry.scopes.includes(scope));
  if (missing.length === 0) return undefined;
  const list = missing.slice(0, 10).map(shown).join(', ');
  return refuse('policy', rule('scopes'), `${key} lacks the scopes ${list} that the job requires`);
}
