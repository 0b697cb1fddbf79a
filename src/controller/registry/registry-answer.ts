// How the registry answers: JSON, errors as {"code", "message"} with the status that fits, and bytes as fast as they are read.
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Clock } from '../../core/clock.ts';
import type { LonglineError, Reason } from '../../core/errors.ts';
import { drained } from '../front/drained.ts';
import type { HttpRequest, HttpResponse } from '../front/http-handlers.ts';

/** How long somebody whose request was refused may go on sending it. */
const LINGER_MS = 10_000;

/** Status and code, as Connect names it, by reason. */
const STATUS: Readonly<Record<Reason, readonly [number, string]>> = {
  invalid: [400, 'invalid_argument'],
  identity: [401, 'unauthenticated'],
  policy: [403, 'permission_denied'],
  not_found: [404, 'not_found'],
  already_exists: [409, 'already_exists'],
  wrong_state: [409, 'failed_precondition'],
  stale: [409, 'aborted'],
  limit: [429, 'resource_exhausted'],
  cancelled: [499, 'canceled'],
  internal: [500, 'internal'],
  unsupported: [501, 'unimplemented'],
  unavailable: [503, 'unavailable'],
  late: [504, 'deadline_exceeded'],
};

const COMMON = { 'cache-control': 'no-cache', 'x-content-type-options': 'nosniff' };

/** Writes a whole answer; nothing happens if there is one already. */
export function answer(
  request: HttpRequest,
  response: HttpResponse,
  status: number,
  headers: OutgoingHttpHeaders,
  body?: string,
): void {
  if (response.headersSent || response.destroyed) return;
  const bytes = body === undefined ? undefined : Buffer.from(body);
  const length = bytes === undefined ? {} : { 'content-type': 'application/json', 'content-length': bytes.length };
  const all: OutgoingHttpHeaders = { ...COMMON, ...length, ...headers };
  (response as ServerResponse).writeHead(status, all);
  if (bytes !== undefined && request.method !== 'HEAD') (response as ServerResponse).write(bytes);
  endAfter(request, response);
}

/**
 * Ends an answer once the request is over, for a while at most, and keeps nothing of what still comes: a connection that is cut
 * while its peer sends may lose it the answer. Over HTTP/2 only the one stream ends.
 */
function endAfter(request: HttpRequest, response: HttpResponse): void {
  if ('stream' in request || request.complete || request.destroyed) {
    response.end();
    return;
  }
  const timer = setTimeout(() => request.destroy(), LINGER_MS).unref();
  const end = (): void => {
    clearTimeout(timer);
    response.end();
  };
  request.once('end', end);
  request.once('close', end);
  request.resume();
}

/** Writes an error. */
export function refuse(request: HttpRequest, response: HttpResponse, error: LonglineError): void {
  const [status, code] = STATUS[error.reason];
  const headers: Record<string, string | number> = {};
  if (error.reason === 'identity') headers['www-authenticate'] = 'Bearer';
  if (error.retryAfterMs !== undefined) headers['retry-after'] = Math.ceil(error.retryAfterMs / 1000);
  // A limit that waiting doesn't change is one of size.
  const fits = error.reason === 'limit' && !error.retryable ? 413 : status;
  answer(request, response, fits, headers, JSON.stringify({ code, message: error.message }));
}

/** Writes bytes as fast as they are read, and ends the answer. Throws `late` for somebody who doesn't read. */
export async function sendBytes(
  response: HttpResponse,
  status: number,
  headers: OutgoingHttpHeaders,
  bytes: AsyncIterable<Uint8Array>,
  clock: Clock,
): Promise<void> {
  (response as ServerResponse).writeHead(status, { ...COMMON, ...headers });
  let open = true;
  response.once('close', () => {
    open = false;
  });
  for await (const piece of bytes) {
    if (!open) return;
    if (!(response as ServerResponse).write(piece)) await drained(response, clock);
  }
  response.end();
}
