// The input relays of all agents that are attached here. Each listens for its agent's input from the first stream that the
// agent opens to the last: input often comes before the log stream on which it goes on.
import type { Bus } from '../bus/bus.ts';
import { agentInputTopic, inputStateTopic } from '../bus/topics.ts';
import { InputRelay } from './input-relay.ts';

interface Attached {
  readonly relay: InputRelay;
  listening: Promise<Disposable> | undefined;
  streams: number;
}

/** One stream's hold on its agent's relay. Dispose it with the stream. */
export interface RelayHold extends AsyncDisposable {
  readonly relay: InputRelay;
}

/** One per controller process. */
export class InputRelays {
  readonly #bus: Bus;
  readonly #agents = new Map<string, Attached>();

  constructor(bus: Bus) {
    this.#bus = bus;
  }

  /** Resolves once the relay listens. */
  async hold(agentId: string): Promise<RelayHold> {
    let attached = this.#agents.get(agentId);
    if (attached === undefined) {
      const relay = new InputRelay((executionId, state) => this.#bus.publish(inputStateTopic(executionId), state));
      attached = { relay, listening: undefined, streams: 0 };
      this.#agents.set(agentId, attached);
    }
    const mine = attached;
    mine.streams += 1;
    mine.listening ??= this.#bus.listen(agentInputTopic(agentId), (event) => {
      if (event.kind === 'message') mine.relay.take(event.message);
    });
    let held = true;
    const release = async () => {
      if (!held) return;
      held = false;
      await this.#release(agentId, mine);
    };
    try {
      await mine.listening;
    } catch (error) {
      mine.listening = undefined;
      await release();
      throw error;
    }
    return { relay: mine.relay, [Symbol.asyncDispose]: release };
  }

  /** What was accepted and not taken yet is kept for the agent's next stream. */
  async #release(agentId: string, attached: Attached): Promise<void> {
    attached.streams -= 1;
    if (attached.streams > 0) return;
    const { listening } = attached;
    attached.listening = undefined;
    if (attached.relay.idle) this.#agents.delete(agentId);
    (await listening)?.[Symbol.dispose]();
  }
}
