// One Logs stream: what an agent's executions wrote comes in, standard input goes out. Messages are handled one at a time,
// so a slow disk slows the stream; acks are sent by a task of its own, once a sync has covered what was appended. A hole
// or a damaged chunk ends the stream with the reason, and the agent goes on from the offsets that LogResume names.
import { create } from '@bufbuild/protobuf';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import {
  type Input,
  type LogBatch,
  type LogEnd,
  type LogOpen,
  type LogsRequest,
  type LogsResponse,
  LogsResponseSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { Channel } from '../../core/channel.ts';
import { invalid, LonglineError, toLonglineError } from '../../core/errors.ts';
import { logTopic } from '../bus/topics.ts';
import type { LogAppend, LogWriter } from '../logs/log-store.ts';
import type { InputRelay, InputSink } from './input-relay.ts';
import type { LinkDependencies } from './link-options.ts';
import { toWireError } from './wire.ts';

/** A Logs stream as grpc-js gives it. */
export type LogsCall = ServerDuplexStream<LogsRequest, LogsResponse>;

/** Logs that one stream may have open. */
const MAX_HANDLES = 10_000;

/** Messages read and not yet handled. */
const READ_AHEAD = 8;

interface OpenLog {
  readonly logId: string;
  /** Undefined for a log nobody here can own any more: what comes of it is dropped. */
  readonly writer: LogWriter | undefined;
}

/** One Logs stream. */
export class LogsSession implements InputSink {
  readonly #needs: LinkDependencies;
  readonly #call: LogsCall;
  readonly #agentId: string;
  readonly #relay: InputRelay;
  readonly #logs = new Map<number, OpenLog>();
  readonly #unsynced = new Set<number>();
  readonly #gone = new AbortController();
  /** Room for one more than makes the call pause, so that nothing that was read is ever turned away. */
  readonly #requests = new Channel<LogsRequest>(READ_AHEAD + 1);
  #syncing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(needs: LinkDependencies, call: LogsCall, agentId: string, relay: InputRelay) {
    this.#needs = needs;
    this.#call = call;
    this.#agentId = agentId;
    this.#relay = relay;
    call.on('data', (request: LogsRequest) => this.#heard(request));
    call.on('end', () => this.#requests.close());
    call.on('cancelled', () => this.end());
    call.on('error', () => this.end());
    call.on('drain', () => relay.roomAgain());
  }

  get writable(): boolean {
    return !this.#gone.signal.aborted && !this.#call.writableNeedDrain;
  }

  sendInput(input: Input): void {
    this.#call.write(create(LogsResponseSchema, { message: { case: 'input', value: input } }));
  }

  /** Ends the stream, with an error as its status if one is given. */
  end(error?: LonglineError): void {
    if (error !== undefined) this.#failure ??= { error };
    this.#stop();
  }

  /** Serves until the agent leaves or `end` is called. */
  async run(): Promise<void> {
    if (this.#call.cancelled) return;
    this.#relay.attach(this);
    try {
      for await (const request of this.#requests) {
        await this.#take(request);
        if (this.#gone.signal.aborted) break;
        if (this.#requests.size < READ_AHEAD / 2) this.#call.resume();
      }
      await this.#syncing;
    } finally {
      this.#gone.abort();
      this.#relay.detach(this);
      await this.#syncing?.catch(() => undefined);
      for (const { writer } of this.#logs.values()) writer?.release();
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #heard(request: LogsRequest): void {
    this.#requests.trySend(request);
    if (this.#requests.size >= READ_AHEAD) this.#call.pause();
  }

  #stop(): void {
    this.#gone.abort();
    this.#requests.close();
  }

  async #take({ message }: LogsRequest): Promise<void> {
    switch (message.case) {
      case 'open':
        return await this.#open(message.value);
      case 'batch':
        return await this.#append(message.value);
      case 'end':
        return await this.#close(message.value);
      case 'inputAck':
        return this.#relay.acknowledged(message.value);
      default:
        return undefined;
    }
  }

  async #open(open: LogOpen): Promise<void> {
    if (open.handle === 0 || this.#logs.has(open.handle)) {
      throw invalid([{ field: 'open.handle', description: `${open.handle} is 0 or in use on this stream` }]);
    }
    if (this.#logs.size >= MAX_HANDLES) {
      throw new LonglineError('limit', `more than ${MAX_HANDLES} logs are open on one stream`);
    }
    const writer = (await this.#owns(open)) ? await this.#writer(open) : undefined;
    this.#logs.set(open.handle, { logId: open.logId, writer });
    // Followers open it too, ahead of its first byte.
    if (writer !== undefined) this.#needs.bus.publish(logTopic(open.logId), { closed: false });
    const offsets = Object.fromEntries(
      [...(writer?.durableOffsets() ?? [])].map(([stream, offset]) => [stream, BigInt(offset)]),
    );
    const closed = writer?.closed ?? true;
    await this.#send({ case: 'resume', value: { handle: open.handle, offsets, closed } });
  }

  async #writer({ logId, attempt }: LogOpen): Promise<LogWriter> {
    const writer = await this.#needs.logs.writer({ logId, attempt });
    // Offsets named in LogResume may be dropped by the agent: they must be on disk.
    await writer.sync();
    return writer;
  }

  /** True if the log belongs to an execution or session of this agent, false if to none that is known. */
  async #owns({ logId, kind }: LogOpen): Promise<boolean> {
    const owner = kind === 'session' ? await this.#session(logId) : await this.#execution(logId, kind);
    if (owner === undefined) {
      const facts = { agentId: this.#agentId, logId: logId.slice(0, 128), kind: kind.slice(0, 32) };
      this.#needs.log.warn('agent offers a log of something that is unknown here; it is told to drop it', facts);
      return false;
    }
    if (owner.agentId === this.#agentId) return true;
    throw new LonglineError('policy', `log ${logId} belongs to another agent`, { rule: 'log ownership' });
  }

  async #execution(logId: string, kind: string) {
    return kind === 'job' ? await this.#needs.store.commands.get(logId) : undefined;
  }

  /** The log of a life before the present one belongs to it too, as long as the same agent has it. */
  async #session(logId: string) {
    const at = logId.lastIndexOf('.');
    const session = at < 0 ? undefined : await this.#needs.store.sessions.get(logId.slice(0, at));
    const sound = session !== undefined && /^[1-9]\d{0,15}$/.test(logId.slice(at + 1));
    const past = sound && Number(logId.slice(at + 1)) <= session.generation;
    // Of an earlier life on another host nobody here can tell whose it was.
    const foreign = past && session.agentId !== this.#agentId && Number(logId.slice(at + 1)) < session.generation;
    return past && !foreign ? session : undefined;
  }

  #find(handle: number): OpenLog {
    const log = this.#logs.get(handle);
    if (log === undefined) throw invalid([{ field: 'handle', description: `${handle} wasn't opened on this stream` }]);
    return log;
  }

  async #append(batch: LogBatch): Promise<void> {
    const { logId, writer } = this.#find(batch.handle);
    if (writer === undefined || writer.closed) return;
    const grew = await writer.append(this.#withFollowing(batch));
    // Repeated bytes are acknowledged too: the agent may have missed the ack.
    this.#unsynced.add(batch.handle);
    this.#syncing ??= this.#syncAll();
    if (grew) this.#needs.bus.publish(logTopic(logId), { closed: false });
  }

  /** A batch with those of the same log that were read right after it: they are written together. */
  #withFollowing(batch: LogBatch): LogAppend {
    const chunks = [...batch.chunks];
    const gaps = [...batch.gaps];
    const follows = ({ message }: LogsRequest) => message.case === 'batch' && message.value.handle === batch.handle;
    for (let next = this.#requests.takeIf(follows); next !== undefined; next = this.#requests.takeIf(follows)) {
      const { value } = next.message as { value: LogBatch };
      chunks.push(...value.chunks);
      gaps.push(...value.gaps);
    }
    return { chunks, gaps };
  }

  async #syncAll(): Promise<void> {
    try {
      while (this.#unsynced.size > 0 && !this.#gone.signal.aborted) {
        const handles = [...this.#unsynced];
        this.#unsynced.clear();
        await Promise.all(handles.map((handle) => this.#syncOne(handle)));
      }
    } catch (error) {
      this.#failure ??= { error };
      this.#stop();
    } finally {
      this.#syncing = undefined;
    }
  }

  async #syncOne(handle: number): Promise<void> {
    const writer = this.#logs.get(handle)?.writer;
    if (writer === undefined) return;
    await writer.sync();
    const offsets = Object.fromEntries(
      [...writer.durableOffsets()].map(([stream, offset]) => [stream, BigInt(offset)]),
    );
    await this.#send({ case: 'ack', value: { handle, offsets } });
  }

  async #close(end: LogEnd): Promise<void> {
    const { logId, writer } = this.#find(end.handle);
    const refusal = writer === undefined ? undefined : await this.#refusal(writer, end, logId);
    if (refusal === undefined) {
      this.#logs.delete(end.handle);
      this.#unsynced.delete(end.handle);
      writer?.release();
      this.#relay.forget(logId);
      this.#needs.bus.publish(logTopic(logId), { closed: true });
    }
    const error = refusal === undefined ? {} : { error: toWireError(refusal) };
    await this.#send({ case: 'endAck', value: { handle: end.handle, ...error } });
  }

  async #refusal(writer: LogWriter, { close }: LogEnd, logId: string): Promise<LonglineError | undefined> {
    if (close === undefined) return invalid([{ field: 'end.close', description: 'is missing' }]);
    try {
      await writer.close(close);
      return undefined;
    } catch (thrown) {
      const error = toLonglineError(thrown);
      if (error.reason !== 'invalid') throw error;
      this.#needs.log.warn('log disagrees with its close', { agentId: this.#agentId, logId, text: error.message });
      return error;
    }
  }

  async #send(message: NonNullable<Parameters<typeof create<typeof LogsResponseSchema>>[1]>['message']): Promise<void> {
    while (this.#call.writableNeedDrain && !this.#gone.signal.aborted) await this.#drained();
    if (this.#gone.signal.aborted || this.#call.cancelled) return;
    this.#call.write(create(LogsResponseSchema, message === undefined ? {} : { message }));
  }

  async #drained(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#call.once('drain', wake);
    this.#gone.signal.addEventListener('abort', wake, { once: true });
    await promise;
    this.#call.off('drain', wake);
    this.#gone.signal.removeEventListener('abort', wake);
  }
}
