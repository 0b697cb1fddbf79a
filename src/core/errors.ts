// The one error type of Longline. Every failure that leaves a module is a LonglineError, so that a
// caller can tell a mistake of the request from a fault of the host without reading messages.
// This file knows reasons and codes; it does not know the wire (src/link and src/controller convert).

/** Why something failed. The names are those of longline.v1.ErrorReason without prefix, in lower case. */
export type Reason =
  | 'invalid'
  | 'not_found'
  | 'already_exists'
  | 'wrong_state'
  | 'stale'
  | 'limit'
  | 'unavailable'
  | 'late'
  | 'cancelled'
  | 'policy'
  | 'identity'
  | 'unsupported'
  | 'internal';

/** One wrong field of a request: its path, and what is wrong with it, its value, and what would be right. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** What a LonglineError may carry beside reason and message. */
export interface ErrorDetail {
  /** True if the same request may succeed later unchanged. Default: true for `unavailable` and `limit`. */
  readonly retryable?: boolean;
  readonly violations?: readonly FieldViolation[];
  /** How long to wait before trying again. */
  readonly retryAfterMs?: number;
  /** Policy rule or trust entry that decided. */
  readonly rule?: string;
  /** Of a `stale` Hello: the highest leader epoch that whoever refused it knows of. */
  readonly newestEpoch?: bigint;
  /** Logged, never sent. */
  readonly cause?: unknown;
}

/** A failure with a class that programs can act on, and a message that people can act on. */
export class LonglineError extends Error {
  override readonly name = 'LonglineError';
  readonly reason: Reason;
  readonly retryable: boolean;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;
  readonly rule: string | undefined;
  readonly newestEpoch: bigint | undefined;

  constructor(reason: Reason, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.reason = reason;
    this.retryable = detail.retryable ?? (reason === 'unavailable' || reason === 'limit');
    this.violations = detail.violations ?? [];
    this.retryAfterMs = detail.retryAfterMs;
    this.rule = detail.rule;
    this.newestEpoch = detail.newestEpoch;
  }
}

/** Numbers of the gRPC status codes, as the gRPC specification gives them. */
export const GRPC_CODE: Readonly<Record<Reason, number>> = {
  invalid: 3,
  not_found: 5,
  already_exists: 6,
  wrong_state: 9,
  stale: 10,
  limit: 8,
  unavailable: 14,
  late: 4,
  cancelled: 1,
  policy: 7,
  identity: 16,
  unsupported: 12,
  internal: 13,
};

/** The reason for a gRPC status code; codes that no reason maps to are `internal`. */
export function reasonOfGrpcCode(code: number): Reason {
  for (const [reason, value] of Object.entries(GRPC_CODE)) if (value === code) return reason as Reason;
  return 'internal';
}

/** An `invalid` error that lists every wrong field, with a message made from them. */
export function invalid(violations: readonly FieldViolation[]): LonglineError {
  const message = violations.map((violation) => `${violation.field}: ${violation.description}`).join('; ');
  return new LonglineError('invalid', message, { violations });
}

/**
 * Any thrown value as a LonglineError. What isn't one already becomes `internal` with a fixed message and the
 * original as cause, so that internals are logged but never sent.
 */
export function toLonglineError(thrown: unknown): LonglineError {
  if (thrown instanceof LonglineError) return thrown;
  if (thrown instanceof Error && thrown.name === 'AbortError') {
    return thrown.cause instanceof LonglineError
      ? thrown.cause
      : new LonglineError('cancelled', 'the operation was cancelled', { cause: thrown });
  }
  return new LonglineError('internal', 'internal error; the log of the process that raised it has the cause', {
    cause: thrown,
  });
}

/** The message of any thrown value, with the messages of its causes. For logs and local output only. */
export function describeError(thrown: unknown): string {
  const parts: string[] = [];
  for (let error = thrown, depth = 0; error !== undefined && depth < 5; depth++) {
    const part = error instanceof Error ? error.message : String(error);
    // Many an error tells its cause already.
    if (!parts.some((told) => told.includes(part))) parts.push(part);
    error = error instanceof Error ? error.cause : undefined;
  }
  return parts.join(': ');
}
