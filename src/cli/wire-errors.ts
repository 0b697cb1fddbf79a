// What a call to the controller throws, as the LonglineError it stands for.
import { ConnectError } from '@connectrpc/connect';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '#gen/google/rpc/error_details_pb.js';
import { GRPC_CODE, LonglineError, type Reason, reasonOfGrpcCode } from '../core/errors.ts';

/** TLS failures that mean that the peer is not the controller the context was made for. */
const WRONG_PEER = /CERT|UNABLE_TO_|SELF_SIGNED|ERR_TLS|ERR_SSL/;

/** Converts ConnectErrors; other values pass unchanged. `url` is for messages about the connection. */
export function fromWire(thrown: unknown, url: string): unknown {
  if (!(thrown instanceof ConnectError)) return thrown;
  const info = thrown.findDetails(ErrorInfoSchema).find((one) => one.domain === 'longline');
  const named = info?.reason.toLowerCase();
  if (info === undefined) {
    const cause = nodeCause(thrown);
    if (cause !== undefined) return connectionError(cause, url, thrown);
  }
  const retryDelay = thrown.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const violations = thrown.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations);
  const { rule, retryable } = info?.metadata ?? {};
  const reason =
    named !== undefined && Object.hasOwn(GRPC_CODE, named) ? (named as Reason) : reasonOfGrpcCode(thrown.code);
  return new LonglineError(reason, thrown.rawMessage, {
    cause: thrown,
    violations: violations.map(({ field, description }) => ({ field, description })),
    ...(rule === undefined ? {} : { rule }),
    ...(retryable === undefined ? {} : { retryable: retryable === 'true' }),
    ...(retryDelay === undefined
      ? {}
      : { retryAfterMs: Number(retryDelay.seconds) * 1000 + Math.ceil(retryDelay.nanos / 1e6) }),
  });
}

function connectionError(cause: NodeJS.ErrnoException, url: string, thrown: ConnectError): LonglineError {
  const code = cause.code ?? '';
  if (WRONG_PEER.test(code)) {
    const message = `${url} did not prove to be the controller of this context: ${cause.message}`;
    return new LonglineError('identity', message, { cause: thrown });
  }
  const message = `the controller at ${url} can't be reached: ${cause.message || code}; check that it runs`;
  return new LonglineError('unavailable', message, { cause: thrown });
}

/** The system's own error below a ConnectError, if there is one. An AggregateError stands for its first. */
function nodeCause(thrown: ConnectError): NodeJS.ErrnoException | undefined {
  let at: unknown = thrown.cause;
  for (let depth = 0; depth < 5 && at instanceof Error; depth++) {
    if (at instanceof AggregateError && at.errors[0] instanceof Error) return at.errors[0];
    if (typeof (at as NodeJS.ErrnoException).code === 'string') return at;
    at = at.cause;
  }
  return undefined;
}
