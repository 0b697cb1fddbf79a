// Serves a Protobuf service on a grpc-js server with typed handlers. A handler is an async function: what it throws ends
// the call with the status that errors.ts makes of it, and faults of ours are logged.
import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import type {
  Server,
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  sendUnaryData,
  UntypedHandleCall,
} from '@grpc/grpc-js';
import { describeError } from '../../core/errors.ts';
import { grpcServiceDefinition } from '../../core/grpc-definition.ts';
import type { Logger } from '../../core/logger.ts';
import { loggable, toGrpcStatus } from './errors.ts';

/** What services are added to; a grpc-js Server is one. */
export type GrpcServiceRegistry = Pick<Server, 'addService'>;

/**
 * Handler of one method. Streaming handlers get grpc-js's own stream: write only while `write` returns true, else wait
 * for `drain`; the `cancelled` event tells that the peer left. The call ends when the promise settles. Read with `messagesOf`:
 * a plain `for await` over a grpc-js stream destroys it at the end of the requests, and the peer never gets a status.
 */
export type GrpcHandler<M extends DescMethod> =
  M extends DescMethodUnary<infer I, infer O>
    ? (call: ServerUnaryCall<MessageShape<I>, MessageShape<O>>) => Promise<MessageInitShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (call: ServerWritableStream<MessageShape<I>, MessageShape<O>>) => Promise<void>
      : M extends DescMethodClientStreaming<infer I, infer O>
        ? (call: ServerReadableStream<MessageShape<I>, MessageShape<O>>) => Promise<MessageInitShape<O>>
        : M extends DescMethodBiDiStreaming<infer I, infer O>
          ? (call: ServerDuplexStream<MessageShape<I>, MessageShape<O>>) => Promise<void>
          : never;

/** Handlers of some or all methods of a service, by local name ("control"); the others answer UNIMPLEMENTED. */
export type GrpcHandlers<S extends DescService> = { readonly [K in keyof S['method']]?: GrpcHandler<S['method'][K]> };

/** The requests of a streaming call, in order, leaving the call open for answers and status. */
export function messagesOf<T>(call: {
  iterator(options: { destroyOnReturn: boolean }): AsyncIterable<T>;
}): AsyncIterable<T> {
  return call.iterator({ destroyOnReturn: false });
}

type Message = MessageShape<DescMessage>;
type SingleAnswer = (call: unknown) => Promise<MessageInitShape<DescMessage>>;
type StreamAnswer = (call: unknown) => Promise<void>;

/** Decoders of requests by local name of the method, where the general one won't do. */
export type GrpcDecoders<S extends DescService> = {
  readonly [K in keyof S['method']]?: (bytes: Buffer) => MessageShape<S['method'][K]['input']>;
};

/** Adds a service. Call once per service, before the first connection. */
export function serveGrpc<S extends DescService>(
  registry: GrpcServiceRegistry,
  service: S,
  handlers: GrpcHandlers<S>,
  log: Logger,
  decoders: GrpcDecoders<S> = {},
): void {
  const implementation: Record<string, UntypedHandleCall> = {};
  for (const method of service.methods) {
    const handler = (handlers as Readonly<Record<string, unknown>>)[method.localName];
    if (handler === undefined) continue;
    const failed = failureLog(log, method);
    const answersOnce = method.methodKind === 'unary' || method.methodKind === 'client_streaming';
    implementation[method.localName] = answersOnce
      ? singleAnswer(method, handler as SingleAnswer, failed)
      : streamAnswer(handler as StreamAnswer, failed);
  }
  const definition = Object.entries(grpcServiceDefinition(service)).map(([name, method]) => {
    const requestDeserialize = (decoders as Readonly<Record<string, unknown>>)[name] ?? method.requestDeserialize;
    return [name, { ...method, requestDeserialize }];
  });
  registry.addService(Object.fromEntries(definition) as ServiceDefinition, implementation);
}

type FailureLog = (thrown: unknown) => void;

function failureLog(log: Logger, method: DescMethod): FailureLog {
  return (thrown) => {
    if (!loggable(thrown)) return;
    log.error('call failed', { method: `${method.parent.typeName}/${method.name}`, err: describeError(thrown) });
  };
}

function singleAnswer(method: DescMethod, handler: SingleAnswer, failed: FailureLog): UntypedHandleCall {
  return (call: unknown, callback: sendUnaryData<Message>) => {
    handler(call).then(
      (response) => callback(null, create(method.output, response)),
      (thrown: unknown) => {
        failed(thrown);
        callback(toGrpcStatus(thrown));
      },
    );
  };
}

function streamAnswer(handler: StreamAnswer, failed: FailureLog): UntypedHandleCall {
  return (call: ServerWritableStream<Message, Message>) => {
    handler(call).then(
      () => call.end(),
      (thrown: unknown) => {
        failed(thrown);
        // grpc-js ends a streaming call with the status of an `error` event; a call that is gone takes none.
        if (!call.destroyed) call.emit('error', Object.assign(new Error('call failed'), toGrpcStatus(thrown)));
      },
    );
  };
}
