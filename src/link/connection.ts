// One HTTP/2 connection to the controller. It is dialled when the first call is opened, never redials, and is torn down
// whole by its owner, at whatever stage it hangs.
import type { DescMessage, DescMethodBiDiStreaming, DescMethodServerStreaming, MessageShape } from '@bufbuild/protobuf';
import { type Client, type Interceptor, Metadata } from '@grpc/grpc-js';
import { noTracer, type Tracer } from '../core/tracer.ts';
import { tracedClient } from '../telemetry/tracing/grpc-calls.ts';
import { DialCredentials, type TlsSessionCache } from './dial-credentials.ts';
import {
  type ChannelLimits,
  type DuplexCall,
  type IncomingCall,
  openChannel,
  openDuplex,
  openIncoming,
} from './grpc-client.ts';
import type { LinkTarget } from './ports.ts';

/** Made per attempt. The owner disposes it. */
export class Connection implements Disposable {
  readonly #credentials: DialCredentials;
  readonly #client: Client;
  readonly #metadata = new Metadata();
  readonly #traced: Interceptor[];

  /** Throws `invalid` or `identity` if the target can't be used; does no I/O. */
  constructor(target: LinkTarget, sessions: TlsSessionCache, limits: ChannelLimits, tracer: Tracer = noTracer) {
    this.#credentials = new DialCredentials(target, sessions);
    this.#client = openChannel(this.#credentials.authority, this.#credentials, limits);
    this.#traced = tracedClient(tracer, this.#credentials.authority);
    if (target.credentials.kind === 'api_key') {
      this.#metadata.set('authorization', `Bearer ${target.credentials.apiKey}`);
      this.#metadata.set('longline-agent-id', target.agentId);
    }
  }

  /** Opens a call on this connection; see `openDuplex`. */
  call<I extends DescMessage, O extends DescMessage, In extends MessageShape<O> = MessageShape<O>>(
    method: DescMethodBiDiStreaming<I, O>,
    decode?: (bytes: Uint8Array) => In,
  ): DuplexCall<MessageShape<I> | Uint8Array, In> {
    return openDuplex(this.#client, method, this.#metadata.clone(), decode);
  }

  /** Opens a call that asks once and is answered by a stream; see `openIncoming`. */
  ask<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
  ): IncomingCall<MessageShape<O>> {
    return openIncoming(this.#client, method, request, this.#metadata.clone(), this.#traced);
  }

  /** Ends all calls and closes the sockets, at once. May be called twice. */
  [Symbol.dispose](): void {
    this.#client.close();
    this.#credentials.destroySockets();
  }
}
