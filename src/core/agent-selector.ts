// Picks agents by label and id, as longline.v1.Selector documents it.

/** Conditions that must all hold. An empty selector picks every agent. */
export interface AgentSelector {
  /** Labels that must be present with exactly this value. */
  readonly matchLabels: Readonly<Record<string, string>>;
  /** Label keys that must be present, whatever the value. */
  readonly hasLabels: readonly string[];
  /** Agents named outright; empty puts no condition. */
  readonly agentIds: readonly string[];
}

/** The agent that a selector is held against. */
export interface AgentNameplate {
  readonly agentId: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The first condition of the selector that the agent doesn't meet, in words; undefined if it is picked. */
export function unmetCondition(selector: AgentSelector, agent: AgentNameplate): string | undefined {
  if (selector.agentIds.length > 0 && !selector.agentIds.includes(agent.agentId)) {
    return `it names the agents ${selector.agentIds.slice(0, 5).join(', ')}, and this is ${agent.agentId}`;
  }
  for (const [key, value] of Object.entries(selector.matchLabels)) {
    const own = Object.hasOwn(agent.labels, key) ? agent.labels[key] : undefined;
    if (own === undefined) return `it wants label ${key}=${value}, and this agent has no label ${key}`;
    if (own !== value) return `it wants label ${key}=${value}, and this agent has ${key}=${own}`;
  }
  for (const key of selector.hasLabels) {
    if (!Object.hasOwn(agent.labels, key)) return `it wants a label ${key}, and this agent has none`;
  }
  return undefined;
}
