// The one conversion between LonglineError and what travels: Connect errors and gRPC status, with google.rpc details.
// Unknown causes never travel; whoever converts logs them first (see `loggable`).
import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { anyPack, anyUnpack, durationFromMs, durationMs } from '@bufbuild/protobuf/wkt';
import { type Code, ConnectError } from '@connectrpc/connect';
import { Metadata, type ServiceError, type StatusObject } from '@grpc/grpc-js';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '#gen/google/rpc/error_details_pb.js';
import { StatusSchema } from '#gen/google/rpc/status_pb.js';
import {
  type ErrorDetail,
  GRPC_CODE,
  LonglineError,
  type Reason,
  reasonOfGrpcCode,
  toLonglineError,
} from '../../core/errors.ts';

/** Who defines the reasons in google.rpc.ErrorInfo. */
export const ERROR_DOMAIN = 'longline';

const STATUS_DETAILS = 'grpc-status-details-bin';
const REASONS = new Set(Object.keys(GRPC_CODE));

interface Detail {
  readonly desc: DescMessage;
  readonly value: MessageInitShape<DescMessage>;
}

function detailsOf(error: LonglineError): Detail[] {
  const { reason, retryable, rule, violations, retryAfterMs } = error;
  const metadata = { retryable: String(retryable), ...(rule === undefined ? {} : { rule }) };
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

/** Facts of an error as its details carry them; collected first, since their order isn't fixed. */
interface WireFacts {
  reason: Reason | undefined;
  detail: { -readonly [K in keyof ErrorDetail]: ErrorDetail[K] };
}

function takeInfo(facts: WireFacts, info: { domain: string; reason: string; metadata: Record<string, string> }): void {
  const reason = info.reason.toLowerCase();
  if (info.domain !== ERROR_DOMAIN || !REASONS.has(reason)) return;
  facts.reason = reason as Reason;
  const { rule, retryable } = info.metadata;
  if (rule !== undefined) facts.detail.rule = rule;
  if (retryable !== undefined) facts.detail.retryable = retryable === 'true';
}

/** A thrown value as the error that a Connect handler throws. ConnectErrors pass unchanged. */
export function toConnectError(thrown: unknown): ConnectError {
  if (thrown instanceof ConnectError) return thrown;
  const error = toLonglineError(thrown);
  return new ConnectError(error.message, GRPC_CODE[error.reason] as Code, undefined, detailsOf(error), error.cause);
}

/** An error received by a Connect client, with its details. */
export function fromConnectError(error: ConnectError): LonglineError {
  const facts: WireFacts = { reason: undefined, detail: { cause: error } };
  for (const info of error.findDetails(ErrorInfoSchema)) takeInfo(facts, info);
  for (const { retryDelay } of error.findDetails(RetryInfoSchema)) {
    if (retryDelay !== undefined) facts.detail.retryAfterMs = durationMs(retryDelay);
  }
  for (const bad of error.findDetails(BadRequestSchema)) facts.detail.violations = bad.fieldViolations;
  return new LonglineError(facts.reason ?? reasonOfGrpcCode(error.code), error.rawMessage, facts.detail);
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

/** An error received by a grpc-js client, with its details. */
export function fromGrpcStatus(error: ServiceError): LonglineError {
  const facts: WireFacts = { reason: undefined, detail: { cause: error } };
  const [bytes] = error.metadata?.get(STATUS_DETAILS) ?? [];
  for (const any of bytes instanceof Buffer ? fromBinary(StatusSchema, bytes).details : []) {
    const info = anyUnpack(any, ErrorInfoSchema);
    if (info !== undefined) takeInfo(facts, info);
    const retryDelay = anyUnpack(any, RetryInfoSchema)?.retryDelay;
    if (retryDelay !== undefined) facts.detail.retryAfterMs = durationMs(retryDelay);
    const violations = anyUnpack(any, BadRequestSchema)?.fieldViolations;
    if (violations !== undefined) facts.detail.violations = violations;
  }
  return new LonglineError(facts.reason ?? reasonOfGrpcCode(error.code), error.details, facts.detail);
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
