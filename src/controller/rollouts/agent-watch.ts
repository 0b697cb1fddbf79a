// Which assignments a change of an agent may have to do with. Fleets tell much of their agents that is nothing to assignments, as
// each beat's load is: of an agent only whether it is there, its labels and what it says of programs matter. It remembers that
// for as long as the agent is there; what is forgotten is only looked at once more.
import { type AgentSelector, unmetCondition } from '../../core/agent-selector.ts';
import type { Store } from '../store/store.ts';

/** Notes of agents and of whom assignments pick. */
export class AgentWatch {
  readonly #store: Pick<Store, 'agents' | 'assignments'>;
  readonly #selectors = new Map<string, readonly AgentSelector[]>();
  /** As each agent was last seen. */
  readonly #seen = new Map<string, string>();

  constructor(store: Pick<Store, 'agents' | 'assignments'>) {
    this.#store = store;
  }

  /** Whom an assignment picks. */
  know(name: string, selectors: readonly AgentSelector[]): void {
    this.#selectors.set(name, selectors);
  }

  /** An assignment is gone. */
  forget(name: string): void {
    this.#selectors.delete(name);
  }

  /** An agent said something of its programs: it is looked at again, whether it is as before or not. */
  said(agentId: string): void {
    this.#seen.delete(agentId);
  }

  /** Assignments that have to do with an agent, if it is another one than it was when it was last asked for. */
  async concerned(agentId: string): Promise<readonly string[]> {
    const agent = await this.#store.agents.get(agentId);
    if (agent === undefined) {
      this.#seen.delete(agentId);
      // What it was part of isn't known any more.
      return [...this.#selectors.keys()];
    }
    const { connectionId, labels, revoked } = agent;
    const now = JSON.stringify([connectionId !== '', revoked, Object.entries(labels).sort()]);
    if (this.#seen.get(agentId) === now) return [];
    this.#seen.set(agentId, now);
    const names = new Set((await this.#store.assignments.ofAgent(agentId)).map(({ assignment }) => assignment));
    for (const [name, selectors] of this.#selectors) {
      if (selectors.some((selector) => unmetCondition(selector, { agentId, labels }) === undefined)) names.add(name);
    }
    return [...names];
  }
}
