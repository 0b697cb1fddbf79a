// The capabilities of this agent. Routes commands, opens and re-opens what is unavailable, and tells what there is.
// A capability that can't be used is announced with its reason and mend; the agent runs on without it.
import type {
  Anticipating,
  Availability,
  Capability,
  CapabilityCommand,
  CapabilityEvent,
  CapabilityHost,
  CommandContext,
  InputConsumer,
  Recoverable,
} from '../core/capability.ts';
import { describeError, LonglineError, toLonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { CommandExecutor } from '../link/ports.ts';

/** Makes the host handed to a capability. */
export type HostFactory = (capability: string) => CapabilityHost;

/** Capabilities by name, with what they last said of themselves. */
export class CapabilityRegistry implements CommandExecutor, AsyncDisposable {
  readonly #capabilities: ReadonlyMap<string, Capability>;
  readonly #availability = new Map<string, Availability>();
  readonly #adopted = new Set<string>();
  readonly #hostFor: HostFactory;
  readonly #log: Logger;

  constructor(capabilities: readonly Capability[], hostFor: HostFactory, log: Logger) {
    this.#capabilities = new Map(capabilities.map((capability) => [capability.name, capability]));
    this.#hostFor = hostFor;
    this.#log = log;
  }

  /** What each capability last said, by name. */
  get availability(): ReadonlyMap<string, Availability> {
    return this.#availability;
  }

  /**
   * Opens every capability that isn't available and lets each clean up after an earlier process once.
   * True if the availability of any of them changed.
   */
  async open(unfinishedIds: () => ReadonlySet<string>): Promise<boolean> {
    let changed = false;
    for (const [name, capability] of this.#capabilities) {
      const before = this.#availability.get(name);
      if (before?.available === true) continue;
      const now = await this.#openOne(capability, unfinishedIds());
      this.#availability.set(name, now);
      if (before?.available === now.available) continue;
      changed = true;
      if (now.available) this.#log.info('capability available', { capability: name });
      else this.#log.warn('capability unavailable', { capability: name, reason: now.reason, mend: now.mend });
    }
    return changed;
  }

  async *execute(
    name: string,
    command: CapabilityCommand,
    context: CommandContext,
  ): AsyncGenerator<CapabilityEvent, void, undefined> {
    const capability = this.#capabilities.get(name);
    const availability = this.#availability.get(name);
    if (capability === undefined || (availability?.available !== true && !context.resumed)) {
      yield { kind: 'result', outcome: 'failed', detail: new Uint8Array(), error: this.refusal(name) };
      return;
    }
    const obstacle = isAnticipating(capability) ? undefined : await failureOf(context.durable);
    if (obstacle === undefined) yield* capability.handle(command, context);
    else {
      const outcome = context.resumed ? 'indeterminate' : 'failed';
      yield { kind: 'result', outcome, detail: new Uint8Array(), error: obstacle };
    }
  }

  /** Why commands for a capability aren't taken; `unsupported` if there is none, `unavailable` if it can't be used. */
  refusal(name: string): LonglineError {
    const availability = this.#availability.get(name);
    if (availability === undefined || availability.available) {
      const known = [...this.#capabilities.keys()].join(', ');
      return new LonglineError('unsupported', `this agent has no capability ${name}; it has: ${known}`);
    }
    return new LonglineError(
      'unavailable',
      `capability ${name} is unavailable: ${availability.reason}; ${availability.mend}`,
    );
  }

  async writeInput(commandId: string, offset: number, data: Uint8Array, end: boolean) {
    for (const capability of this.#capabilities.values()) {
      if (!isInputConsumer(capability)) continue;
      const answer = await capability.writeInput(commandId, offset, data, end);
      if (!answer.closed) return answer;
    }
    return { taken: offset, closed: true };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const outcomes = await Promise.allSettled(
      [...this.#capabilities.values()].map((capability) => capability[Symbol.asyncDispose]()),
    );
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') {
        this.#log.error('a capability failed to shut down', { err: describeError(outcome.reason) });
      }
    }
  }

  async #openOne(capability: Capability, unfinishedIds: ReadonlySet<string>): Promise<Availability> {
    try {
      const availability = await capability.open(this.#hostFor(capability.name));
      if (availability.available && isRecoverable(capability) && !this.#adopted.has(capability.name)) {
        await capability.adopt(unfinishedIds);
        this.#adopted.add(capability.name);
      }
      return availability;
    } catch (error) {
      this.#log.error('a capability failed to open', { capability: capability.name, err: describeError(error) });
      return { available: false, reason: toLonglineError(error).message, mend: "see the agent's log" };
    }
  }
}

async function failureOf(durable: Promise<void> | undefined): Promise<LonglineError | undefined> {
  try {
    await durable;
    return undefined;
  } catch (error) {
    return toLonglineError(error);
  }
}

function isAnticipating(capability: Capability): capability is Capability & Anticipating {
  return 'anticipates' in capability;
}

function isRecoverable(capability: Capability): capability is Capability & Recoverable {
  return 'adopt' in capability;
}

function isInputConsumer(capability: Capability): capability is Capability & InputConsumer {
  return 'writeInput' in capability;
}
