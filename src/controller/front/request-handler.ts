// From Node's HTTP request to a Connect handler and back. connect-node's own adapter throws out of the request event for a
// request without a usable authority, which ends the process, and writes failures to the console; hence this one.

import type { ServerResponse } from 'node:http';
import { constants } from 'node:http2';
import { Code, ConnectError, createConnectRouter, createContextValues, type Interceptor } from '@connectrpc/connect';
import type { UniversalHandler } from '@connectrpc/connect/protocol';
import {
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from '@connectrpc/connect-node';
import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { noTracer, type Tracer } from '../../core/tracer.ts';
import { setFailureLimit } from '../identity/authorization.ts';
import { connectionOf } from './connection.ts';
import { loggable, toConnectError } from './errors.ts';
import type { HttpRequest as Request, RequestHandler, HttpResponse as Response } from './http-handlers.ts';
import type { FrontLimits } from './limits.ts';
import { type PlainAnswer, refusalAnswer } from './refusal.ts';
import type { OperatorRoutes } from './routes.ts';
import { traceCalls } from './traced-calls.ts';

/** What the handler is made from. */
export interface RequestHandlerOptions {
  readonly routes: OperatorRoutes;
  /** Authenticates and authorises; runs inside of the error conversion. */
  readonly authorize: Interceptor;
  /** Counts calls; runs around all else. */
  readonly meter: Interceptor | undefined;
  /** Answers what is no RPC; 404 if undefined. */
  readonly fallback: RequestHandler | undefined;
  /** Answers all that agents ask over HTTP/1.1; 404 if undefined. */
  readonly agentPages: RequestHandler | undefined;
  readonly limits: FrontLimits;
  /** Ends streams at shutdown with its reason. */
  readonly shutdown: AbortSignal;
  /** Traces nothing if undefined. */
  readonly tracer?: Tracer | undefined;
  readonly log: Logger;
}

/** Makes the request handler of the operators' stack. */
export function createRequestHandler(options: RequestHandlerOptions): RequestHandler {
  const { limits, log, shutdown, tracer = noTracer } = options;
  const router = createConnectRouter({
    interceptors: [
      ...(tracer === noTracer ? [] : [traceCalls(tracer)]),
      ...(options.meter === undefined ? [] : [options.meter]),
      convertErrors(log),
      options.authorize,
    ],
    acceptCompression: [compressionGzip],
    readMaxBytes: limits.maxMessageBytes,
    writeMaxBytes: limits.maxMessageBytes,
    shutdownSignal: shutdown,
  });
  options.routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const dispatch: RequestHandler = (request, response) => {
    const { agents, refusal } = connectionOf(request.socket) ?? {};
    if (agents !== undefined) return (options.agentPages ?? notFound)(request, response);
    const handler = handlers.get(request.url?.split('?', 1)[0] ?? '');
    if (refusal !== undefined) respond(response, refusalAnswer(request.headers, refusal));
    else if (handler !== undefined) handle(handler, request, response, limits, log);
    else if (options.fallback !== undefined) options.fallback(request, response);
    else notFound(request, response);
  };
  return (request, response) => {
    try {
      dispatch(request, response);
    } catch (error) {
      log.debug('request can not be handled', { err: describeError(error) });
      respond(response, { status: 400, headers: {}, body: '' });
    }
  };
}

function notFound(_request: Request, response: Response): void {
  respond(response, { status: 404, headers: {}, body: '' });
}

function handle(
  handler: UniversalHandler,
  request: Request,
  response: Response,
  limits: FrontLimits,
  log: Logger,
): void {
  const values = createContextValues();
  const connection = connectionOf(request.socket);
  if (connection !== undefined) setFailureLimit(values, connection.failureLimit);
  const universal = universalRequestFromNodeRequest(request, response, undefined, values);
  const streamed = handler.method.methodKind === 'bidi_streaming' || handler.method.methodKind === 'client_streaming';
  if (!streamed) limitBody(request, limits.requestTimeoutMs);
  handler(universal)
    .then((answer) => universalResponseToNodeResponse(answer, response))
    .catch((error: unknown) => {
      // The peer left, or its request was torn: there is nobody to tell.
      log.debug('request ended early', { method: handler.requestPath, err: describeError(error) });
      if (!response.headersSent) respond(response, { status: 500, headers: {}, body: '' });
      else response.destroy();
    });
}

/** Ends a request whose body doesn't arrive in time. HTTP/1.1 has its own timer in Node's server. */
function limitBody(request: Request, limitMs: number): void {
  if (!('stream' in request)) return;
  const timer = setTimeout(() => request.stream.close(constants.NGHTTP2_CANCEL), limitMs);
  const clear = () => clearTimeout(timer);
  request.once('end', clear);
  request.once('close', clear);
}

function respond(response: Response, { status, headers, body, trailers }: PlainAnswer): void {
  if (response.headersSent || response.destroyed) return;
  const length = trailers === undefined ? { 'content-length': Buffer.byteLength(body) } : {};
  (response as ServerResponse).writeHead(status, { ...headers, ...length });
  if (trailers !== undefined) (response as ServerResponse).addTrailers(trailers as Record<string, string>);
  response.end(body);
}

/** Turns what handlers throw into Connect errors with details, and logs faults of ours. */
function convertErrors(log: Logger): Interceptor {
  return (next) => async (request) => {
    const convert = (thrown: unknown): ConnectError => {
      if (loggable(thrown)) {
        const method = `${request.service.typeName}/${request.method.name}`;
        log.error('call failed', { method, err: describeError(thrown) });
      }
      return toConnectError(thrown);
    };
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: convertStream(response.message, convert) } : response;
    } catch (error) {
      throw convert(error);
    }
  };
}

async function* convertStream<T>(messages: AsyncIterable<T>, convert: (thrown: unknown) => ConnectError) {
  try {
    yield* messages;
  } catch (error) {
    throw convert(error);
  }
}

/** The reason streams end with at shutdown. */
export function shutdownReason(): ConnectError {
  return new ConnectError('the controller is shutting down; connect again', Code.Unavailable);
}
