// The agent's side of grpc-js: one channel for one connection, and bidirectional calls whose writes wait for the socket.
// It knows Protobuf services and HTTP/2, not what the messages mean. Every failure of a call is a LonglineError.
import type { DescMessage, DescMethodBiDiStreaming, DescMethodServerStreaming, MessageShape } from '@bufbuild/protobuf';
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  type Interceptor,
  type Metadata,
  status,
} from '@grpc/grpc-js';
import { LonglineError, reasonOfGrpcCode } from '../core/errors.ts';
import { grpcMethodDefinition } from '../core/grpc-definition.ts';
import { statusDetails } from './status-details.ts';

/** How a channel behaves; nothing in it reconnects or retries by itself. */
export interface ChannelLimits {
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly maxReceiveBytes: number;
  readonly windowBytes: number;
}

/** A channel for one connection attempt. The owner closes it. */
export function openChannel(authority: string, credentials: ChannelCredentials, limits: ChannelLimits): Client {
  return new Client(authority, credentials, {
    'grpc.keepalive_time_ms': limits.keepaliveMs,
    'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_receive_message_length': limits.maxReceiveBytes,
    'grpc-node.flow_control_window': limits.windowBytes,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.enable_retries': 0,
    // With a retry buffer, grpc-js reports a write as done as soon as it is buffered: backpressure would be lost.
    'grpc.per_rpc_retry_buffer_size': 0,
    // Reconnecting is the link's own business; this keeps grpc-js from trying behind its back.
    'grpc.initial_reconnect_backoff_ms': 3_600_000,
    'grpc.max_reconnect_backoff_ms': 3_600_000,
  });
}

/** A bidirectional call. Whoever opened it ends or cancels it. */
export interface DuplexCall<Out, In> {
  /** Resolves when the socket has taken the message; rejects with why the call ended. */
  write(message: Out): Promise<void>;
  /** What comes in, in order. Ends when the peer ended the call with OK, else throws a LonglineError. One reader. */
  readonly messages: AsyncIterable<In>;
  /** Nothing more is written; the peer may go on. */
  end(): void;
  cancel(): void;
}

/** Opens a call. What is written may also be a message's bytes. `decode` parses what comes in, if it isn't just a message. */
export function openDuplex<I extends DescMessage, O extends DescMessage, In extends MessageShape<O> = MessageShape<O>>(
  client: Client,
  method: DescMethodBiDiStreaming<I, O>,
  metadata: Metadata,
  decode?: (bytes: Uint8Array) => In,
): DuplexCall<MessageShape<I> | Uint8Array, In> {
  const definition = grpcMethodDefinition(method);
  const stream = client.makeBidiStreamRequest(
    definition.path,
    (message: MessageShape<I> | Uint8Array) =>
      message instanceof Uint8Array
        ? Buffer.from(message.buffer, message.byteOffset, message.byteLength)
        : definition.requestSerialize(message),
    decode ?? (definition.responseDeserialize as (bytes: Buffer) => In),
    metadata,
  );
  return new Call(stream, `${method.name.toLowerCase()} stream`);
}

/** A call that is answered by a stream. Whoever opened it cancels it; that does nothing once it has ended. */
export type IncomingCall<In> = Pick<DuplexCall<never, In>, 'messages' | 'cancel'>;

/** Opens a call that asks once. Its messages are read by one reader, as those of `openDuplex`. */
export function openIncoming<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodServerStreaming<I, O>,
  request: MessageShape<I>,
  metadata: Metadata,
  interceptors: Interceptor[] = [],
): IncomingCall<MessageShape<O>> {
  const definition = grpcMethodDefinition(method);
  const stream = client.makeServerStreamRequest(
    definition.path,
    definition.requestSerialize,
    definition.responseDeserialize as (bytes: Buffer) => MessageShape<O>,
    request,
    metadata,
    { interceptors },
  );
  const name = `${method.name} call`;
  let failure: unknown;
  // It may fail before anybody reads, and would then look like one that ended well.
  stream.on('error', (error) => {
    failure ??= error;
  });
  async function* read(): AsyncGenerator<MessageShape<O>> {
    try {
      for await (const message of stream) yield message as MessageShape<O>;
    } catch (error) {
      failure ??= error;
    }
    if (failure !== undefined) throw callError(name, failure);
  }
  return { messages: read(), cancel: () => stream.cancel() };
}

class Call<Out, In> implements DuplexCall<Out, In> {
  readonly #stream: ClientDuplexStream<Out, In>;
  /** What people call it: "control stream". */
  readonly #name: string;
  readonly #writes = new Set<(error: LonglineError) => void>();
  #ended: LonglineError | undefined;

  constructor(stream: ClientDuplexStream<Out, In>, name: string) {
    this.#stream = stream;
    this.#name = name;
    // grpc-js drops the callbacks of writes that it still held when a call ends.
    stream.on('error', (error) => this.#fail(callError(name, error)));
    stream.on('status', () => this.#fail(new LonglineError('unavailable', `the controller ended the ${name}`)));
  }

  get messages(): AsyncIterable<In> {
    return this.#read();
  }

  write(message: Out): Promise<void> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      this.#writes.add(reject);
      this.#stream.write(message, (error?: Error | null) => {
        this.#writes.delete(reject);
        if (error) reject(callError(this.#name, error));
        else resolve();
      });
    });
  }

  end(): void {
    this.#stream.end();
  }

  cancel(): void {
    this.#stream.cancel();
  }

  async *#read(): AsyncGenerator<In> {
    try {
      for await (const message of this.#stream) yield message as In;
    } catch (error) {
      throw callError(this.#name, error);
    }
  }

  #fail(error: LonglineError): void {
    this.#ended ??= error;
    for (const reject of this.#writes) reject(this.#ended);
    this.#writes.clear();
  }
}

/** How grpc-js says that a connection couldn't be made, and why. */
const UNCONNECTED = /^No connection established\. Last error: (?:LonglineError|Error): (.*?)\. Resolution note: /s;

/** What the call of that name ended with, as a LonglineError with what its details say. */
export function callError(call: string, thrown: unknown): LonglineError {
  if (thrown instanceof LonglineError) return thrown;
  const { code, details, metadata } = thrown as { code?: unknown; details?: unknown; metadata?: Metadata };
  if (typeof code !== 'number') return new LonglineError('unavailable', `the ${call} failed`, { cause: thrown });
  const codeName = status[code] ?? String(code);
  // All that the thrown error tells is in here.
  const text = statusMessage(String(details));
  const message = UNCONNECTED.test(String(details)) ? text : `the ${call} ended with ${codeName}: ${text}`;
  return new LonglineError(reasonOfGrpcCode(code), message, statusDetails(metadata));
}

/**
 * A status message as its sender wrote it, or why there was none to send it. Senders may percent-encode any character
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses); grpc-js leaves `:`, `;`, `,` and others so.
 */
export function statusMessage(details: string): string {
  const message = UNCONNECTED.exec(details)?.[1] ?? details;
  try {
    return decodeURIComponent(message);
  } catch {
    // A percent sign that encodes nothing: it was decoded before.
    return message;
  }
}
