// Selectors, labels and pages as the API gives them. Pure.
import type { Selector } from '#gen/longline/v1/agent_pb.js';
import { type FieldViolation, invalid } from '../../core/errors.ts';
import type { AgentRecord, AgentSelector } from '../store/agent.ts';
import type { PageQuery } from '../store/page.ts';

const LABEL_KEY = /^[A-Za-z0-9._/-]{1,63}$/;
const MAX_LABEL_VALUE = 255;
const MAX_LABELS = 64;
const MAX_SELECTED_IDS = 10_000;
const DEFAULT_PAGE = 100;
const MAX_PAGE = 1000;

function keyViolations(keys: readonly string[], field: string): FieldViolation[] {
  return keys
    .filter((key) => !LABEL_KEY.test(key))
    .map((key) => ({
      field: `${field}[${JSON.stringify(key.slice(0, 70))}]`,
      description: 'its key must be 1 to 63 characters of [A-Za-z0-9._/-]',
    }));
}

/** What is wrong with labels to be set. */
export function labelViolations(labels: Readonly<Record<string, string>>, field: string): FieldViolation[] {
  const keys = Object.keys(labels);
  const violations = keyViolations(keys, field);
  if (keys.length > MAX_LABELS)
    violations.push({ field, description: `are ${keys.length}; at most ${MAX_LABELS} are allowed` });
  for (const [key, value] of Object.entries(labels)) {
    if (value.length <= MAX_LABEL_VALUE) continue;
    const description = `its value has ${value.length} characters; at most ${MAX_LABEL_VALUE} are allowed`;
    violations.push({ field: `${field}[${JSON.stringify(key.slice(0, 70))}]`, description });
  }
  return violations.slice(0, 50);
}

/** What is wrong with keys that are to be removed. */
export function removedKeyViolations(keys: readonly string[], field: string): FieldViolation[] {
  return keyViolations(keys, field).slice(0, 50);
}

/** What is wrong with a selector. */
export function selectorViolations(selector: Selector, field: string): FieldViolation[] {
  const violations = labelViolations(selector.matchLabels, `${field}.match_labels`);
  violations.push(...keyViolations(selector.hasLabels.slice(0, 50), `${field}.has_labels`));
  for (const [name, list, most] of [
    ['has_labels', selector.hasLabels, MAX_LABELS],
    ['agent_ids', selector.agentIds, MAX_SELECTED_IDS],
  ] as const) {
    if (list.length <= most) continue;
    violations.push({
      field: `${field}.${name}`,
      description: `has ${list.length} entries; at most ${most} are allowed`,
    });
  }
  return violations;
}

/** A selector for the store; absent picks all. */
export function selectorOf(selector: Selector | undefined): AgentSelector {
  return {
    matchLabels: selector?.matchLabels ?? {},
    hasLabels: selector?.hasLabels ?? [],
    agentIds: selector?.agentIds ?? [],
  };
}

/** Checks a selector of a request and converts it. */
export function checkedSelector(selector: Selector | undefined): AgentSelector {
  const violations = selector === undefined ? [] : selectorViolations(selector, 'selector');
  if (violations.length > 0) throw invalid(violations);
  return selectorOf(selector);
}

/** True if the selector picks the agent. */
export function picks(selector: AgentSelector, agent: Pick<AgentRecord, 'id' | 'labels'>): boolean {
  if (selector.agentIds.length > 0 && !selector.agentIds.includes(agent.id)) return false;
  if (!selector.hasLabels.every((key) => Object.hasOwn(agent.labels, key))) return false;
  return Object.entries(selector.matchLabels).every(([key, value]) => agent.labels[key] === value);
}

/** Page of a request: 0 takes 100, more than 1000 is taken as 1000. */
export function pageQuery(request: { readonly pageSize: number; readonly pageToken: string }): PageQuery {
  if (request.pageSize < 0)
    throw invalid([{ field: 'page_size', description: `is ${request.pageSize}; must be 0 to ${MAX_PAGE}` }]);
  return { pageSize: Math.min(request.pageSize || DEFAULT_PAGE, MAX_PAGE), pageToken: request.pageToken };
}
