// A Protobuf service as @grpc/grpc-js wants it described, for clients and servers alike. Pure: it moves no bytes.
import {
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';

/** One method in the form of grpc-js's MethodDefinition. */
export interface GrpcMethodDefinition {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (message: MessageShape<DescMessage>) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => MessageShape<DescMessage>;
  readonly responseSerialize: (message: MessageShape<DescMessage>) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => MessageShape<DescMessage>;
}

/** A service in the form of grpc-js's ServiceDefinition: methods by their local name ("getStatus"). */
export function grpcServiceDefinition(service: DescService): Readonly<Record<string, GrpcMethodDefinition>> {
  return Object.fromEntries(service.methods.map((method) => [method.localName, grpcMethodDefinition(method)]));
}

/** One method of a service. */
export function grpcMethodDefinition(method: DescMethod): GrpcMethodDefinition {
  const kind = method.methodKind;
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: kind === 'client_streaming' || kind === 'bidi_streaming',
    responseStream: kind === 'server_streaming' || kind === 'bidi_streaming',
    ...codec('request', method.input),
    ...codec('response', method.output),
  } as GrpcMethodDefinition;
}

function codec(side: 'request' | 'response', schema: DescMessage): Record<string, unknown> {
  return {
    [`${side}Serialize`]: (message: MessageShape<DescMessage>) => {
      const bytes = toBinary(schema, message);
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    },
    [`${side}Deserialize`]: (bytes: Buffer) => fromBinary(schema, bytes),
  };
}
