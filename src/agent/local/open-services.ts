// Reflection and health of the local service, so that generic gRPC tools work on the host. Own thin code in place of the
// two packages for grpc-js: each brings a second Protobuf runtime and parses .proto files from its folder when it is loaded,
// which an idle agent pays for in memory and a bundle can't hold.
import { create, type DescMessage, type Message, type MessageInitShape } from '@bufbuild/protobuf';
import type { Server, ServerDuplexStream, ServerUnaryCall, ServerWritableStream, sendUnaryData } from '@grpc/grpc-js';
import { ServerReflection, ServerReflectionResponseSchema } from '#gen/grpc/reflection/v1/reflection_pb.js';
import {
  ServerReflectionResponseSchema as ServerReflectionResponseV1AlphaSchema,
  ServerReflection as ServerReflectionV1Alpha,
} from '#gen/grpc/reflection/v1alpha/reflection_pb.js';
import {
  Health,
  type HealthCheckRequest,
  type HealthCheckResponse,
  HealthCheckResponseSchema,
  type HealthListResponse,
  HealthListResponseSchema,
  HealthCheckResponse_ServingStatus as Status,
} from '#gen/health/v1/health_pb.js';
import { GRPC_CODE } from '../../core/errors.ts';
import { grpcServiceDefinition } from '../../core/grpc-definition.ts';
import { answerReflection, type DescriptorIndex, type ReflectionQuestion } from '../../core/grpc-reflection.ts';
import type { HealthState } from '../../core/health-state.ts';

/** Adds both versions of ServerReflection; their messages differ in name only. */
export function addReflection(server: Server, index: DescriptorIndex): void {
  server.addService(grpcServiceDefinition(ServerReflection), {
    serverReflectionInfo: reflect(index, ServerReflectionResponseSchema),
  });
  server.addService(grpcServiceDefinition(ServerReflectionV1Alpha), {
    serverReflectionInfo: reflect(index, ServerReflectionResponseV1AlphaSchema),
  });
}

interface ReflectionRequest {
  readonly host: string;
  readonly messageRequest: ReflectionQuestion;
}

function reflect(index: DescriptorIndex, response: DescMessage) {
  return (call: ServerDuplexStream<ReflectionRequest, Message>): void => {
    call.on('data', (request: ReflectionRequest) => {
      const messageResponse = answerReflection(index, request.messageRequest);
      const answer = { validHost: request.host, originalRequest: request, messageResponse };
      // Questions wait while the caller reads slowly, so that answers don't pile up.
      if (!call.write(create(response, answer as MessageInitShape<DescMessage>))) {
        call.pause();
        call.once('drain', () => call.resume());
      }
    });
    call.once('end', () => call.end());
    // A caller that is gone needs no answer.
    call.on('error', () => call.destroy());
  };
}

/** Adds grpc.health.v1.Health. */
export function addHealth(server: Server, state: HealthState): void {
  server.addService(grpcServiceDefinition(Health), {
    check: (
      call: ServerUnaryCall<HealthCheckRequest, HealthCheckResponse>,
      reply: sendUnaryData<HealthCheckResponse>,
    ) => {
      const serving = state.status(call.request.service);
      if (serving !== undefined) reply(null, checkResponse(serving));
      else
        reply({
          code: GRPC_CODE.not_found,
          details: `service: ${JSON.stringify(call.request.service.slice(0, 200))} isn't served here`,
        });
    },
    watch: (call: ServerWritableStream<HealthCheckRequest, HealthCheckResponse>) => {
      const gone = new AbortController();
      call.once('cancelled', () => gone.abort());
      call.once('error', () => gone.abort());
      void watch(call, state, gone.signal);
    },
    list: (_call: unknown, reply: sendUnaryData<HealthListResponse>) => {
      const statuses = Object.fromEntries(
        [...state.entries()].map(([name, serving]) => [name, checkResponse(serving)]),
      );
      reply(null, create(HealthListResponseSchema, { statuses }));
    },
  });
}

/** Changes are few and the newest counts: one that the caller is slow to read waits in the call's own buffer. */
async function watch(
  call: ServerWritableStream<HealthCheckRequest, HealthCheckResponse>,
  state: HealthState,
  signal: AbortSignal,
): Promise<void> {
  for await (const serving of state.watch(call.request.service, signal)) call.write(checkResponse(serving));
  call.end();
}

function checkResponse(serving: boolean | undefined): HealthCheckResponse {
  const status = serving === undefined ? Status.SERVICE_UNKNOWN : serving ? Status.SERVING : Status.NOT_SERVING;
  return create(HealthCheckResponseSchema, { status });
}
