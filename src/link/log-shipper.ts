// Moves spooled logs to the controller over one Logs stream: open, resume where the controller stands, batches within a
// window, close, and removal once the close is stored. Fair between logs. It knows no files (the spool does) and no
// connection (its owner makes a new shipper for each stream). It ends with an error when the stream does.
import { create } from '@bufbuild/protobuf';
import {
  type InputAck,
  type LogEndAck,
  type LogResume,
  type LogsRequest,
  LogsRequestSchema,
  type LogsResponse,
} from '#gen/longline/link/v1/link_pb.js';
import type { Logger } from '../core/logger.ts';
import type { DuplexCall } from './grpc-client.ts';
import type { InputRelay } from './input-relay.ts';
import type { LogSpool } from './log-spool.ts';
import { Shipment, type ShipmentMessage } from './shipment.ts';
import type { SpooledLog } from './spooled-log.ts';
import { Wakeup } from './wakeup.ts';

/** What a shipper works with. */
export interface ShipperOptions {
  readonly call: DuplexCall<LogsRequest | Uint8Array, LogsResponse>;
  readonly spool: LogSpool;
  readonly inputs: InputRelay;
  readonly log: Logger;
  /** Data bytes sent and not acknowledged, all logs together. */
  readonly windowBytes: number;
  /** Data bytes in one batch. */
  readonly batchBytes: number;
  /** How long a stream without a log is kept: it costs both sides memory. */
  readonly idleMs: number;
  /** Resolves when nothing more urgent waits on another stream. */
  readonly quiet: (signal: AbortSignal) => Promise<void>;
  /** A log that could not be delivered whole, for a HostEvent. */
  readonly onDamage: (logId: string, message: string) => void;
}

/** Logs open on the stream at once; live ones come first. */
const MAX_OPEN_LOGS = 256;
const MAX_RESENDS = 2;
/** Longest wait for the controller to end an idle stream that was ended here. */
const GOODBYE_MS = 5000;

/** One per Logs stream. */
export class LogShipper {
  readonly #options: ShipperOptions;
  readonly #shipments = new Map<number, Shipment>();
  readonly #byLog = new Map<SpooledLog, Shipment>();
  readonly #liveWaiting = new Set<SpooledLog>();
  readonly #closedWaiting = new Set<SpooledLog>();
  /** Shipments that may have something to send, in turn. */
  readonly #ready = new Set<Shipment>();
  readonly #wakeup = new Wakeup();
  #lastHandle = 0;
  #inFlightBytes = 0;
  #unknown = 0;

  constructor(options: ShipperOptions) {
    this.#options = options;
  }

  /** Messages of the controller that named no log of this stream or had no known kind. */
  get unknownMessages(): number {
    return this.#unknown;
  }

  /** Lets the writer look for input acknowledgements. */
  wake(): void {
    this.#wakeup.ring();
  }

  /** Ships until there was no log for a while or the signal aborts; throws why the stream ended before. */
  async run(signal: AbortSignal): Promise<void> {
    const { spool, call } = this.#options;
    const stop = new AbortController();
    const onAbort = () => stop.abort();
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    spool.onWritten((log) => this.#noticed(log));
    for (const log of spool.logs()) this.#noticed(log);
    const reading = this.#read().finally(onAbort);
    // It is awaited below; until then its failure must not count as unhandled.
    reading.catch(() => undefined);
    let idle = false;
    try {
      idle = (await this.#write(stop.signal)) === 'idle';
    } finally {
      if (signal.aborted || idle) call.end();
      else call.cancel();
      signal.removeEventListener('abort', onAbort);
      spool.onWritten(undefined);
      for (const shipment of this.#shipments.values()) await shipment.dispose();
    }
    if (idle) await this.#goodbye(reading);
    else if (!signal.aborted) await reading;
  }

  /** A controller that doesn't answer the end of the stream must not keep the next one from being opened. */
  async #goodbye(reading: Promise<void>): Promise<void> {
    const limit = setTimeout(() => this.#options.call.cancel(), GOODBYE_MS);
    await reading.catch((error: unknown) => this.#options.log.debug('an idle log stream ended badly', { err: error }));
    clearTimeout(limit);
  }

  #noticed(log: SpooledLog): void {
    const shipment = this.#byLog.get(log);
    if (shipment !== undefined) {
      this.#ready.add(shipment);
    } else {
      this.#liveWaiting.delete(log);
      (log.summary === undefined ? this.#liveWaiting : this.#closedWaiting).add(log);
    }
    this.#wakeup.ring();
  }

  async #write(signal: AbortSignal): Promise<'idle' | 'ended'> {
    const { call, quiet } = this.#options;
    let before: Promise<void> = Promise.resolve();
    while (!signal.aborted) {
      const message = await this.#next();
      if (message === undefined) {
        if (!(await this.#rung(signal)) && this.#empty) break;
        continue;
      }
      await quiet(signal);
      // Two batches at most wait for the socket: one is read from disk while the other is sent.
      const writing = call.write(message instanceof Uint8Array ? message : create(LogsRequestSchema, { message }));
      writing.catch(() => undefined);
      await before;
      before = writing;
    }
    await before;
    return signal.aborted ? 'ended' : 'idle';
  }

  get #empty(): boolean {
    return this.#shipments.size + this.#liveWaiting.size + this.#closedWaiting.size === 0;
  }

  /** Waits for something to do; false if nothing came for so long that the stream may be given up. */
  async #rung(signal: AbortSignal): Promise<boolean> {
    if (!this.#empty) {
      await this.#wakeup.wait(signal);
      return true;
    }
    const limit = new AbortController();
    const give = () => limit.abort();
    const timer = setTimeout(give, this.#options.idleMs);
    signal.addEventListener('abort', give, { once: true });
    if (signal.aborted) give();
    await this.#wakeup.wait(limit.signal);
    clearTimeout(timer);
    signal.removeEventListener('abort', give);
    return !limit.signal.aborted;
  }

  /** The next message: input acknowledgements, then new logs, then data in turn. */
  async #next(): Promise<ShipmentMessage | undefined> {
    const ack: InputAck | undefined = this.#options.inputs.takeAck();
    if (ack !== undefined) return { case: 'inputAck', value: ack };
    const opened = this.#openNext();
    if (opened !== undefined) return { case: 'open', value: opened.openMessage() };
    for (const shipment of this.#ready) {
      this.#ready.delete(shipment);
      const room = this.#inFlightBytes < this.#options.windowBytes;
      const message = await shipment.next(room ? this.#options.batchBytes : 0);
      if (shipment.finished) {
        await this.#finish(shipment);
        continue;
      }
      if (message === undefined) continue;
      this.#inFlightBytes += shipment.takeSentBytes();
      this.#ready.add(shipment);
      return message;
    }
    return undefined;
  }

  #openNext(): Shipment | undefined {
    if (this.#shipments.size >= MAX_OPEN_LOGS) return undefined;
    for (const waiting of [this.#liveWaiting, this.#closedWaiting]) {
      for (const log of waiting) {
        waiting.delete(log);
        this.#lastHandle += 1;
        const shipment = new Shipment(this.#lastHandle, log);
        this.#shipments.set(shipment.handle, shipment);
        this.#byLog.set(log, shipment);
        return shipment;
      }
    }
    return undefined;
  }

  async #read(): Promise<void> {
    for await (const { message } of this.#options.call.messages) {
      if (message.case === 'input') {
        this.#options.inputs.take(message.value);
        continue;
      }
      const shipment = message.case === undefined ? undefined : this.#shipments.get(message.value.handle);
      if (shipment === undefined) this.#unknown += 1;
      else if (message.case === 'resume') this.#resumed(shipment, message.value);
      else if (message.case === 'ack') this.#release(shipment.acknowledged(message.value.offsets));
      else if (message.case === 'endAck') await this.#ended(shipment, message.value);
      if (shipment !== undefined && !shipment.finished) this.#ready.add(shipment);
      this.#wakeup.ring();
    }
  }

  #resumed(shipment: Shipment, resume: LogResume): void {
    this.#release(shipment.resumed(resume.offsets, resume.closed));
  }

  #release(bytes: number): void {
    this.#inFlightBytes -= bytes;
    if (bytes > 0) for (const shipment of this.#shipments.values()) this.#ready.add(shipment);
  }

  async #ended(shipment: Shipment, ack: LogEndAck): Promise<void> {
    const { log, onDamage } = this.#options;
    if (!shipment.ending) {
      this.#unknown += 1;
      return;
    }
    if (ack.error === undefined) return this.#finish(shipment);
    const logId = shipment.log.name.id;
    if (shipment.log.complete && shipment.resends < MAX_RESENDS) {
      log.warn('controller found a log wrong; it is sent anew', { logId, error: ack.error.message });
      this.#release(await shipment.restart());
      return;
    }
    log.error('log could not be delivered whole', { logId, error: ack.error.message });
    onDamage(logId, `log ${logId} could not be delivered whole: ${ack.error.message}`);
    await this.#finish(shipment);
  }

  /** Nothing more is to be sent of this log: its files go. */
  async #finish(shipment: Shipment): Promise<void> {
    this.#ready.delete(shipment);
    this.#shipments.delete(shipment.handle);
    this.#byLog.delete(shipment.log);
    this.#release(shipment.unacknowledgedBytes);
    await shipment.dispose();
    await this.#options.spool.remove(shipment.log);
  }
}
