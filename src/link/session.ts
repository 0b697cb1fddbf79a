// One connection in use: control, logs and telemetry streams over it, from handshake to close. The link makes a new one
// for every attempt and moves its outbox, spool and samples from one to the next. Logs and telemetry streams that fail
// are opened anew on the same connection; a control stream that fails ends the session.
import {
  AgentLinkService,
  type AgentMessage,
  type FetchArtifactRequest,
  type FetchArtifactResponse,
} from '#gen/longline/link/v1/link_pb.js';
import { Backoff } from '../core/backoff.ts';
import type { Clock } from '../core/clock.ts';
import { LonglineError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { Progress } from '../core/progress.ts';
import { TaskGroup } from '../core/task-group.ts';
import type { Tracer } from '../core/tracer.ts';
import type { CommandDispatcher } from './command-dispatcher.ts';
import { Connection } from './connection.ts';
import { ControlStream } from './control-stream.ts';
import type { DesiredStates } from './desired-states.ts';
import type { TlsSessionCache } from './dial-credentials.ts';
import type { ChannelLimits, DuplexCall, IncomingCall } from './grpc-client.ts';
import { readWelcome, type WelcomeTerms } from './hello.ts';
import type { InputRelay } from './input-relay.ts';
import { LogShipper } from './log-shipper.ts';
import type { LogSpool } from './log-spool.ts';
import type { Outbox } from './outbox.ts';
import type { HostReport, LinkTarget, TunnelTargets } from './ports.ts';
import { decodeControllerMessage, type ReceivedMessage } from './state-wire.ts';
import type { TelemetrySender } from './telemetry-sender.ts';
import { TunnelRelay } from './tunnel-relay.ts';

/** What all sessions of a link share. */
export interface SessionHost {
  readonly clock: Clock;
  readonly log: Logger;
  readonly tracer?: Tracer | undefined;
  readonly report: HostReport;
  /** As LinkOptions.mayAct. */
  readonly mayAct: () => boolean;
  readonly outbox: Outbox;
  readonly dispatcher: CommandDispatcher;
  readonly states: DesiredStates;
  readonly spool: LogSpool;
  readonly inputs: InputRelay;
  readonly telemetry: TelemetrySender;
  readonly tlsSessions: TlsSessionCache;
  readonly tunnelTargets: TunnelTargets | undefined;
  readonly channel: ChannelLimits;
  readonly bringUpMs: number;
  readonly heartbeatMostMs: number;
  /** Hears of each heartbeat of the session that is written to. */
  readonly progress?: Progress | undefined;
  readonly logWindowBytes: number;
  readonly logBatchBytes: number;
  readonly logIdleMs: number;
  readonly onCheckpointAck: (chainId: string, sequence: bigint) => void;
  readonly onLogDamage: (logId: string, message: string) => void;
}

/** How a session came to its end, or to the wish for it. */
export type SessionTurn =
  /** It is over. */
  | { readonly kind: 'ended'; readonly error: LonglineError }
  /** The controller wants it replaced within the window; it still works. */
  | { readonly kind: 'drain'; readonly windowMs: number; readonly reason: string };

type ControlCall = DuplexCall<AgentMessage, ReceivedMessage>;

const STREAM_RETRY = { baseMs: 500, capMs: 30_000 } as const;
/** Longest wait for a write under way when a session ends. */
const STOP_SENDING_MS = 1000;
/** How long a closing session waits for its last messages to be written. */
const FLUSH_MS = 2000;
const TUNNEL_GOODBYE_MS = 500;

/** Opened by `Session.open`. The owner calls `start` once, and `close` in any case. */
export class Session {
  readonly terms: WelcomeTerms;
  readonly #host: SessionHost;
  readonly #connection: Connection;
  readonly #call: ControlCall;
  readonly #control: ControlStream;
  readonly #tunnels: TunnelRelay;
  /** What writes; stopped before the next session writes. */
  readonly #senders = new TaskGroup();
  readonly #stop = new AbortController();
  readonly #ended = Promise.withResolvers<SessionTurn>();
  readonly #drain = Promise.withResolvers<SessionTurn>();
  #stopping = false;
  #reading: Promise<void> = Promise.resolve();
  #shipper: LogShipper | undefined;
  #unknown = 0;
  #over = false;

  private constructor(host: SessionHost, connection: Connection, call: ControlCall, first: ReceivedMessage) {
    if (first.message.case !== 'welcome') {
      const kind = first.message.case ?? 'unknown';
      throw new LonglineError('invalid', `the controller sent "${kind}" where welcome was due`, { retryable: true });
    }
    this.terms = readWelcome(first.message.value);
    this.#host = host;
    this.#connection = connection;
    this.#call = call;
    const { tunnelTargets: targets, clock, log, tracer } = host;
    this.#tunnels = new TunnelRelay({ connection, targets, clock, log, tracer });
    this.#control = new ControlStream({
      ...host,
      call,
      terms: this.terms,
      onOpenTunnel: (ask) => this.#tunnels.open(ask),
      onDrain: (windowMs, reason) => this.#drain.resolve({ kind: 'drain', windowMs, reason }),
    });
  }

  /** Dials and shakes hands within `bringUpMs`, all of it; `onHello` is called when the connection stands. */
  static async open(
    host: SessionHost,
    target: LinkTarget,
    hello: AgentMessage,
    onHello: () => void,
    signal: AbortSignal,
  ): Promise<Session> {
    signal.throwIfAborted();
    const connection = new Connection(target, host.tlsSessions, host.channel, host.tracer);
    let phase = 'TCP, TLS or HTTP/2 settings';
    const late = Promise.withResolvers<never>();
    const onAbort = () => late.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => {
      late.reject(
        new LonglineError('unavailable', `the connection was not up after ${host.bringUpMs} ms; it hung in ${phase}`),
      );
    }, host.bringUpMs);
    try {
      const call = connection.call(AgentLinkService.method.control, decodeControllerMessage);
      const greet = async () => {
        await call.write(hello);
        phase = 'Hello and Welcome';
        onHello();
        return readFirst(call);
      };
      const { first, rest } = await Promise.race([greet(), late.promise]);
      return new Session(host, connection, { ...delegate(call), messages: rest }, first);
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** True once the session ended by itself. */
  get over(): boolean {
    return this.#over;
  }

  get roundTripMs(): number | undefined {
    return this.#control.roundTripMs;
  }

  get unknownMessages(): number {
    return this.#unknown + this.#control.unknownMessages + (this.#shipper?.unknownMessages ?? 0);
  }

  /** Lets the log stream look for input acknowledgements. */
  wakeLogs(): void {
    this.#shipper?.wake();
  }

  /** Asks for bytes of an artifact over this connection. */
  artifact(request: FetchArtifactRequest): IncomingCall<FetchArtifactResponse> {
    return this.#connection.ask(AgentLinkService.method.fetchArtifact, request);
  }

  /** Begins to read and write. The session before must have stopped sending. */
  start(): void {
    const signal = this.#stop.signal;
    const fail = (error: unknown) => {
      this.#over = true;
      if (error instanceof LonglineError) this.#ended.resolve({ kind: 'ended', error });
      else
        this.#ended.resolve({
          kind: 'ended',
          error: new LonglineError('internal', 'the link failed', { cause: error }),
        });
    };
    this.#reading = this.#control.read(signal).catch(fail);
    this.#senders.spawn((sending) => this.#control.write(sending));
    this.#senders.spawn((sending) => this.#control.beat(sending));
    this.#senders.spawn((sending) => this.#keepOpen('log', sending, () => this.#shipLogs(sending)));
    this.#senders.spawn((sending) => this.#keepOpen('telemetry', sending, () => this.#sendTelemetry(sending)));
    // At the first failure, not once all senders have ended: one may be stuck in a write that a dead peer never takes.
    const sending = this.#senders.signal;
    sending.addEventListener('abort', () => this.#stopping || fail(sending.reason), { once: true });
    this.#senders.wait().catch(fail);
  }

  /** Resolves when the session ended, a drain was asked for (once), or the signal aborts (undefined). */
  async turn(ignoreDrain: boolean, signal: AbortSignal): Promise<SessionTurn | undefined> {
    const aborted = Promise.withResolvers<undefined>();
    const onAbort = () => aborted.resolve(undefined);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      const turns = [this.#ended.promise, aborted.promise];
      return await Promise.race(ignoreDrain ? turns : [...turns, this.#drain.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Ends the turn as if the controller had asked for a new connection, without its spreading in time. */
  requestReplacement(reason: string): void {
    this.#drain.resolve({ kind: 'drain', windowMs: 0, reason });
  }

  /** Writes no more; reading goes on. When it resolves another session may write. */
  async stopSending(): Promise<void> {
    this.#stopping = true;
    // A write that a dead peer never takes would be waited for until the keepalive ends the connection.
    const limit = setTimeout(() => this.#connection[Symbol.dispose](), STOP_SENDING_MS);
    await this.#senders[Symbol.asyncDispose]();
    clearTimeout(limit);
  }

  /** Waits until everything in the outbox is written, up to a limit. */
  async flush(): Promise<void> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), FLUSH_MS);
    const over = this.#ended.promise.then(() => limit.abort());
    await Promise.race([this.#host.outbox.whenEmpty(limit.signal), over]);
    clearTimeout(timer);
    limit.abort();
  }

  /**
   * Ends the control stream in good order, waits up to `graceMs` for the controller to end too, and closes the connection
   * once its tunnels have ended; at the latest when `keep` aborts.
   */
  async close(graceMs: number, keep: AbortSignal): Promise<void> {
    this.#stop.abort();
    await this.stopSending();
    this.#call.end();
    const timer = Promise.withResolvers<void>();
    const handle = setTimeout(timer.resolve, graceMs);
    await Promise.race([this.#reading, timer.promise]);
    clearTimeout(handle);
    await this.#endTunnels(keep);
    this.#connection[Symbol.dispose]();
  }

  async #endTunnels(keep: AbortSignal): Promise<void> {
    await this.#tunnels.idle(keep);
    if (this.#tunnels.size === 0) return;
    this.#tunnels.end(new LonglineError('unavailable', "the agent's connection to its controller ended"));
    // A moment for the reason to get across, if anything still does.
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), TUNNEL_GOODBYE_MS);
    await this.#tunnels.idle(limit.signal);
    clearTimeout(timer);
  }

  /** Most agents have no output most of the time: the stream is there while there is a log, and a while longer. */
  async #shipLogs(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#host.spool.whenFilled(signal);
      if (!signal.aborted) await this.#ship(signal);
    }
  }

  async #ship(signal: AbortSignal): Promise<void> {
    const { spool, inputs, log, logWindowBytes, logIdleMs, outbox, onLogDamage } = this.#host;
    const shipper = new LogShipper({
      call: this.#connection.call(AgentLinkService.method.logs),
      spool,
      inputs,
      log,
      windowBytes: logWindowBytes,
      idleMs: logIdleMs,
      batchBytes: Math.min(this.#host.logBatchBytes, this.terms.maxMessageBytes / 2),
      quiet: (sending) => outbox.whenEmpty(sending),
      onDamage: onLogDamage,
    });
    this.#shipper = shipper;
    try {
      await shipper.run(signal);
    } finally {
      this.#unknown += shipper.unknownMessages;
      this.#shipper = undefined;
    }
  }

  async #sendTelemetry(signal: AbortSignal): Promise<void> {
    const { telemetry, outbox } = this.#host;
    await telemetry.whenFilled(signal);
    if (signal.aborted) return;
    const call = this.#connection.call(AgentLinkService.method.telemetry);
    await telemetry.run(call, (sending) => outbox.whenEmpty(sending), signal);
  }

  /** Opens a side stream again when it fails, with backoff: a controller needs only Control. */
  async #keepOpen(name: string, signal: AbortSignal, serve: () => Promise<void>): Promise<void> {
    const { clock, log } = this.#host;
    const backoff = new Backoff(STREAM_RETRY);
    while (!signal.aborted) {
      const startedAt = clock.monotonic();
      try {
        await serve();
        log.debug(`${name} stream ended`, {});
      } catch (error) {
        if (signal.aborted) return;
        log.warn(`${name} stream failed; it is opened again`, { err: error });
      }
      if (signal.aborted) return;
      if (clock.monotonic() - startedAt > STREAM_RETRY.capMs) backoff.reset();
      await clock.sleep(backoff.next(), signal);
    }
  }
}

function delegate(call: ControlCall): Pick<ControlCall, 'write' | 'end' | 'cancel'> {
  return { write: (message) => call.write(message), end: () => call.end(), cancel: () => call.cancel() };
}

async function readFirst(call: ControlCall): Promise<{ first: ReceivedMessage; rest: AsyncIterable<ReceivedMessage> }> {
  const iterator = call.messages[Symbol.asyncIterator]();
  const next = await iterator.next();
  if (next.done) throw new LonglineError('unavailable', 'the controller ended the control stream without a welcome');
  return { first: next.value, rest: { [Symbol.asyncIterator]: () => iterator } };
}
