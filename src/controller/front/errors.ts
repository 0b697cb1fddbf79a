// The one conversion between LonglineError and what travels: Connect errors and gRPC status, with google.rpc details.
// Unknown causes never travel; whoever converts logs them first (see `loggable`).
import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { anyPack, durationFromMs } from '@bufbuild/protobuf/wkt';
import { type Code, ConnectError } from '@connectrpc/connect';
import { Metadata, type StatusObject } from '@grpc/grpc-js';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '#gen/google/rpc/error_details_pb.js';
import { StatusSchema } from '#gen/google/rpc/status_pb.js';
import { GRPC_CODE, type LonglineError, toLonglineError } from '../../core/errors.ts';

/** Who defines the reasons in google.rpc.ErrorInfo. */
export const ERROR_DOMAIN = 'longline';

const STATUS_DETAILS = 'grpc-status-details-bin';

interface Detail {
  readonly desc: DescMessage;
  readonly value: MessageInitShape<DescMessage>;
}

function detailsOf(error: LonglineError): Detail[] {
  const { reason, retryable, rule, violations, retryAfterMs, newestEpoch } = error;
  const metadata = {
    retryable: String(retryable),
    ...(rule === undefined ? {} : { rule }),
    ...(newestEpoch === undefined ? {} : { newest_epoch: String(newestEpoch) }),
  };
  const details: Detail[] = [
    {
      desc: ErrorInfoSchema,
      value: create(ErrorInfoSchema, { reason: reason.toUpperCase(), domain: ERROR_DOMAIN, metadata }),
    },
  ];
  if (violations.length > 0) {
    details.push({
      desc: BadRequestSchema,
      value: create(BadRequestSchema, { fieldViolations: violations.map((v) => ({ ...v })) }),
    });
  }
  if (retryAfterMs !== undefined) {
    const retryDelay = durationFromMs(Math.ceil(retryAfterMs));
    details.push({ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) });
  }
  return details;
}

/** A thrown value as the error that a Connect handler throws. ConnectErrors pass unchanged. */
export function toConnectError(thrown: unknown): ConnectError {
  if (thrown instanceof ConnectError) return thrown;
  const error = toLonglineError(thrown);
  return new ConnectError(error.message, GRPC_CODE[error.reason] as Code, undefined, detailsOf(error), error.cause);
}

/** A thrown value as the status that a grpc-js handler ends its call with. */
export function toGrpcStatus(thrown: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const error = toLonglineError(thrown);
  const code = GRPC_CODE[error.reason];
  const details = detailsOf(error).map(({ desc, value }) => anyPack(desc, value as ReturnType<typeof create>));
  const status = create(StatusSchema, { code, message: error.message, details });
  const metadata = new Metadata();
  metadata.set(STATUS_DETAILS, Buffer.from(toBinary(StatusSchema, status)));
  return { code, details: error.message, metadata };
}

/** True if the process's own log should hold this error: it is a fault of ours, not of the request. */
export function loggable(thrown: unknown): boolean {
  if (thrown instanceof ConnectError || (thrown instanceof Error && isLostClient(thrown))) return false;
  const { reason, cause } = toLonglineError(thrown);
  return reason === 'internal' || (reason === 'unavailable' && cause !== undefined);
}

/** What Node throws where the caller broke off its HTTP/2 connection or stream. */
function isLostClient(error: NodeJS.ErrnoException): boolean {
  return error.code === 'ERR_HTTP2_SESSION_ERROR' || error.code === 'ERR_HTTP2_STREAM_ERROR';
}
