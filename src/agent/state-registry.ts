// The capabilities of this agent that keep desired states, as the link reaches them: by kind, and whether a kind can be had now.
import type { Capability } from '../core/capability.ts';
import type {
  Reconciler,
  StateChange,
  StateContext,
  StateKind,
  StateObservation,
  StateRef,
} from '../core/desired-state.ts';
import { LonglineError } from '../core/errors.ts';
import type { StateHost } from '../link/ports.ts';
import type { CapabilityRegistry } from './capability-registry.ts';

/** Keepers of states among capabilities, which the registry opens and disposes. */
export class StateRegistry implements StateHost {
  readonly #keepers = new Map<StateKind, Capability & Reconciler>();
  readonly #registry: Pick<CapabilityRegistry, 'availability' | 'refusal'>;

  constructor(capabilities: readonly Capability[], registry: Pick<CapabilityRegistry, 'availability' | 'refusal'>) {
    for (const capability of capabilities) {
      if (isReconciler(capability)) this.#keepers.set(capability.desiredStateKind, capability);
    }
    this.#registry = registry;
  }

  held(): ReadonlyMap<StateKind, StateRef> {
    const held = new Map<StateKind, StateRef>();
    for (const [kind, keeper] of this.#keepers) {
      const ref = keeper.held();
      if (ref !== undefined) held.set(kind, ref);
    }
    return held;
  }

  obstacle(kind: StateKind): LonglineError | undefined {
    const keeper = this.#keepers.get(kind);
    if (keeper === undefined) {
      return new LonglineError('unsupported', `no capability of this agent keeps a desired state of kind ${kind}`);
    }
    if (this.#registry.availability.get(keeper.name)?.available) return undefined;
    return new LonglineError('unsupported', this.#registry.refusal(keeper.name).message);
  }

  async apply(kind: StateKind, change: StateChange, context: StateContext): Promise<void> {
    await this.#keepers.get(kind)!.applyState(change, context);
  }

  observe(observer: (kind: StateKind, observation: StateObservation) => void): void {
    for (const [kind, keeper] of this.#keepers) keeper.observeState((observation) => observer(kind, observation));
  }
}

function isReconciler(capability: Capability): capability is Capability & Reconciler {
  return 'desiredStateKind' in capability;
}
