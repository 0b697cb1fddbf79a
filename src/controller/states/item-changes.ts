// Changes of what one agent has by name, networks or programs: what is wanted of it, and what is noted of each, as one step. Whoever
// changes them says what is to be there; that somebody else changed another item of the same agent meanwhile is settled here.
// Fails as `not_found` for an unknown agent, as `limit` for more than an agent can be sent, and with whatever the change throws.
import type { Clock } from '../../core/clock.ts';
import { LonglineError } from '../../core/errors.ts';
import { ATTRIBUTE, SPAN } from '../../core/span-names.ts';
import { noTracer, type Tracer, traced } from '../../core/tracer.ts';
import type { Bus, Topic } from '../bus/bus.ts';
import type { DesiredStateRepository, DesiredStateUpdate, PutStateOutcome } from '../store/desired-state.ts';
import { announceState, MAX_ATTEMPTS, nextGeneration, tooManyChanges } from './state-update.ts';

/** What is noted of an item, as far as it matters here. */
export interface ItemRecord {
  readonly name: string;
  readonly specHash: Uint8Array;
  readonly removing: boolean;
}

/** What is to become of one item: it is to be so, or is not wanted any more. */
export type ItemEdit<P extends { readonly kind: 'put' }> = P | { readonly kind: 'remove'; readonly name: string };

/** A next full state, and the delta that leads back. */
export interface NextBody {
  readonly body: Uint8Array;
  /** Undefined where nothing was wanted before. */
  readonly undo: Uint8Array | undefined;
}

/** What there is to know of a kind of item. `R` is its record, `P` its edit of kind "put". */
export interface ItemKind<R extends ItemRecord, P extends { readonly kind: 'put'; readonly hash: Uint8Array }> {
  /** Number of longline.link.v1.DesiredStateKind. */
  readonly stateKind: number;
  /** Told of each item that changed. */
  readonly topic: Topic<{ readonly agentId: string; readonly name: string }>;
  /** Whose an item is, beyond its spec: an edit that changes nothing but this is one. */
  ownerOf(of: R | P): string;
  nameOf(edit: P): string;
  ofAgent(agentId: string): Promise<readonly R[]>;
  /** The full state that edits make of a stored body. */
  next(stored: Uint8Array | undefined, edits: readonly ItemEdit<P>[]): NextBody;
  /** Stores state and notes in one transaction. Throws what only this kind can fail of. */
  commit(state: DesiredStateUpdate, edits: readonly ItemEdit<P>[], before: readonly R[]): Promise<PutStateOutcome>;
}

/** What it is made from. */
export interface ItemChangesParts {
  readonly desiredStates: Pick<DesiredStateRepository, 'heads' | 'get'>;
  readonly bus: Bus;
  readonly clock: Clock;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
}

/** The way to change items of a kind. Stateless: every replica may have one. */
export class ItemChanges<R extends ItemRecord, P extends { readonly kind: 'put'; readonly hash: Uint8Array }> {
  readonly #parts: ItemChangesParts;
  readonly #kind: ItemKind<R, P>;

  constructor(parts: ItemChangesParts, kind: ItemKind<R, P>) {
    this.#parts = parts;
    this.#kind = kind;
  }

  /**
   * Makes edits take effect; true if anything changed. `decide` gets what the agent has, those included that are being removed,
   * and is called anew when somebody else was quicker.
   */
  async apply(agentId: string, decide: (items: readonly R[]) => readonly ItemEdit<P>[]): Promise<boolean> {
    const { desiredStates, clock, tracer = noTracer } = this.#parts;
    const { stateKind: kind } = this.#kind;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      // First, so that what is read after it is at least as new: else the generation that is expected is another one by then.
      const head = (await desiredStates.heads(agentId)).find((one) => one.kind === kind);
      const before = await this.#kind.ofAgent(agentId);
      const edits = decide(before).filter((edit) => this.#changes(edit, before));
      if (edits.length === 0) return false;
      const stored = await desiredStates.get(agentId, kind);
      const next = this.#kind.next(stored?.body, edits);
      const expected = head?.generation ?? 0n;
      const traceparent = tracer.current();
      const state = nextGeneration({ agentId, kind, expected, ...next, nowMs: clock.now(), traceparent });
      const attributes = { [ATTRIBUTE.agentId]: agentId, [ATTRIBUTE.generation]: Number(expected) + 1 };
      const outcome = await traced(tracer, SPAN.store, { attributes }, () => this.#kind.commit(state, edits, before));
      if (outcome.kind === 'missing') throw new LonglineError('not_found', `no agent has id ${agentId}`);
      if (outcome.kind === 'moved') continue;
      this.#publish(agentId, edits);
      return true;
    }
    throw tooManyChanges(agentId);
  }

  #changes(edit: ItemEdit<P>, before: readonly R[]): boolean {
    const record = before.find(({ name }) => name === this.#nameOf(edit));
    if (edit.kind === 'remove') return record !== undefined && !record.removing;
    if (record === undefined || record.removing) return true;
    if (this.#kind.ownerOf(record) !== this.#kind.ownerOf(edit)) return true;
    return Buffer.compare(record.specHash, edit.hash) !== 0;
  }

  #nameOf(edit: ItemEdit<P>): string {
    return edit.kind === 'remove' ? edit.name : this.#kind.nameOf(edit);
  }

  #publish(agentId: string, edits: readonly ItemEdit<P>[]): void {
    const { bus } = this.#parts;
    announceState(bus, agentId, this.#kind.stateKind);
    for (const edit of edits) bus.publish(this.#kind.topic, { agentId, name: this.#nameOf(edit) });
  }
}
