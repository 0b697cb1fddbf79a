// What agents have by name, as it is now, then each change of it or of what agents say, until the caller leaves. What changes faster
// than its reader reads is told as it is in the end.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Topic } from '../bus/bus.ts';
import { desiredStatesTopic } from '../bus/topics.ts';
import type { ServiceDependencies } from './service-dependencies.ts';
import { nextWithin } from './waiting.ts';

const PENDING_CHANGES = 4096;

/** Agents that are read before others have their turn. */
const AGENTS_IN_A_ROW = 32;

/** One of an agent's items, as it is shown. */
export interface ShownItem<V> {
  readonly name: string;
  readonly view: V;
  /** Differs from what was told before if there is something to tell. */
  readonly told: string;
}

/** Which items are watched. */
export interface WatchedItems<V> {
  /** Number of longline.link.v1.DesiredStateKind. */
  readonly stateKind: number;
  readonly topic: Topic<{ readonly agentId: string; readonly name: string }>;
  /** False for an agent none of whose items are watched, whatever it has. */
  concerns(agentId: string): boolean;
  /** Agents that have items to tell of now. */
  agents(): AsyncIterable<string>;
  /** Items of an agent that are watched. */
  ofAgent(agentId: string): Promise<readonly ShownItem<V>[]>;
}

/** Something to tell. */
export type ItemEvent<V> =
  | { readonly kind: 'there'; readonly view: V }
  | { readonly kind: 'gone'; readonly agentId: string; readonly name: string };

/** Watches for one caller. */
export class ItemWatch<V> {
  readonly #needs: Pick<ServiceDependencies, 'bus' | 'clock' | 'options'>;
  readonly #items: WatchedItems<V>;
  /** What was told, by agent and name: what is told already is not told again. */
  readonly #known = new Map<string, Map<string, string>>();

  constructor(needs: Pick<ServiceDependencies, 'bus' | 'clock' | 'options'>, items: WatchedItems<V>) {
    this.#needs = needs;
    this.#items = items;
  }

  async *changes(signal: AbortSignal): AsyncGenerator<ItemEvent<V>, void, undefined> {
    const { bus, clock, options } = this.#needs;
    using changed = await bus.subscribe(this.#items.topic, PENDING_CHANGES);
    // Noted by agent, since one change of what is wanted, or one report, is of all it has.
    const said = new Set<string>();
    let lost = false;
    let over = new AbortController();
    using _reports = await bus.listen(desiredStatesTopic, (event) => {
      if (event.kind === 'lagged' || said.size >= PENDING_CHANGES) lost = true;
      else if (event.message.stateKind === this.#items.stateKind) said.add(event.message.agentId);
      over.abort();
    });
    yield* this.#listing();
    while (!signal.aborted) {
      over = new AbortController();
      if (lost || said.size > 0) over.abort();
      const event = await nextWithin(changed, clock, options.recheckMs, signal, over.signal);
      if (signal.aborted) return;
      if (event?.kind === 'message') said.add(event.message.agentId);
      const all = lost || event?.kind === 'lagged' || said.size === 0;
      const agents = [...said];
      said.clear();
      lost = false;
      if (all) yield* this.#listing();
      else for (const agentId of agents) yield* this.#agent(agentId);
    }
  }

  async *#listing(): AsyncGenerator<ItemEvent<V>, void, undefined> {
    const agents = new Set(this.#known.keys());
    for await (const agentId of this.#items.agents()) agents.add(agentId);
    let looked = 0;
    for (const agentId of agents) {
      yield* this.#agent(agentId);
      // Reading takes the process: with thousands of agents nobody else would have a turn for as long as it takes.
      if (++looked % AGENTS_IN_A_ROW === 0) await nextTurn();
    }
  }

  async *#agent(agentId: string): AsyncGenerator<ItemEvent<V>, void, undefined> {
    if (!this.#items.concerns(agentId)) return;
    const before = this.#known.get(agentId) ?? new Map<string, string>();
    const now = new Map<string, string>();
    for (const { name, view, told } of await this.#items.ofAgent(agentId)) {
      now.set(name, told);
      if (before.get(name) !== told) yield { kind: 'there', view };
    }
    if (now.size > 0) this.#known.set(agentId, now);
    else this.#known.delete(agentId);
    for (const name of before.keys()) if (!now.has(name)) yield { kind: 'gone', agentId, name };
  }
}
