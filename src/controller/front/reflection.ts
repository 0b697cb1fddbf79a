// Server reflection, v1 and v1alpha, on the operators' stack.
import type { ConnectRouter } from '@connectrpc/connect';
import { ServerReflection } from '#gen/grpc/reflection/v1/reflection_pb.js';
import { ServerReflection as ServerReflectionV1Alpha } from '#gen/grpc/reflection/v1alpha/reflection_pb.js';
import { answerReflection, type DescriptorIndex } from '../../core/grpc-reflection.ts';

/** Adds both versions of ServerReflection to a router. */
export function reflectionRoutes(router: ConnectRouter, index: DescriptorIndex): void {
  router.service(ServerReflection, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        yield {
          validHost: request.host,
          originalRequest: request,
          messageResponse: answerReflection(index, request.messageRequest),
        };
      }
    },
  });
  router.service(ServerReflectionV1Alpha, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        yield {
          validHost: request.host,
          originalRequest: request,
          messageResponse: answerReflection(index, request.messageRequest),
        };
      }
    },
  });
}
