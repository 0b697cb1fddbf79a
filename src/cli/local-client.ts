// Calls to the agent of this host over its unix socket.
import { join } from 'node:path';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { LonglineError, reasonOfGrpcCode } from '../core/errors.ts';
import { grpcMethodDefinition } from '../core/grpc-definition.ts';

const UNAVAILABLE = 14;

/** Where the socket is: as told, else "agent.sock" in the data folder. */
export function localSocketPath(told: string | undefined, dataDir: string): string {
  return told ?? join(dataDir, 'agent.sock');
}

/** One connection to the agent's socket. Dispose to close it. */
export class LocalClient implements Disposable {
  readonly #path: string;
  readonly #timeoutMs: number;
  readonly #client: Client;

  constructor(path: string, timeoutMs: number) {
    this.#path = path;
    this.#timeoutMs = timeoutMs;
    this.#client = new Client(`unix:${path}`, credentials.createInsecure());
  }

  /** A unary call. Throws `unavailable` if no agent listens there. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const { path, requestSerialize, responseDeserialize } = grpcMethodDefinition(method);
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<O>>();
    this.#client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      create(method.input, request),
      { deadline: Date.now() + this.#timeoutMs },
      (error, response) => {
        if (error !== null) reject(this.#errorOf(error));
        else resolve(response as MessageShape<O>);
      },
    );
    return await promise;
  }

  #errorOf(error: ServiceError): LonglineError {
    if (error.code !== UNAVAILABLE)
      return new LonglineError(reasonOfGrpcCode(error.code), error.details, { cause: error });
    const message = `no agent answers at ${this.#path}; is it running, and may this user open its socket? Name another with --socket`;
    return new LonglineError('unavailable', message, { cause: error });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
