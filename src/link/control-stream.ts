// One control stream after its handshake: writes the outbox, reads commands, keeps watch over liveness. It decides nothing
// about commands. It ends by throwing why: `unavailable` when the controller is gone or silent, `invalid` when it broke
// the protocol; unknown kinds of messages are counted and ignored.
import type { AgentMessage, OpenTunnel } from '#gen/longline/link/v1/link_pb.js';
import type { Clock } from '../core/clock.ts';
import { LonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { Progress } from '../core/progress.ts';
import type { CommandDispatcher } from './command-dispatcher.ts';
import type { DesiredStates } from './desired-states.ts';
import type { DuplexCall } from './grpc-client.ts';
import { Heartbeat } from './heartbeat.ts';
import type { WelcomeTerms } from './hello.ts';
import type { Outbox } from './outbox.ts';
import type { HostReport } from './ports.ts';
import { type ReceivedMessage, withoutDetail } from './state-wire.ts';
import { durationMs, encodeAgentMessage, resultMessage } from './wire.ts';

/** What a control stream works with. */
export interface ControlStreamOptions {
  readonly call: DuplexCall<AgentMessage, ReceivedMessage>;
  readonly terms: WelcomeTerms;
  /** Longest time between two heartbeats of ours, whatever the terms say. */
  readonly heartbeatMostMs?: number;
  readonly outbox: Outbox;
  readonly dispatcher: CommandDispatcher;
  readonly states: Pick<DesiredStates, 'take'>;
  readonly report: HostReport;
  /** False once another replica may lead: what would be sent stays in the outbox, and the stream ends. */
  readonly mayAct?: () => boolean;
  readonly clock: Clock;
  readonly log: Logger;
  /** Hears of each heartbeat. */
  readonly progress?: Progress | undefined;
  /** The controller stored an audit checkpoint. */
  readonly onCheckpointAck: (chainId: string, sequence: bigint) => void;
  /** A tunnel is wanted. */
  readonly onOpenTunnel: (ask: OpenTunnel) => void;
  /** The controller wants this connection closed within `windowMs`. */
  readonly onDrain: (windowMs: number, reason: string) => void;
}

/** While more replies than this wait for the controller to read, no more commands are read from it. */
const MAX_WAITING_REPLIES = 4096;
const DEFAULT_DRAIN_WINDOW_MS = 10_000;
/** Room for the framing of a message. */
const MESSAGE_SLACK_BYTES = 1024;

/** One per session. */
export class ControlStream {
  readonly #options: ControlStreamOptions;
  readonly #heartbeat: Heartbeat;
  #unknown = 0;

  constructor(options: ControlStreamOptions) {
    this.#options = options;
    const { terms, heartbeatMostMs = Number.POSITIVE_INFINITY } = options;
    this.#heartbeat = new Heartbeat(terms.heartbeatMs, heartbeatMostMs, options);
  }

  get roundTripMs(): number | undefined {
    return this.#heartbeat.roundTripMs;
  }

  get unknownMessages(): number {
    return this.#unknown;
  }

  /** Takes from the outbox and writes, until the signal aborts; throws why the stream can't be written. */
  async write(signal: AbortSignal): Promise<void> {
    const { outbox, call, mayAct } = this.#options;
    while (!signal.aborted) {
      await outbox.whenFilled(signal);
      if (signal.aborted) return;
      const message = outbox.take();
      if (message === undefined) continue;
      const fitting = this.#fit(message);
      if (fitting === undefined) continue;
      if (mayAct?.() === false) {
        outbox.giveBack(message);
        throw new LonglineError('stale', 'this replica no longer leads');
      }
      try {
        await call.write(fitting);
      } catch (error) {
        outbox.giveBack(message);
        throw error;
      }
    }
  }

  /** Sends heartbeats; throws when the controller has gone silent. */
  beat(signal: AbortSignal): Promise<void> {
    return this.#heartbeat.run((message) => this.#options.outbox.putHeartbeat(message), signal);
  }

  /** Reads until the controller ends the stream (then it throws `unavailable`) or breaks the protocol. */
  async read(signal: AbortSignal): Promise<void> {
    for await (const received of this.#options.call.messages) {
      this.#heartbeat.heard();
      this.#take(received);
      if (this.#options.outbox.waitingReplies > MAX_WAITING_REPLIES) await this.#options.outbox.whenEmpty(signal);
    }
    if (!signal.aborted) throw new LonglineError('unavailable', 'the controller ended the control stream');
  }

  #take({ message, stateBody }: ReceivedMessage): void {
    const { dispatcher, states, onCheckpointAck, onDrain, onOpenTunnel } = this.#options;
    if (message.case === 'command') dispatcher.take(message.value);
    else if (message.case === 'cancel') dispatcher.cancel(message.value.commandId, message.value.reason);
    else if (message.case === 'resultAck') dispatcher.acknowledge(message.value.commandIds);
    else if (message.case === 'heartbeat') this.#heartbeat.answered(message.value);
    else if (message.case === 'openTunnel') onOpenTunnel(message.value);
    else if (message.case === 'desiredState') states.take(message.value, stateBody);
    else if (message.case === 'auditCheckpointAck') onCheckpointAck(message.value.chainId, message.value.sequence);
    else if (message.case === 'drain') {
      onDrain(durationMs(message.value.window) ?? DEFAULT_DRAIN_WINDOW_MS, message.value.reason);
    } else if (message.case === 'welcome') {
      throw new LonglineError('invalid', 'the controller sent a second welcome', { retryable: true });
    } else {
      this.#unknown += 1;
    }
  }

  /** What the controller won't take is replaced by a result that says so, or dropped and logged. */
  #fit(message: AgentMessage): AgentMessage | undefined {
    if (message.message.case === 'heartbeat' || message.message.case === 'received') return message;
    const limit = this.#options.terms.maxMessageBytes - MESSAGE_SLACK_BYTES;
    const size = encodeAgentMessage(message).length;
    if (size <= limit) return message;
    const { log, clock } = this.#options;
    log.error('message is larger than the controller takes', { kind: message.message.case, size, limit });
    const { case: kind } = message.message;
    if (kind !== 'result' && kind !== 'stateReport') return undefined;
    const text = `the ${kind === 'result' ? 'result' : 'report'} has ${size} bytes; the controller takes ${limit}`;
    const error = new LonglineError('limit', text, { retryable: false });
    if (kind === 'stateReport') return withoutDetail(message.message.value, error);
    const { commandId, seq } = message.message.value;
    return resultMessage({ commandId, seq, nowMs: clock.now() }, '', 'failed', new Uint8Array(), error);
  }
}
