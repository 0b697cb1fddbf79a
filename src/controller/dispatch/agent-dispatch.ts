// Gives one agent its commands over one control stream: takes what is stored, marks it as sent, and only then sends it.
// Commands wait in the store, not here: at most a window of them is out unconfirmed. It knows nothing of gRPC. A failure
// of the store ends the stream through `failed`; the next stream begins with what wasn't confirmed.
import type { Clock } from '../../core/clock.ts';
import type { ClaimedCommand, CommandRepository } from '../store/command.ts';

/** Most commands taken from the store at once, so that few large ones are held while a stream is slow. */
const CLAIM_LIMIT = 8;

/** The stream's sending side. */
export interface CommandSink {
  /** False while the stream's buffer is full: nothing may be sent until `AgentDispatch.roomAgain` is called. */
  readonly writable: boolean;
  sendCommand(command: ClaimedCommand): void;
  sendCancel(commandId: string, reason: string): void;
  failed(error: unknown): void;
}

/** Bounds of dispatch. */
export interface DispatchOptions {
  /** Most commands sent and not yet confirmed by an agent. */
  readonly windowCommands: number;
}

/** What dispatch needs. */
export interface DispatchDependencies {
  readonly commands: Pick<CommandRepository, 'claim' | 'pendingCancels'>;
  readonly clock: Clock;
  readonly options: DispatchOptions;
}

/** Dispatch to one agent over one stream. Close it with the stream. */
export class AgentDispatch {
  readonly #needs: DispatchDependencies;
  readonly #agentId: string;
  readonly #sink: CommandSink;
  readonly #unconfirmed = new Set<string>();
  readonly #cancelled = new Set<string>();
  #claimed: ClaimedCommand[] = [];
  /** Highest seq given to this stream; what lies below and isn't confirmed was sent on it. */
  #cursor = 0;
  #dirty = false;
  /** Cancels may be stored that this stream hasn't sent. */
  #cancelsDue = true;
  #pumping = false;
  #closed = false;

  constructor(needs: DispatchDependencies, agentId: string, sink: CommandSink) {
    this.#needs = needs;
    this.#agentId = agentId;
    this.#sink = sink;
  }

  /** Something for this agent was stored. Cheap; may be called any number of times. */
  wake(): void {
    this.#dirty = true;
    if (this.#pumping || this.#closed) return;
    this.#pumping = true;
    void this.#pump();
  }

  /** As `wake`, where cancels were stored too: they are looked for then only, and first with the stream's first commands. */
  wakeForCancels(): void {
    this.#cancelsDue = true;
    this.wake();
  }

  /** The agent has the command, refused it or ended it. */
  confirmed(commandId: string): void {
    const wasFull = this.#unconfirmed.size >= this.#needs.options.windowCommands;
    if (this.#unconfirmed.delete(commandId) && wasFull) this.wake();
  }

  /** The command ended: forget that it was cancelled. */
  ended(commandId: string): void {
    this.#cancelled.delete(commandId);
    this.confirmed(commandId);
  }

  /** The stream can be written again. */
  roomAgain(): void {
    this.wake();
  }

  /** Sends nothing any more. */
  close(): void {
    this.#closed = true;
    this.#claimed = [];
  }

  async #pump(): Promise<void> {
    try {
      while (this.#dirty && !this.#closed) {
        this.#dirty = false;
        await this.#sendCommands();
        await this.#sendCancels();
      }
    } catch (error) {
      this.#sink.failed(error);
    } finally {
      this.#pumping = false;
    }
  }

  async #sendCommands(): Promise<void> {
    const { commands, clock, options } = this.#needs;
    while (this.#sendClaimed()) {
      const room = options.windowCommands - this.#unconfirmed.size;
      if (room <= 0) return;
      const limit = Math.min(room, CLAIM_LIMIT);
      const query = { agentId: this.#agentId, afterSeq: this.#cursor, limit, nowMs: clock.now() };
      this.#claimed = [...(await commands.claim(query))];
      if (this.#claimed.length < limit) {
        // Nothing more is stored: whatever comes later wakes this again.
        this.#sendClaimed();
        return;
      }
    }
  }

  /** True if all that was claimed is sent and there is room for more. */
  #sendClaimed(): boolean {
    while (this.#claimed.length > 0 && this.#sink.writable && !this.#closed) {
      const command = this.#claimed.shift()!;
      this.#unconfirmed.add(command.id);
      this.#cursor = command.seq;
      this.#sink.sendCommand(command);
    }
    return this.#claimed.length === 0 && this.#sink.writable && !this.#closed;
  }

  async #sendCancels(): Promise<void> {
    if (!this.#cancelsDue) return;
    this.#cancelsDue = false;
    for (const cancel of await this.#needs.commands.pendingCancels(this.#agentId)) {
      if (this.#cancelled.has(cancel.commandId)) continue;
      // Never ahead of its command: an agent ignores the cancel of what it doesn't know.
      const known = cancel.received || cancel.seq <= this.#cursor;
      if (this.#closed || !this.#sink.writable || !known) {
        // Looked for again once the stream can be written or more is confirmed, which wakes this.
        this.#cancelsDue = true;
        continue;
      }
      this.#cancelled.add(cancel.commandId);
      this.#sink.sendCancel(cancel.commandId, cancel.reason);
    }
  }
}
