// What clients make of the errors they receive: the other side of src/controller/front/errors.ts.
import { fromBinary } from '@bufbuild/protobuf';
import { anyUnpack, durationMs } from '@bufbuild/protobuf/wkt';
import type { ConnectError } from '@connectrpc/connect';
import type { ServiceError } from '@grpc/grpc-js';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '#gen/google/rpc/error_details_pb.js';
import { StatusSchema } from '#gen/google/rpc/status_pb.js';
import { ERROR_DOMAIN } from '../../../src/controller/front/errors.ts';
import { type ErrorDetail, GRPC_CODE, LonglineError, type Reason, reasonOfGrpcCode } from '../../../src/core/errors.ts';

const STATUS_DETAILS = 'grpc-status-details-bin';
const REASONS = new Set(Object.keys(GRPC_CODE));

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
