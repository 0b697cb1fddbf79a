// Answers every request of a connection whose client certificate is refused. TLS 1.3 lets a server judge a certificate
// only after the client took the handshake for done, so the clear answer is an RPC status, not a TLS alert.
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { GRPC_CODE, type LonglineError } from '../../core/errors.ts';

/** A whole answer. */
export interface PlainAnswer {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: string;
  readonly trailers?: OutgoingHttpHeaders;
}

/** The refusal in the protocol that the request speaks: gRPC, gRPC-Web, or, for anything else, Connect's JSON. */
export function refusalAnswer(headers: IncomingHttpHeaders, error: LonglineError): PlainAnswer {
  const contentType = headers['content-type'] ?? '';
  const code = String(GRPC_CODE[error.reason]);
  if (!contentType.startsWith('application/grpc')) {
    const body = JSON.stringify({ code: 'unauthenticated', message: error.message });
    return { status: 401, headers: { 'content-type': 'application/json' }, body };
  }
  const status = { 'grpc-status': code, 'grpc-message': encodeURI(error.message) };
  return contentType.startsWith('application/grpc-web')
    ? { status: 200, headers: { 'content-type': contentType, ...status }, body: '' }
    : { status: 200, headers: { 'content-type': contentType }, body: '', trailers: status };
}
