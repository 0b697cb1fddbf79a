// An agent's side of the port, as thin as can be: key, request, enrolment over Connect, and a grpc-js client.
import { randomUUID } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import 'reflect-metadata';

import type { DescService, MessageShape } from '@bufbuild/protobuf';
import { type Client as ConnectClient, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { Client, credentials, type Metadata, type ServiceError } from '@grpc/grpc-js';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import {
  EnrollmentService,
  type RenewRequestSchema,
  type RenewResponseSchema,
} from '#gen/longline/link/v1/enrollment_pb.js';
import {
  AgentLinkService,
  type AgentMessageSchema,
  type ControllerMessageSchema,
} from '#gen/longline/link/v1/link_pb.js';
import { grpcServiceDefinition } from '../../../src/core/grpc-definition.ts';
import { newTestKeys, pemOf, privateKeyPem, TEST_KEY_ALGORITHM } from '../../fixtures/pem.ts';
import type { FrontFixture } from './front-fixture.ts';

/** PEM key and DER request. */
export interface KeyAndRequest {
  readonly key: string;
  readonly request: Uint8Array;
}

/** A new key and a request for a certificate over it. */
export async function newKeyAndRequest(commonName = 'agent'): Promise<KeyAndRequest> {
  const keys = await newTestKeys();
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [commonName] }],
    keys,
    signingAlgorithm: TEST_KEY_ALGORITHM,
  });
  return { key: await privateKeyPem(keys.privateKey), request: new Uint8Array(request.rawData) };
}

/** PEM credentials of an enrolled agent. */
export interface AgentCredentials {
  readonly agentId: string;
  readonly instanceId: string;
  readonly key: string;
  readonly chain: string;
  readonly ca: string;
}

/** DER certificates as PEM. */
export function toPem(certificates: readonly Uint8Array[]): string {
  return certificates.map((der) => pemOf('CERTIFICATE', der)).join('');
}

/** Calls `use` with a Connect client of the port's gRPC protocol; closes the connection afterwards. */
export async function withConnect<S extends DescService, T>(
  fixture: Pick<FrontFixture, 'url' | 'ca'>,
  service: S,
  use: (client: ConnectClient<S>) => Promise<T>,
  token?: string,
): Promise<T> {
  const session = new Http2SessionManager(fixture.url, {}, { ca: fixture.ca });
  const transport = createGrpcTransport({
    baseUrl: fixture.url,
    sessionManager: session,
    interceptors: [
      (next) => (request) => {
        if (token !== undefined) request.header.set('authorization', `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  try {
    return await use(createClient(service, transport));
  } finally {
    session.abort();
  }
}

/** Enrols over the port with a token's secret. */
export async function enrollAgent(
  fixture: Pick<FrontFixture, 'url' | 'ca'>,
  agentId: string,
  secret: string,
): Promise<AgentCredentials> {
  const { key, request } = await newKeyAndRequest(agentId);
  const instanceId = randomUUID();
  const response = await withConnect(fixture, EnrollmentService, (client) =>
    client.enroll({ token: secret, agentId, certificateRequest: request, instanceId }),
  );
  return { agentId, instanceId, key, chain: toPem(response.certificateChain), ca: toPem(response.trustedCertificates) };
}

type ControlStream = ReturnType<typeof openControl>;

/** A grpc-js client for the agents' stack. Close it. */
export class AgentClient implements Disposable {
  readonly #client: Client;

  constructor(address: string, identity: AgentCredentials | undefined) {
    const channel =
      identity === undefined
        ? credentials.createInsecure()
        : credentials.createSsl(Buffer.from(identity.ca), Buffer.from(identity.key), Buffer.from(identity.chain));
    this.#client = new Client(address, channel, { 'grpc.enable_retries': 0, 'grpc.use_local_subchannel_pool': 1 });
  }

  /** Opens a Control stream. */
  control(metadata?: Metadata): ControlStream {
    return openControl(this.#client, metadata);
  }

  /** Opens Telemetry or Tunnel and gives the error that it ends with. */
  async failureOf(method: 'telemetry' | 'tunnel'): Promise<ServiceError> {
    const { path, requestSerialize, responseDeserialize } = grpcServiceDefinition(AgentLinkService)[method]!;
    const stream = this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    return await failureOf(stream);
  }

  /** EnrollmentService.Renew. */
  async renew(certificateRequest: Uint8Array): Promise<MessageShape<typeof RenewResponseSchema>> {
    const { path, requestSerialize, responseDeserialize } = grpcServiceDefinition(EnrollmentService)['renew']!;
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<typeof RenewResponseSchema>>();
    const request = { $typeName: 'longline.link.v1.RenewRequest', certificateRequest } as MessageShape<
      typeof RenewRequestSchema
    >;
    this.#client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error, response) => {
      if (error === null) resolve(response as MessageShape<typeof RenewResponseSchema>);
      else reject(error);
    });
    return await promise;
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

function openControl(client: Client, metadata?: Metadata) {
  const { path, requestSerialize, responseDeserialize } = grpcServiceDefinition(AgentLinkService)['control']!;
  const serialize = requestSerialize as (message: MessageShape<typeof AgentMessageSchema>) => Buffer;
  const deserialize = responseDeserialize as (bytes: Buffer) => MessageShape<typeof ControllerMessageSchema>;
  return metadata === undefined
    ? client.makeBidiStreamRequest(path, serialize, deserialize)
    : client.makeBidiStreamRequest(path, serialize, deserialize, metadata);
}

/** The error that a stream ends with; rejects if it sends a message or ends well. */
export async function failureOf(stream: EventEmitter): Promise<ServiceError> {
  const { promise, resolve, reject } = Promise.withResolvers<ServiceError>();
  stream.on('error', resolve);
  stream.on('data', () => reject(new Error('got a message')));
  stream.on('end', () => setImmediate(() => reject(new Error('ended without an error'))));
  return await promise;
}

/** Sends a heartbeat on Control and gives the "reason" that the fixture's echo answers with. */
export async function echo(stream: ControlStream): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  stream.once('error', reject);
  stream.once('data', ({ message }: MessageShape<typeof ControllerMessageSchema>) => {
    resolve(message.case === 'drain' ? message.value.reason : '');
  });
  stream.write({ $typeName: 'longline.link.v1.AgentMessage', message: { case: undefined } });
  return await promise;
}
