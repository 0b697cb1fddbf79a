// One unary call on a connection of its own, for what is asked once a day: enrolment and renewal. It retries nothing.
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { LonglineError, reasonOfGrpcCode } from '../core/errors.ts';
import { grpcMethodDefinition } from '../core/grpc-definition.ts';
import { noTracer, type Tracer } from '../core/tracer.ts';
import { tracedClient } from '../telemetry/tracing/grpc-calls.ts';
import { DialCredentials, type DialTarget, TlsSessionCache } from './dial-credentials.ts';
import { openChannel, statusMessage } from './grpc-client.ts';
import { LINK_LIMITS } from './link-limits.ts';

/** How long a call may take, what ends it early, and who traces it. */
export interface UnaryBounds {
  /** Over connecting, asking and the answer. */
  readonly limitMs: number;
  readonly signal: AbortSignal;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
}

/** Asks and gives the answer. Throws a LonglineError with the controller's reason, or `unavailable` if it can't be had. */
export async function callOnce<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  target: DialTarget,
  { limitMs, signal, tracer = noTracer }: UnaryBounds,
): Promise<MessageShape<O>> {
  signal.throwIfAborted();
  const credentials = new DialCredentials(target, new TlsSessionCache());
  const channel = openChannel(credentials.authority, credentials, LINK_LIMITS.channel);
  const definition = grpcMethodDefinition(method);
  const { promise, resolve, reject } = Promise.withResolvers<MessageShape<O>>();
  try {
    const call = channel.makeUnaryRequest(
      definition.path,
      definition.requestSerialize,
      definition.responseDeserialize as (bytes: Buffer) => MessageShape<O>,
      create(method.input, request),
      new Metadata(),
      { deadline: Date.now() + limitMs, interceptors: tracedClient(tracer, credentials.authority) },
      (error, response) => {
        if (error === null) resolve(response!);
        else reject(refusal(credentials.authority, error));
      },
    );
    const onAbort = () => call.cancel();
    signal.addEventListener('abort', onAbort, { once: true });
    return await promise.finally(() => signal.removeEventListener('abort', onAbort));
  } finally {
    channel.close();
    credentials.destroySockets();
  }
}

function refusal(authority: string, error: ServiceError): LonglineError {
  // A peer that speaks no gRPC, or says nothing that means anything.
  const reason = error.code === status.UNKNOWN ? 'unavailable' : reasonOfGrpcCode(error.code);
  // One that was too slow now may be faster later; nobody else's deadline is told by it.
  const detail = reason === 'late' ? { retryable: true } : {};
  return new LonglineError(reason, `controller ${authority}: ${statusMessage(error.details)}`, detail);
}
