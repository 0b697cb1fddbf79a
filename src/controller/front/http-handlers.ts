// What answers requests on the operators' stack beside RPC: plain HTTP handlers, and those that take a connection over.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Duplex } from 'node:stream';

/** A request over HTTP/1.1 or HTTP/2. */
export type HttpRequest = IncomingMessage | Http2ServerRequest;

/** Its answer. */
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** Handles one request; never throws. */
export type RequestHandler = (request: HttpRequest, response: HttpResponse) => void;

/** Takes HTTP/1.1 connections over that ask for another protocol. Disposed when calls are to end at shutdown. */
export interface UpgradeHandler extends Disposable {
  /** Owns the socket from now on. Never throws. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}
